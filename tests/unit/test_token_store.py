"""Token stores: what each keeps, refuses and survives; and which of two values counts."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from syncer.config import Config, load
from syncer.errors import ConfigError
from syncer.model import Side
from syncer.token_store import (
    EnvTokens,
    FileTokens,
    SecretsManagerTokens,
    StoreUnavailable,
    TokenStore,
    environment_tokens,
    merge,
    missing,
    store_of,
)
from syncer.tokens import Refreshed, SideTokens, Tokens

CANARY = "canary-7f3a9"
REGION = "eu-central-1"
SETTINGS = {
    "GMAIL_EMAIL": "alice@gmail.com",
    "OUTLOOK_EMAIL": "bob@outlook.com",
    "AWS_REGION": REGION,
    "DYNAMODB_TABLE": "gmail-sync",
    "GMAIL_CLIENT_ID": "google-client",
    "GMAIL_CLIENT_SECRET": f"{CANARY}-gcs",
    "GMAIL_REFRESH_TOKEN": f"1//{CANARY}",
    "MS_CLIENT_ID": "microsoft-client",
    "MS_REFRESH_TOKEN": f"M.C5_{CANARY}",
}
FULL = Tokens(
    sides={
        Side.SOURCE: SideTokens(
            client_id="g-id",
            client_secret=f"{CANARY}-1",
            refresh_token=f"{CANARY}-2",
            access_token=f"{CANARY}-3",
            expires_at=2_000.5,
            obtained_at=1_000.25,
            seeded_from="ab" * 32,
            extra={"note": "mine"},
        ),
        Side.DESTINATION: SideTokens(client_id="m-id", refresh_token=f"{CANARY}-4"),
    },
    saved_at=1_001.0,
    extra={"comment": {"kept": [1, 2]}},
)


def config(**changes: str) -> Config:
    return load(environ={**SETTINGS, **changes})


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def secret() -> Iterator[Any]:
    """A Secrets Manager with one secret in it, ``tokens``, whose value is ``{}``."""
    with mock_aws():
        client = boto3.client("secretsmanager", region_name=REGION)
        client.create_secret(Name="tokens", SecretString="{}")
        yield client


@pytest.fixture(params=["file", "secret"])
def store(request: pytest.FixtureRequest, path: Path) -> TokenStore:
    if request.param == "file":
        return FileTokens(path)
    request.getfixturevalue("secret")
    return SecretsManagerTokens("tokens", REGION, None)


def test_the_settings_choose_the_store() -> None:
    assert isinstance(store_of(config()), EnvTokens)
    assert isinstance(store_of(config(TOKENS_FILE="tokens.json")), FileTokens)
    assert isinstance(store_of(config(TOKENS_SECRET_ID="tokens")), SecretsManagerTokens)


def test_a_store_is_empty_at_first_and_then_returns_what_was_saved(store: TokenStore) -> None:
    assert not store.read_only
    assert store.load() == Tokens()
    store.save(FULL)
    assert store.load() == FULL
    store.save(Tokens())
    assert store.load().of(Side.SOURCE) == SideTokens()


def test_only_secrets_manager_wants_a_pause_between_saves() -> None:
    assert SecretsManagerTokens("tokens", REGION, None).pause_seconds == 600
    assert FileTokens(Path("tokens.json")).pause_seconds == 0


def test_the_environment_is_a_store_that_keeps_nothing() -> None:
    store = EnvTokens(config())
    assert store.read_only
    assert store.load().of(Side.SOURCE).refresh_token == SETTINGS["GMAIL_REFRESH_TOKEN"]
    with pytest.raises(StoreUnavailable, match="TOKENS_FILE"):
        store.save(FULL)


def test_the_json_form_is_the_documented_one(path: Path) -> None:
    FileTokens(path).save(FULL)
    content = json.loads(path.read_text())
    assert content == {
        "comment": {"kept": [1, 2]},
        "gmail": {
            "note": "mine",
            "client_id": "g-id",
            "client_secret": f"{CANARY}-1",
            "refresh_token": f"{CANARY}-2",
            "access_token": f"{CANARY}-3",
            "expires_at": 2_000.5,
            "obtained_at": 1_000.25,
            "seeded_from": "ab" * 32,
        },
        "outlook": {"client_id": "m-id", "refresh_token": f"{CANARY}-4"},
        "saved_at": 1_001.0,
    }


def test_nothing_secret_is_shown() -> None:
    refreshed = Refreshed(f"{CANARY}-5", 1.0, f"{CANARY}-6")
    assert CANARY not in repr(FULL) + repr(refreshed) + repr(environment_tokens(config()))


# --- the file ------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", " \n", "{}", '{"gmail": {}, "outlook": null}', "\ufeff{}"])
def test_an_empty_file_holds_nothing(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    tokens = FileTokens(path).load()
    assert all(tokens.of(side) == SideTokens() for side in Side)


@pytest.mark.parametrize(
    "content",
    [
        f"{CANARY}",
        f'{{"gmail": {{"refresh_token": "{CANARY}"',
        f'["{CANARY}"]',
        f'{{"gmail": "{CANARY}"}}',
        '{"gmail": {"refresh_token": 7}}',
        '{"gmail": {"expires_at": "tomorrow"}}',
        '{"gmail": {"expires_at": NaN}}',
        '{"gmail": {"expires_at": 1e999}}',
        '{"saved_at": -1}',
        "[" * 100_000,
        "\xff",
        "{}" + " " * (1 << 20),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_not_shown(path: Path, content: str) -> None:
    path.write_bytes(content.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        FileTokens(path).load()
    assert "TOKENS_FILE" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_open_to_others_is_refused_with_the_command_that_mends_it(path: Path, mode: int) -> None:
    path.write_text("{}")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=r"TOKENS_FILE .*chmod 600"):
        FileTokens(path).load()


def test_a_saved_file_is_its_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        FileTokens(path).save(FULL)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name], "no temporary file is left"  # noqa: PTH208 - names are enough


def test_a_symbolic_link_stays_one_and_its_target_is_replaced(path: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    path.symlink_to(volume / "real.json")
    FileTokens(path).save(FULL)
    FileTokens(path).save(FULL)
    assert path.is_symlink()
    assert FileTokens(volume / "real.json").load() == FULL
    assert FileTokens(path).load() == FULL


@pytest.mark.parametrize("step", ["mkstemp", "fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = FileTokens(path)
    store.save(FULL)

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    target = {"mkstemp": "tempfile.mkstemp", "fsync": "os.fsync", "replace": "pathlib.Path.replace"}[step]
    with monkeypatch.context() as patch:
        patch.setattr(target, broken)
        with pytest.raises(StoreUnavailable, match="TOKENS_FILE cannot be replaced: No space left") as caught:
            store.save(Tokens())
    assert CANARY not in str(caught.value)
    assert store.load() == FULL
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_in_a_folder_that_does_not_exist_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TOKENS_FILE"):
        FileTokens(tmp_path / "missing" / "tokens.json").load()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TOKENS_FILE"):
        FileTokens(tmp_path).load()


# --- the secret ----------------------------------------------------------------------------


def test_an_empty_secret_holds_nothing(secret: Any) -> None:
    secret.put_secret_value(SecretId="tokens", SecretString='{"gmail": {"refresh_token": "x"}, "mine": 1}')
    tokens = SecretsManagerTokens("tokens", REGION, None).load()
    assert tokens.of(Side.SOURCE).refresh_token == "x"
    assert tokens.extra == {"mine": 1}


def test_a_secret_that_holds_octets_is_read_too(secret: Any) -> None:
    secret.put_secret_value(SecretId="tokens", SecretBinary=b'{"gmail": {"refresh_token": "x"}}')
    assert SecretsManagerTokens("tokens", REGION, None).load().of(Side.SOURCE).refresh_token == "x"


def test_a_damaged_secret_is_refused_by_name_and_not_shown(secret: Any) -> None:
    secret.put_secret_value(SecretId="tokens", SecretString=f"{CANARY}")
    with pytest.raises(ConfigError, match="TOKENS_SECRET_ID") as caught:
        SecretsManagerTokens("tokens", REGION, None).load()
    assert CANARY not in str(caught.value)


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize("call", [lambda s: s.load(), lambda s: s.save(FULL)], ids=["load", "save"])
def test_a_missing_secret_is_a_fault_of_the_settings(call: Callable[[TokenStore], object]) -> None:
    with pytest.raises(ConfigError, match=r"TOKENS_SECRET_ID.*create it"):
        call(SecretsManagerTokens("other", REGION, None))


def refusing(code: str, monkeypatch: pytest.MonkeyPatch) -> SecretsManagerTokens:
    """Return a store whose every call is answered with an error of AWS."""
    from botocore.exceptions import ClientError

    def answer(*_: object, **__: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": f"{CANARY} arn:aws:iam::123456789012:role/x"}}, "Any")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", answer)
    return SecretsManagerTokens("tokens", REGION, None)


@pytest.mark.parametrize("code", ["AccessDeniedException", "DecryptionFailure", "InvalidRequestException"])
def test_a_secret_that_is_not_ours_to_use_is_a_fault_of_the_settings(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=code) as caught:
        refusing(code, monkeypatch).load()
    assert "TOKENS_SECRET_ID" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalServiceError", "LimitExceededException", "a b\n"])
def test_a_secrets_manager_that_cannot_now_is_not_blamed_on_the_settings(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        refusing(code, monkeypatch).save(FULL)
    assert CANARY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_secrets_manager_that_cannot_be_reached_is_not_blamed_on_the_settings() -> None:
    with pytest.raises(StoreUnavailable, match="EndpointConnectionError"):
        SecretsManagerTokens("tokens", REGION, "http://127.0.0.1:9").load()


# --- which of two values counts --------------------------------------------------------------


def test_the_environment_seeds_an_empty_store() -> None:
    given = SideTokens(client_id="id", client_secret="cs", refresh_token="R0")
    assert merge(SideTokens(), given) == SideTokens(
        client_id="id", client_secret="cs", refresh_token="R0", seeded_from=sha256("R0")
    )


def test_the_rotated_token_counts_while_the_environment_stays_the_same() -> None:
    given = SideTokens(client_id="id", refresh_token="R0")
    stored = SideTokens(client_id="id", refresh_token="R7", access_token="A", expires_at=9, seeded_from=sha256("R0"))
    assert merge(stored, given) == stored


def test_a_changed_environment_wins_with_its_client_and_ends_the_cached_token() -> None:
    given = SideTokens(client_id="id2", client_secret="cs2", refresh_token="R9")
    stored = SideTokens(
        client_id="id",
        client_secret="cs",
        refresh_token="R7",
        access_token="A",
        expires_at=9,
        seeded_from=sha256("R0"),
        extra={"note": 1},
    )
    assert merge(stored, given) == SideTokens(
        client_id="id2", client_secret="cs2", refresh_token="R9", seeded_from=sha256("R9"), extra={"note": 1}
    )


def test_a_changed_token_alone_keeps_the_stored_client() -> None:
    stored = SideTokens(client_id="id", client_secret="cs", refresh_token="R7", seeded_from=sha256("R0"))
    merged = merge(stored, SideTokens(refresh_token="R9"))
    assert (merged.client_id, merged.client_secret, merged.refresh_token) == ("id", "cs", "R9")


def test_another_client_does_not_inherit_the_secret_of_the_one_before() -> None:
    stored = SideTokens(client_id="id", client_secret="cs", refresh_token="R7", seeded_from=sha256("R0"))
    assert merge(stored, SideTokens(client_id="id2", refresh_token="R9")).client_secret == ""


def test_the_same_token_in_both_keeps_the_cached_access_token() -> None:
    stored = SideTokens(client_id="id", refresh_token="R0", access_token="A", expires_at=9)
    merged = merge(stored, SideTokens(client_id="id", refresh_token="R0"))
    assert (merged.access_token, merged.seeded_from) == ("A", sha256("R0"))


def test_a_store_without_an_environment_is_used_as_it_is() -> None:
    stored = SideTokens(client_id="id", client_secret="cs", refresh_token="R7")
    assert merge(stored, SideTokens()) == stored


def test_an_environment_without_a_token_fills_the_gaps_of_the_store() -> None:
    merged = merge(SideTokens(refresh_token="R7"), SideTokens(client_id="id", client_secret="cs"))
    assert merged == SideTokens(client_id="id", client_secret="cs", refresh_token="R7")


def test_a_renewed_client_secret_counts_without_a_new_sign_in() -> None:
    stored = SideTokens(client_id="id", client_secret="old", refresh_token="R7", seeded_from=sha256("R0"))
    given = SideTokens(client_id="id", client_secret="new", refresh_token="R0")
    assert merge(stored, given).client_secret == "new"


def test_all_that_is_missing_is_named_by_setting() -> None:
    assert [fault.split()[0] for fault in missing(Tokens())] == [
        "GMAIL_CLIENT_ID",
        "GMAIL_CLIENT_SECRET",
        "GMAIL_REFRESH_TOKEN",
        "MS_CLIENT_ID",
        "MS_REFRESH_TOKEN",
    ]
    assert missing(environment_tokens(config())) == []
