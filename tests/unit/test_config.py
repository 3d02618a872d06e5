"""Settings: what is read from where, what is refused, and that every fault is named at once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from syncer.config import RECORDS_SETTINGS, SETTINGS, Config, InitialSync, Setting, inspect, load, load_part
from syncer.errors import ConfigError

SECRET = "canary-7f3a9"
GOOD = {
    "GMAIL_EMAIL": "alice@gmail.com",
    "OUTLOOK_EMAIL": "bob@outlook.com",
    "AWS_REGION": "eu-central-1",
    "DYNAMODB_TABLE": "gmail-sync",
    "GMAIL_CLIENT_ID": "123.apps.googleusercontent.com",
    "GMAIL_CLIENT_SECRET": f"{SECRET}-gcs",
    "GMAIL_REFRESH_TOKEN": f"1//{SECRET}-grt",
    "MS_CLIENT_ID": "0a1b2c3d-0000-0000-0000-000000000000",
    "MS_CLIENT_SECRET": f"{SECRET}-mcs",
    "MS_REFRESH_TOKEN": f"M.C5_{SECRET}-mrt",
}
TOKEN_SETTINGS = ("GMAIL_CLIENT_ID", "GMAIL_CLIENT_SECRET", "GMAIL_REFRESH_TOKEN", "MS_CLIENT_ID", "MS_REFRESH_TOKEN")


def loaded(**changes: str) -> Config:
    return load(environ={**GOOD, **changes})


def faults(environ: Mapping[str, str], env_file: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(environ=environ, env_file=env_file)
    return caught.value.faults


def test_who_reads_the_records_alone_is_asked_for_nothing_else() -> None:
    environ = {name: GOOD[name] for name in GOOD if name in RECORDS_SETTINGS} | {"OUTLOOK_IMAP_PORT": "?"}
    config = load_part(RECORDS_SETTINGS, environ=environ)
    assert (config.gmail_email, config.dynamodb_table) == ("alice@gmail.com", "gmail-sync")
    assert (config.outlook_imap_port, config.ms_refresh_token) == (993, None)
    with pytest.raises(ConfigError) as caught:
        load_part((*RECORDS_SETTINGS, "LEASE_SECONDS"), environ={**environ, "AWS_REGION": "", "LEASE_SECONDS": "x"})
    assert [fault.split()[0] for fault in caught.value.faults] == ["AWS_REGION", "LEASE_SECONDS"]


def test_the_defaults_are_those_of_the_table() -> None:
    config = loaded()
    assert config.outlook_target_folder == "Gmail"
    assert config.gmail_source_folder == "INBOX"
    assert config.outlook_create_folder is True
    assert config.outlook_mark_seen is False
    assert config.initial_sync == InitialSync("window")
    assert (config.gmail_imap_host, config.gmail_imap_port) == ("imap.gmail.com", 993)
    assert (config.outlook_imap_host, config.outlook_imap_port) == ("outlook.office365.com", 993)
    assert config.max_message_bytes == 36_700_160
    assert config.outlook_max_messages_per_second == 4.0
    assert (config.lease_seconds, config.sync_interval_seconds, config.in_doubt_settle_seconds) == (300, 300, 600)
    assert (config.uid_ttl_days, config.fail_ttl_days, config.max_attempts) == (400, 90, 5)
    assert config.ms_authority == "https://login.microsoftonline.com"
    assert config.ms_tenant == "consumers"
    assert config.aws_endpoint_url is None
    assert config.tokens_file is None
    assert config.tokens_secret_id is None


def test_every_setting_is_a_field_and_every_field_a_setting() -> None:
    names = [setting.name.lower() for setting in SETTINGS]
    assert names == list(dict.fromkeys(names))
    assert set(names) == {field.name for field in dataclasses.fields(Config)}


def test_every_default_text_means_the_value_that_is_used_without_it() -> None:
    written = {setting.name: setting.default for setting in SETTINGS if setting.default}
    assert loaded(**written) == loaded()


def test_every_setting_has_a_help_text_and_required_ones_have_no_default() -> None:
    assert all(setting.help for setting in SETTINGS)
    assert {setting.name for setting in SETTINGS if setting.required} == {
        "GMAIL_EMAIL",
        "OUTLOOK_EMAIL",
        "AWS_REGION",
        "DYNAMODB_TABLE",
    }
    assert not any(setting.default for setting in SETTINGS if setting.required or setting.secret)


def test_secrets_and_addresses_are_not_shown() -> None:
    shown = repr(loaded()) + str(loaded())
    assert SECRET not in shown
    assert "alice" not in shown
    assert "bob" not in shown
    secret = {setting.name.lower() for setting in SETTINGS if setting.secret}
    given = {"gmail_client_secret", "gmail_refresh_token", "ms_client_secret", "ms_refresh_token"}
    assert secret == {*given, "healthcheck_ping_url"}


def test_an_empty_environment_is_told_everything_that_is_needed_at_once() -> None:
    named = [fault.split()[0] for fault in faults({})]
    assert named == ["GMAIL_EMAIL", "OUTLOOK_EMAIL", "AWS_REGION", "DYNAMODB_TABLE", *TOKEN_SETTINGS]


def test_faults_of_every_kind_are_named_together(tmp_path: Path) -> None:
    environ = {
        **GOOD,
        "GMAIL_EMAIL": "",
        "GMAIL_IMAP_PORT": "70000",
        "LOG_LEVEL": "LOUD",
        "MS_CLIENT_ID": "",
        "GMAIL_CLIENT_SECRET_FILE": str(tmp_path / "missing"),
    }
    found = faults(environ)
    assert [fault.split()[0] for fault in found] == [
        "GMAIL_CLIENT_SECRET_FILE",
        "GMAIL_EMAIL",
        "LOG_LEVEL",
        "GMAIL_IMAP_PORT",
        "MS_CLIENT_ID",
    ]
    assert "is required" in found[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GMAIL_EMAIL", "alice"),
        ("GMAIL_EMAIL", "a@b@gmail.com"),
        ("GMAIL_EMAIL", "@gmail.com"),
        ("GMAIL_EMAIL", "alice@"),
        ("GMAIL_EMAIL", "alice smith@gmail.com"),
        ("OUTLOOK_EMAIL", "bob@outlook.com\x01auth=Bearer x"),
        ("OUTLOOK_EMAIL", "bob@outlook.com\r\nx"),
        ("OUTLOOK_TARGET_FOLDER", "/Gmail"),
        ("OUTLOOK_TARGET_FOLDER", "Gmail/"),
        ("OUTLOOK_TARGET_FOLDER", "Gmail//Work"),
        ("OUTLOOK_TARGET_FOLDER", "Gm\nail"),
        ("OUTLOOK_TARGET_FOLDER", "Gm\udcffail"),
        ("GMAIL_SOURCE_FOLDER", "IN\x00BOX"),
        ("OUTLOOK_CREATE_FOLDER", "perhaps"),
        ("OUTLOOK_MARK_SEEN", "2"),
        ("AWS_REGION", "Frankfurt"),
        ("AWS_REGION", "eu central"),
        ("DYNAMODB_TABLE", "a b"),
        ("DYNAMODB_TABLE", "ab"),
        ("AWS_ENDPOINT_URL", "localhost:8000"),
        ("AWS_ENDPOINT_URL", "ftp://localhost"),
        ("SYNC_INTERVAL_SECONDS", "0"),
        ("SYNC_INTERVAL_SECONDS", "5.5"),
        ("SYNC_INTERVAL_SECONDS", "1_000"),
        ("SYNC_INTERVAL_SECONDS", "٣٠٠"),
        ("SYNC_INTERVAL_SECONDS", "9" * 5000),
        ("LOG_LEVEL", "NOTSET"),
        ("GMAIL_REFRESH_TOKEN", f"{SECRET} {SECRET}"),
        ("MS_TENANT", "a/b"),
        ("TOKENS_FILE", "a\nb"),
        ("INITIAL_SYNC", "yesterday"),
        ("INITIAL_SYNC", "2026-02-30"),
        ("INITIAL_SYNC", "20260131"),
        ("RESYNC_WINDOW_HOURS", "-1"),
        ("MAX_MESSAGE_BYTES", "0"),
        ("MAX_ATTEMPTS", "0"),
        ("IN_DOUBT_SETTLE_SECONDS", "-1"),
        ("LEASE_SECONDS", "0"),
        ("IMAP_TIMEOUT_SECONDS", "0"),
        ("OUTLOOK_MAX_MESSAGES_PER_SECOND", "-1"),
        ("OUTLOOK_MAX_MESSAGES_PER_SECOND", "nan"),
        ("OUTLOOK_MAX_MESSAGES_PER_SECOND", "inf"),
        ("OUTLOOK_CONNECTIONS", "0"),
        ("OUTLOOK_CONNECTIONS", "17"),
        ("UID_TTL_DAYS", "0"),
        ("FAIL_TTL_DAYS", "0"),
        ("GMAIL_IMAP_HOST", "imaps://imap.gmail.com"),
        ("GMAIL_IMAP_HOST", "imap.gmail.com/x"),
        ("OUTLOOK_IMAP_PORT", "0"),
        ("OUTLOOK_IMAP_PORT", "imaps"),
        ("GMAIL_AUTH_URI", "http://accounts.google.com"),
        ("GMAIL_TOKEN_URI", "http://localhost.example/token"),
        ("GMAIL_TOKEN_URI", "https://user:word@host/token"),
        ("GMAIL_TOKEN_URI", "https://"),
        ("MS_AUTHORITY", "https://login.microsoftonline.com:port"),
        ("MS_AUTHORITY", "login.microsoftonline.com"),
    ],
)
def test_a_wrong_value_is_one_fault_that_names_the_setting_and_hides_the_value(name: str, value: str) -> None:
    (fault,) = faults({**GOOD, name: value})
    assert fault.startswith(f"{name} has ")
    assert SECRET not in fault


@pytest.mark.parametrize(
    ("name", "value", "meaning"),
    [
        ("GMAIL_EMAIL", " Alice@GMail.com ", "alice@gmail.com"),
        ("OUTLOOK_TARGET_FOLDER", "Пошта/日本 & Co/👨‍👩‍👧", "Пошта/日本 & Co/👨‍👩‍👧"),
        ("OUTLOOK_CREATE_FOLDER", "False", False),
        ("OUTLOOK_MARK_SEEN", "1", True),
        ("AWS_REGION", "us-gov-west-1", "us-gov-west-1"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("AWS_REGION", "local", "local"),
        ("GMAIL_TOKEN_URI", "http://127.0.0.1:8080/token", "http://127.0.0.1:8080/token"),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("INITIAL_SYNC", "New", InitialSync("new")),
        ("INITIAL_SYNC", "all", InitialSync("all")),
        ("INITIAL_SYNC", "2026-01-31", InitialSync("since", date(2026, 1, 31))),
        ("RESYNC_WINDOW_HOURS", "0", 0),
        ("IN_DOUBT_SETTLE_SECONDS", "0", 0),
        ("OUTLOOK_MAX_MESSAGES_PER_SECOND", "0", 0.0),
        ("OUTLOOK_MAX_MESSAGES_PER_SECOND", "0.5", 0.5),
        ("OUTLOOK_IMAP_HOST", "::1", "::1"),
        ("MS_AUTHORITY", "https://login.microsoftonline.us/", "https://login.microsoftonline.us"),
        ("MS_AUTHORITY", "https://localhost:8443/consumers/", "https://localhost:8443"),
        ("SYNC_INTERVAL_SECONDS", "", 300),
        ("AWS_ENDPOINT_URL", "  ", None),
    ],
)
def test_a_right_value_is_read(name: str, value: str, meaning: object) -> None:
    assert getattr(loaded(**{name: value}), name.lower()) == meaning


@pytest.mark.parametrize("store", ["TOKENS_FILE", "TOKENS_SECRET_ID"])
def test_with_a_token_store_no_token_setting_is_required(store: str) -> None:
    environ = {name: value for name, value in GOOD.items() if name not in TOKEN_SETTINGS}
    config = load(environ={**environ, store: "tokens"})
    assert config.gmail_refresh_token is None
    assert (config.tokens_file, config.tokens_secret_id) in {(Path("tokens"), None), (None, "tokens")}


def test_two_token_stores_exclude_each_other() -> None:
    (fault,) = faults({**GOOD, "TOKENS_FILE": "a", "TOKENS_SECRET_ID": "b"})
    assert "TOKENS_FILE" in fault
    assert "TOKENS_SECRET_ID" in fault


def test_a_public_microsoft_client_has_no_secret() -> None:
    assert loaded(MS_CLIENT_SECRET="").ms_client_secret is None


def test_the_file_of_a_setting_wins_over_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"1//{SECRET}-from-file\n")
    assert loaded(GMAIL_REFRESH_TOKEN_FILE=str(file)).gmail_refresh_token == f"1//{SECRET}-from-file"


def test_an_empty_name_of_a_file_counts_as_unset() -> None:
    assert loaded(GMAIL_REFRESH_TOKEN_FILE=" ").gmail_refresh_token == GOOD["GMAIL_REFRESH_TOKEN"]


def test_an_empty_file_counts_as_unset_and_is_mentioned_where_the_value_is_required(tmp_path: Path) -> None:
    file = tmp_path / "empty"
    file.write_text(" \n")
    assert loaded(MS_CLIENT_SECRET="", MS_CLIENT_SECRET_FILE=str(file)).ms_client_secret is None
    found = faults({**GOOD, "GMAIL_EMAIL": "", "GMAIL_EMAIL_FILE": str(file), "MS_CLIENT_ID": "",
                    "MS_CLIENT_ID_FILE": str(file)})  # fmt: skip
    assert "GMAIL_EMAIL_FILE names an empty file" in found[0]
    assert "MS_CLIENT_ID_FILE names an empty file" in found[1]


@pytest.mark.parametrize("kind", ["missing", "folder", "forbidden", "binary", "huge", "nul in its name"])
def test_a_file_that_cannot_be_read_is_one_fault_among_the_others(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if kind == "folder":
        file.mkdir()
    elif kind == "forbidden":
        file.write_text(SECRET)
        file.chmod(0)
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
    elif kind == "binary":
        file.write_bytes(b"\xff\xfe" + SECRET.encode())
    elif kind == "huge":
        file.write_text(SECRET * 10_000)
    path = f"{file}\0" if kind == "nul in its name" else str(file)
    found = faults({**GOOD, "MS_REFRESH_TOKEN_FILE": path, "LOG_LEVEL": "x"})
    assert [fault.split()[0] for fault in found] == ["MS_REFRESH_TOKEN_FILE", "LOG_LEVEL"]
    assert SECRET not in "".join(found)


def test_a_dot_env_file_fills_gaps_and_never_overrides_the_environment(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("from-the-file-of-the-file")
    file = tmp_path / ".env"
    file.write_text(
        f"OUTLOOK_TARGET_FOLDER='From Gmail'\nAWS_REGION=us-east-1\nGMAIL_CLIENT_SECRET_FILE={token}\nODD\n"
    )
    config = load(environ=GOOD, env_file=file)
    assert config.outlook_target_folder == "From Gmail"
    assert config.aws_region == GOOD["AWS_REGION"]
    assert config.gmail_client_secret == GOOD["GMAIL_CLIENT_SECRET"]
    without = {**GOOD, "GMAIL_CLIENT_SECRET": ""}
    assert load(environ=without, env_file=file).gmail_client_secret == "from-the-file-of-the-file"


def test_a_dot_env_file_is_read_only_when_asked_for_and_changes_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".env").write_text("OUTLOOK_TARGET_FOLDER=Local\n")
    before = dict(os.environ)
    assert load().outlook_target_folder == "Gmail"
    assert load(env_file=Path(".env")).outlook_target_folder == "Local"
    assert dict(os.environ) == before


def test_a_missing_dot_env_file_is_no_fault_and_parents_are_not_searched(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OUTLOOK_TARGET_FOLDER=Elsewhere\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    assert load(environ=GOOD, env_file=inner / ".env").outlook_target_folder == "Gmail"


@pytest.mark.parametrize("kind", ["folder", "binary"])
def test_a_dot_env_file_that_cannot_be_read_is_a_fault_among_the_others(kind: str, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    if kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"A=\xff\xfe\n")
    found = faults({**GOOD, "LOG_LEVEL": "x"}, file)
    assert len(found) == 2
    assert ".env cannot be read" in found[0]


def test_a_home_folder_is_filled_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert loaded(TOKENS_FILE="~/tokens.json").tokens_file == tmp_path / "tokens.json"


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded().log_level = "DEBUG"  # type: ignore[misc]


# -- as far as they can be used


def test_settings_without_a_fault_are_inspected_as_they_are_loaded() -> None:
    found = inspect(environ=GOOD)
    assert (found.config, found.faults, found.wrong) == (load(environ=GOOD), (), frozenset())


def test_what_is_wrong_is_named_and_has_its_default() -> None:
    found = inspect(environ={**GOOD, "GMAIL_IMAP_PORT": "imap", "DYNAMODB_TABLE": "", "GMAIL_EMAIL": "nobody"})
    assert found.wrong == {"GMAIL_IMAP_PORT", "DYNAMODB_TABLE", "GMAIL_EMAIL"}
    assert (found.config.gmail_imap_port, found.config.dynamodb_table, found.config.gmail_email) == (993, "", "")
    assert found.config.outlook_email == GOOD["OUTLOOK_EMAIL"]
    assert len(found.faults) == 3


def test_settings_that_are_wrong_together_are_all_named() -> None:
    both = inspect(environ={**GOOD, "TOKENS_FILE": "tokens.json", "TOKENS_SECRET_ID": "tokens"})
    assert both.wrong == {"TOKENS_FILE", "TOKENS_SECRET_ID"}
    none = inspect(environ={name: value for name, value in GOOD.items() if name not in TOKEN_SETTINGS})
    assert none.wrong == set(TOKEN_SETTINGS)


def test_a_file_that_cannot_be_read_makes_its_setting_wrong(tmp_path: Path) -> None:
    found = inspect(environ={**GOOD, "MS_REFRESH_TOKEN_FILE": str(tmp_path / "missing")})
    assert "MS_REFRESH_TOKEN" in found.wrong
    assert len(found.faults) == 1


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_may_be_wrong(setting: Setting) -> None:
    assert isinstance(inspect(environ={**GOOD, setting.name: "\x00"}).config, Config)
    assert isinstance(inspect(environ={}).config, Config)
