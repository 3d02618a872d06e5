"""What is installed is what was asked for: the pinned lists against the .in files they were made from."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("requirements", "requirements-cli", "requirements-demo", "requirements-dev")


def normal(name: str) -> str:
    """Return the name as the lists write it, whatever its spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


def asked_for(layer: str) -> set[str]:
    """Return the names in one .in file."""
    lines = (ROOT / f"{layer}.in").read_text().splitlines()
    return {normal(re.split(r"[\[<>=!~ ;]", line)[0]) for line in lines if line and not line.startswith("#")}


def pinned(layer: str) -> dict[str, tuple[str, int]]:
    """Return name -> (version, number of hashes) of one pinned list."""
    entries = re.split(r"\n(?=[^\s#])", (ROOT / f"{layer}.txt").read_text())
    found = {}
    for entry in entries:
        if match := re.match(r"([\w.-]+)(?:\[[^]]*\])?==(\S+)", entry):
            found[normal(match[1])] = (match[2], entry.count("--hash=sha256:"))
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_every_requirement_is_pinned_with_hashes(layer: str) -> None:
    pins = pinned(layer)
    below = LAYERS[: LAYERS.index(layer) + 1]
    assert set().union(*map(asked_for, below)) <= pins.keys()
    assert [name for name, (_, hashes) in pins.items() if not hashes] == []


@pytest.mark.parametrize(("lower", "upper"), list(itertools.pairwise(LAYERS)))
def test_a_list_holds_the_one_below_it_at_the_same_versions(lower: str, upper: str) -> None:
    assert pinned(lower).items() <= pinned(upper).items()


@pytest.mark.parametrize("layer", LAYERS)
def test_a_list_does_not_say_where_packages_come_from(layer: str) -> None:
    text = (ROOT / f"{layer}.txt").read_text() + (ROOT / f"{layer}.in").read_text()
    assert re.findall(r"(?m)^-.*|\w+://\S+| @ .*", text) == []


def test_lambda_is_not_given_what_only_a_person_or_a_test_needs() -> None:
    extra = set().union(*map(asked_for, LAYERS[1:]))
    assert extra.isdisjoint(pinned("requirements"))
