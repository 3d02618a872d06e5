"""The template's parameters: a setting each, with its default and its limits, and shown with a heading and words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from syncer import config
from syncer.errors import ConfigError
from tests.deploy.templates import REGION, SAM, Template, accepts, parameters_in_sections, read

SETTINGS = {setting.name: setting for setting in config.SETTINGS}
NOT_SETTINGS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"}
FOR_OTHERS = {
    "AWS_REGION": "Lambda sets it, and refuses to have it set",
    "AWS_ENDPOINT_URL": "it would redirect credentials; an emulator sets it from outside",
    "SYNC_INTERVAL_SECONDS": "the schedule is EventBridge's",
    "SYNC_IDLE": "for the daemon",
    "HEALTH_FILE": "for the daemon",
    "HEALTHCHECK_PING_URL": "alarms watch the function",
    "STATUS_PORT": "for the daemon",
    "STATUS_HOST": "for the daemon",
    "TOKENS_FILE": "the tokens live in the secret",
    "GMAIL_CLIENT_ID": "lives in the secret",
    "GMAIL_CLIENT_SECRET": "lives in the secret",
    "GMAIL_REFRESH_TOKEN": "lives in the secret",
    "MS_CLIENT_ID": "lives in the secret",
    "MS_CLIENT_SECRET": "lives in the secret",
    "MS_REFRESH_TOKEN": "lives in the secret",
    "GMAIL_AUTH_URI": "nobody signs in there",
}
REFUSED_BY_THE_PROGRAM_ALONE = {
    ("INITIAL_SYNC", "2026-02-31"),  # no pattern knows the calendar
}

WORDS = ["", " ", "x", "a b", "consumers", "tab\tin it", "true", "false", "maybe", "0", "1", "-1", "2147483648", "1e3"]
SAMPLES = [
    *WORDS,
    *("me@gmail.com", "me@@gmail.com", "me@", "@gmail.com", "me gmail@x.y", "Gmail", "Mail/From Gmail", "/Gmail"),
    *("Gmail/", "a//b", "Entw\u00fcrfe", "INFO", "TRACE", "window", "new", "all"),
    *("2026-01-31", "2026-02-31", "2026-13-01"),
    *("20260131", "imap.gmail.com", "imap.gmail.com:993", "https://imap.gmail.com", "::1", "https://a.example/token"),
    *("http://a.example/token", "https://", "https://me@a.example", "https://a.example/?q", "993", "0", "65536", "400"),
    *("36500", "36501", "3600", "3601", "86400", "86401", "87600", "87601", "16", "17", "100", "101", "1000", "1001"),
]


@pytest.fixture(scope="module")
def source() -> Template:
    return read(SAM)


@pytest.fixture(scope="module")
def variables(source: Template) -> dict[str, Any]:
    """Return what the function finds in its environment, as written: parameters by name."""
    found: dict[str, Any] = source["Resources"]["SyncFunction"]["Properties"]["Environment"]["Variables"]
    return found


def test_every_setting_is_in_the_environment_or_has_a_reason_not_to_be(variables: Any) -> None:
    declared = variables.keys() - NOT_SETTINGS
    assert declared - SETTINGS.keys() == set()
    assert SETTINGS.keys() - declared == FOR_OTHERS.keys() & SETTINGS.keys()
    assert not [name for name in declared if name.startswith("AWS_")]


def test_no_secret_is_a_parameter(variables: Any, source: Template) -> None:
    assert [name for name in variables if name in SETTINGS and SETTINGS[name].secret] == []
    assert [name for name in source["Parameters"] if re.search("Token(?!Alarm|Uri)|Secret", name)] == []


def by_parameter(source: Template) -> list[tuple[str, str]]:
    found = source["Resources"]["SyncFunction"]["Properties"]["Environment"]["Variables"]
    return [(name, value["Ref"]) for name, value in found.items() if name in SETTINGS and value_is_parameter(value)]


def value_is_parameter(value: Any) -> bool:
    return isinstance(value, dict) and value.get("Ref") not in (None, "TokensSecret", "SyncTable")


PAIRS = by_parameter(read(SAM))


def test_the_settings_that_are_parameters_were_found() -> None:
    assert len(PAIRS) == len(SETTINGS) - len(FOR_OTHERS.keys() & SETTINGS.keys()) - 3  # table, secret and lease


@pytest.mark.parametrize(("setting", "name"), PAIRS, ids=[setting for setting, _ in PAIRS])
def test_a_parameter_is_named_like_its_setting_and_has_its_default(source: Template, setting: str, name: str) -> None:
    assert re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).upper() == setting
    parameter = source["Parameters"][name]
    if SETTINGS[setting].required:
        assert "Default" not in parameter
    else:
        assert str(parameter["Default"]) == SETTINGS[setting].default


@pytest.mark.parametrize(("setting", "name"), PAIRS, ids=[setting for setting, _ in PAIRS])
def test_a_parameter_takes_no_value_that_the_program_refuses(source: Template, setting: str, name: str) -> None:
    """A stack that deploys, and then ends every cycle with 78, would be a poor welcome."""
    parameter = source["Parameters"][name]
    wrong = [
        sample
        for sample in SAMPLES
        if sample.strip()  # a blank one counts as unset there
        and accepts(parameter, sample)
        and not is_good(setting, sample)
        and (setting, sample) not in REFUSED_BY_THE_PROGRAM_ALONE
    ]
    assert wrong == []


@pytest.mark.parametrize(("setting", "name"), PAIRS, ids=[setting for setting, _ in PAIRS])
def test_a_parameter_takes_every_value_that_the_program_takes(source: Template, setting: str, name: str) -> None:
    parameter = source["Parameters"][name]
    good = [sample for sample in SAMPLES if sample.strip() and is_good(setting, sample)]
    # Of several ways to write a word, the template knows one.
    one_way = {"0": "false", "1": "true"} if parameter.get("AllowedValues") == ["true", "false"] else {}
    assert good
    assert [sample for sample in good if not accepts(parameter, one_way.get(sample, sample))] == []


def is_good(setting: str, value: str) -> bool:
    """Tell whether the program starts with this value."""
    environ = {"GMAIL_EMAIL": "me@gmail.com", "OUTLOOK_EMAIL": "me@outlook.com", "AWS_REGION": REGION}
    environ |= {"DYNAMODB_TABLE": "table", "TOKENS_SECRET_ID": "secret", setting: value}
    try:
        config.load(environ=environ)
    except ConfigError:
        return False
    return True


def test_every_parameter_has_a_heading_a_label_and_words(source: Template) -> None:
    names = list(source["Parameters"])
    shown = parameters_in_sections(source)
    assert sorted(shown) == sorted(names)
    assert source["Metadata"]["AWS::CloudFormation::Interface"]["ParameterLabels"].keys() == set(names)
    assert [name for name, it in source["Parameters"].items() if not it.get("Description")] == []


def test_what_a_parameter_refuses_is_explained(source: Template) -> None:
    ruled = {
        name
        for name, it in source["Parameters"].items()
        if ("AllowedPattern" in it or "MinValue" in it) and not it.get("ConstraintDescription")
    }
    assert ruled == set()


def test_only_the_two_addresses_have_to_be_given(source: Template) -> None:
    assert [name for name, it in source["Parameters"].items() if "Default" not in it] == ["GmailEmail", "OutlookEmail"]


def test_patterns_are_plain(source: Template) -> None:
    """CloudFormation reads them as Java does: nothing here that Python reads otherwise, and the whole value counts."""
    for name, parameter in source["Parameters"].items():
        pattern = parameter.get("AllowedPattern", "^$")
        assert re.search(r"\(\?|\\[^sx]|\[\[|&&|\$.*\$\|", pattern) is None, name
        assert re.fullmatch(r"\^.*\$", pattern), name
