"""Saving a sign-in to Secrets Manager: made when missing, one side replaced, and each refusal named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from syncer.errors import ConfigError
from syncer.model import Side
from syncer.sign_in import Client, Grant, SignInConfig, load_gmail, load_outlook
from syncer.token_saving import target_of
from syncer.token_store import SecretsManagerTokens, StoreUnavailable

REGION = "eu-central-1"
NAME = "gmail-outlook-syncer/tokens"
CANARY = "canary-7f3a9"
SETTINGS = {"GMAIL_EMAIL": "a@gmail.com", "OUTLOOK_EMAIL": "b@outlook.com", "AWS_REGION": REGION}
GRANT = Grant(
    client=Client("id", f"{CANARY}-s", "a test"),
    access_token=f"{CANARY}-a",
    expires_at=2000.0,
    refresh_token=f"{CANARY}-r",
    address="a@gmail.com",
)
NO_ENV = Path("no-such-file.env")


@pytest.fixture
def secrets() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("secretsmanager", region_name=REGION)


def gmail(**settings: str) -> SignInConfig:
    return load_gmail(NO_ENV, {**SETTINGS, **settings})


def kept(secrets: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        secrets.get_secret_value(SecretId=NAME, VersionStage="AWSCURRENT")["SecretString"]
    )
    return content


def test_a_secret_that_is_missing_is_made_and_then_used(secrets: Any) -> None:
    target = target_of(f"secretsmanager:{NAME}", gmail(), NO_ENV, now=lambda: 1000.0)
    assert target.stored(Side.SOURCE).refresh_token == ""
    saved = target.save(gmail(), GRANT)
    assert kept(secrets)["gmail"] == {
        "client_id": "id",
        "client_secret": f"{CANARY}-s",
        "refresh_token": f"{CANARY}-r",
        "access_token": f"{CANARY}-a",
        "expires_at": 2000.0,
        "obtained_at": 1000.0,
        "signed_in_at": 1000.0,
        "renewed_at": 1000.0,
    }
    assert saved.remarks == (f"set TOKENS_SECRET_ID={NAME}: the program does not look into this secret yet",)


def test_the_other_side_stays_as_it_is(secrets: Any) -> None:
    secrets.create_secret(Name=NAME, SecretString=json.dumps({"outlook": {"refresh_token": "old", "note": "mine"}}))
    config = gmail(TOKENS_SECRET_ID=NAME)
    saved = target_of(None, config, NO_ENV).save(config, GRANT)
    assert saved.remarks == ()
    assert kept(secrets)["outlook"] == {"refresh_token": "old", "note": "mine"}
    assert kept(secrets)["gmail"]["refresh_token"] == f"{CANARY}-r"


def test_what_another_runner_saved_in_between_is_kept(secrets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.create_secret(Name=NAME, SecretString="{}")
    config = gmail(TOKENS_SECRET_ID=NAME)
    target = target_of(None, config, NO_ENV)
    save, tries = SecretsManagerTokens.save, []

    def overtaken(self: SecretsManagerTokens, tokens: Any) -> None:
        tries.append(1)
        if len(tries) == 1:  # the other runner rotates Microsoft's token just now, and this save is refused
            secrets.put_secret_value(SecretId=NAME, SecretString=json.dumps({"outlook": {"refresh_token": "rotated"}}))
            raise StoreUnavailable("somebody else saved")
        save(self, tokens)

    monkeypatch.setattr(SecretsManagerTokens, "save", overtaken)
    target.save(config, GRANT)
    assert kept(secrets)["outlook"] == {"refresh_token": "rotated"}
    assert kept(secrets)["gmail"]["refresh_token"] == f"{CANARY}-r"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDeniedException", "allow secretsmanager:CreateSecret"),
        ("InvalidRequestException", "marked for deletion"),
        ("ResourceExistsException", "give it the value"),
    ],
)
def test_a_secret_that_may_not_be_made_is_said_with_the_remedy(
    secrets: Any, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    import botocore.client

    make_call = botocore.client.BaseClient._make_api_call

    def refuse(self: Any, operation: str, arguments: Any) -> Any:
        if operation == "CreateSecret":
            raise ClientError({"Error": {"Code": code, "Message": CANARY}}, operation)
        return make_call(self, operation, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refuse)
    with pytest.raises(ConfigError, match=said) as error:
        target_of(f"secretsmanager:{NAME}", gmail(), NO_ENV).stored(Side.SOURCE)
    assert f"the secret {NAME} in {REGION}" in str(error.value)
    assert CANARY not in str(error.value)


def test_a_secret_that_exists_needs_no_permission_to_make_one(secrets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.create_secret(Name=NAME, SecretString="{}")
    import botocore.client

    make_call = botocore.client.BaseClient._make_api_call
    called: list[str] = []

    def note(self: Any, operation: str, arguments: Any) -> Any:
        called.append(operation)
        return make_call(self, operation, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", note)
    target = target_of(f"secretsmanager:{NAME}", gmail(), NO_ENV)
    target.stored(Side.SOURCE)
    target.save(gmail(), GRANT)
    assert "CreateSecret" not in called


def test_a_public_client_leaves_a_secret_in_the_env_file_alone(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text("MS_CLIENT_SECRET=other\n")
    config = load_outlook(NO_ENV, SETTINGS)
    grant = Grant(
        client=Client("id", "", "a test"), access_token="a", expires_at=1.0, refresh_token="r", address="b@outlook.com"
    )
    target_of(f"env:{env}", config, env).save(config, grant)
    assert env.read_text() == "MS_CLIENT_SECRET=other\nMS_CLIENT_ID=id\nMS_REFRESH_TOKEN=r\n"
