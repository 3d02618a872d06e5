"""What lies in sam/ for ``sam local invoke`` fits the template and the program; samconfig.toml asks before it acts."""

from __future__ import annotations

import json
import tomllib
from datetime import datetime
from typing import Any

import pytest

from syncer import config
from tests.deploy.templates import REGION, ROOT, SAM, read


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    content = json.loads((ROOT / "sam" / "env.example.json").read_text())
    assert list(content) == ["SyncFunction"]
    found: dict[str, str] = content["SyncFunction"]
    return found


@pytest.fixture(scope="module")
def samconfig() -> Any:
    return tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]


def test_the_sample_environment_sets_what_the_template_declares(environment: dict[str, str]) -> None:
    """SAM leaves out without a word what the template does not declare."""
    declared = read(SAM)["Resources"]["SyncFunction"]["Properties"]["Environment"]["Variables"]
    assert environment.keys() - declared.keys() == set()


def test_the_program_starts_with_the_sample_environment(environment: dict[str, str]) -> None:
    assert config.load(environ={**environment, "AWS_REGION": REGION}).initial_sync.kind == "new"


@pytest.mark.parametrize("path", sorted((ROOT / "sam" / "events").glob("*.json")), ids=lambda path: path.name)
def test_a_sample_event_is_what_an_eventbridge_rule_sends(path: Any) -> None:
    event = json.loads(path.read_text())
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.events", "Scheduled Event", {})
    assert ":rule/" in event["resources"][0]
    assert datetime.fromisoformat(event["time"]).tzinfo


def test_deploying_asks_before_it_changes_anything(samconfig: Any) -> None:
    deploy = samconfig["deploy"]["parameters"]
    assert deploy["confirm_changeset"] is True
    assert deploy["capabilities"] == "CAPABILITY_IAM"
    assert "parameter_overrides" not in deploy  # they would be somebody's addresses
