"""A secret is replaced only by who read its newest version: against moto, and against what AWS writes of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from moto import mock_aws

from syncer.model import Side
from syncer.token_store import SecretsManagerTokens, StoreChanged, StoreUnavailable
from syncer.tokens import SideTokens, Tokens
from tests.fakes.secrets_manager import KEPT, Secret

REGION = "eu-central-1"


@dataclass(frozen=True, slots=True)
class Shared:
    """One secret, and as many stores on it as wanted."""

    client: Any

    def store(self) -> SecretsManagerTokens:
        made = SecretsManagerTokens("tokens", REGION, None)
        made._client = self.client
        return made

    def labels(self) -> dict[str, str]:
        if isinstance(self.client, Secret):
            return self.client.labels
        listed = self.client.list_secret_version_ids(SecretId="tokens", IncludeDeprecated=True)["Versions"]
        return {label: version["VersionId"] for version in listed for label in version["VersionStages"]}


@pytest.fixture(params=["moto", "service model"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    if request.param == "service model":
        yield Shared(Secret(time.time))
        return
    with mock_aws():
        client = boto3.client("secretsmanager", region_name=REGION)
        client.create_secret(Name="tokens", SecretString="{}")
        yield Shared(client)


def having(text: str) -> Tokens:
    return Tokens({side: SideTokens(refresh_token=text) for side in Side})


def held(store: SecretsManagerTokens) -> str:
    return store.load().of(Side.SOURCE).refresh_token


def test_saves_of_one_runner_follow_each_other(shared: Shared) -> None:
    store = shared.store()
    store.load()
    for number in range(3):
        store.save(having(f"R{number}"))
    assert held(shared.store()) == "R2"


def test_the_version_before_stays_readable_and_no_label_piles_up(shared: Shared) -> None:
    store = shared.store()
    store.load()
    before = shared.labels()["AWSCURRENT"]
    store.save(having("R1"))
    labels = shared.labels()
    assert labels["AWSPREVIOUS"] == before
    assert labels["AWSCURRENT"] == labels["syncer-candidate"]
    assert len(labels) == 3


def test_who_read_an_older_version_replaces_nothing(shared: Shared) -> None:
    ours, theirs = shared.store(), shared.store()
    ours.load()
    theirs.load()
    theirs.save(having("theirs"))
    with pytest.raises(StoreChanged):
        ours.save(having("ours"))
    assert held(shared.store()) == "theirs"
    ours.load()
    ours.save(having("ours, knowing theirs"))
    assert held(shared.store()) == "ours, knowing theirs"


def test_a_hundred_lost_races_leave_three_labels(shared: Shared) -> None:
    ours, theirs = shared.store(), shared.store()
    ours.load()
    theirs.save(having("theirs"))
    for _ in range(20):
        with pytest.raises(StoreChanged):
            ours.save(having("ours"))
    assert sorted(shared.labels()) == ["AWSCURRENT", "AWSPREVIOUS", "syncer-candidate"]


def test_who_never_read_it_replaces_what_is_there_now(shared: Shared) -> None:
    shared.store().save(having("first"))
    shared.store().save(having("second"))
    assert held(shared.store()) == "second"


def twice(call: Callable[..., Any]) -> Callable[..., Any]:
    """The reply to a call is lost, and the SDK makes it again."""

    def made(**arguments: Any) -> Any:
        call(**arguments)
        return call(**arguments)

    return made


def test_a_move_whose_reply_is_lost_counts(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    store = shared.store()
    store.load()
    monkeypatch.setattr(shared.client, "update_secret_version_stage", twice(shared.client.update_secret_version_stage))
    store.save(having("R1"))
    monkeypatch.undo()
    store.save(having("R2"))
    assert held(shared.store()) == "R2"


def test_a_save_between_our_put_and_our_move_is_not_undone() -> None:
    secret = Secret(time.time)
    ours, theirs = Shared(secret).store(), Shared(secret).store()
    ours.load()
    theirs.load()
    secret.after["put_secret_value"] = lambda: theirs.save(having("theirs"))
    with pytest.raises(StoreChanged):
        ours.save(having("ours"))
    assert held(Shared(secret).store()) == "theirs"


def test_a_secret_with_too_many_versions_cannot_be_saved_now_and_keeps_its_value() -> None:
    secret = Secret(time.time)
    store = Shared(secret).store()
    for number in range(KEPT - 1):
        store.save(having(f"R{number}"))
    with pytest.raises(StoreUnavailable, match="LimitExceededException"):
        store.save(having("one too many"))
    assert held(store) == f"R{KEPT - 2}"
