"""The embedded token endpoints: what a mail server asks them, and how they are told to misbehave."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from syncer.demo.authority import SERVER_BUSY, Account, Answer, Authority
from syncer.demo.certificates import Certificates, make
from syncer.model import Side

SOURCE, DESTINATION = Side.SOURCE, Side.DESTINATION


class Clock:
    time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(certificates: Certificates, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Authority]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
    with Authority(certificates, now=clock) as running:
        yield running


@pytest.fixture
def bob(authority: Authority) -> Account:
    return authority.add_account(DESTINATION, "bob@outlook.com")


def refreshed(authority: Authority, account: Account, **changes: str) -> dict[str, Any]:
    url = authority.gmail_token_uri
    if account.side is DESTINATION:
        url = f"{authority.ms_authority}/consumers/oauth2/v2.0/token"
    form = {"grant_type": "refresh_token", "client_id": account.client_id, "refresh_token": account.refresh_token}
    if account.client_secret:
        form["client_secret"] = account.client_secret
    answer: dict[str, Any] = requests.post(url, data={**form, **changes}, timeout=5).json()
    return answer


def introspected(authority: Authority, token: str) -> dict[str, Any]:
    answer: dict[str, Any] = requests.post(authority.introspection_url, data={"token": token}, timeout=5).json()
    return answer


def test_a_token_opens_the_mailbox_of_its_account_alone(authority: Authority, bob: Account) -> None:
    token = refreshed(authority, bob)["access_token"]
    assert authority.check("bob@outlook.com", token)
    assert authority.check("Bob@Outlook.com", token, DESTINATION)
    assert not authority.check("bob@outlook.com", token, SOURCE)
    assert not authority.check("alice@gmail.com", token)
    assert not authority.check("bob@outlook.com", token + "x")
    assert introspected(authority, token)["username"] == "bob@outlook.com"
    assert introspected(authority, token)["active"] is True


def test_a_token_issued_without_a_request_is_as_good(authority: Authority, bob: Account) -> None:
    assert authority.check("bob@outlook.com", authority.issue_access_token(bob), DESTINATION)
    assert authority.requests == ()


def test_a_token_dies_with_its_time_or_when_told_to(authority: Authority, bob: Account, clock: Clock) -> None:
    authority.lifetimes[DESTINATION] = 60
    token = refreshed(authority, bob)["access_token"]
    clock.time += 59
    assert authority.check("bob@outlook.com", token)
    clock.time += 1
    assert not authority.check("bob@outlook.com", token)
    assert introspected(authority, token) == {"active": False}
    token = refreshed(authority, bob)["access_token"]
    authority.expire_access_tokens(SOURCE)
    assert authority.check("bob@outlook.com", token)
    authority.expire_access_tokens()
    assert not authority.check("bob@outlook.com", token)


def test_only_microsoft_rotates_and_the_old_token_lives_on_unless_told_otherwise(
    authority: Authority, bob: Account
) -> None:
    alice = authority.add_account(SOURCE, "alice@gmail.com")
    assert "refresh_token" not in refreshed(authority, alice)
    assert refreshed(authority, bob)["refresh_token"] != bob.refresh_token
    authority.revokes_rotated = True
    assert "access_token" in refreshed(authority, bob)
    assert refreshed(authority, bob)["error"] == "invalid_grant"


def test_a_revoked_side_needs_a_new_sign_in(authority: Authority, bob: Account) -> None:
    authority.revoke(SOURCE)
    token = refreshed(authority, bob)["access_token"]
    authority.revoke(DESTINATION)
    assert refreshed(authority, bob)["error"] == "invalid_grant"
    assert not authority.check("bob@outlook.com", token)
    assert "access_token" in refreshed(authority, authority.sign_in(bob))


def test_another_client_or_the_other_sides_token_is_refused(authority: Authority, bob: Account) -> None:
    alice = authority.add_account(SOURCE, "alice@gmail.com")
    assert refreshed(authority, alice, client_secret="wrong")["error"] == "invalid_client"
    assert refreshed(authority, bob, client_id="other")["error"] == "invalid_client"
    assert refreshed(authority, bob, refresh_token=alice.refresh_token)["error"] == "invalid_grant"
    assert refreshed(authority, bob, grant_type="password")["error"] == "unsupported_grant_type"


def test_answers_can_be_written_for_it(authority: Authority, bob: Account) -> None:
    authority.answer_next(DESTINATION, SERVER_BUSY)
    assert refreshed(authority, bob)["error"] == "temporarily_unavailable"
    assert "access_token" in refreshed(authority, bob)
    assert authority.token_calls() == authority.token_calls(DESTINATION) == 2
    assert authority.token_calls(SOURCE) == 0
    authority.introspection_answer = Answer.of(500)
    assert introspected(authority, "x") == {}


def test_tokens_are_not_told_over_the_plain_listener(authority: Authority, bob: Account) -> None:
    plain = authority.introspection_url.removesuffix("/introspect")
    assert requests.post(f"{plain}/google/token", data={}, timeout=5).status_code == 404
    assert requests.post(f"{authority.base_url}/introspect", data={}, timeout=5).status_code == 404


def test_the_certificates_are_trusted_by_their_authority_alone(tmp_path: Path) -> None:
    made = make(tmp_path / "new" / "folder")
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    context = ssl.create_default_context(cafile=str(made.ca))
    assert len(context.get_ca_certs()) == 1
    assert made.server_context().check_hostname is False
    assert "PRIVATE KEY" not in made.ca.read_text() + made.server.read_text()
    assert make(tmp_path / "new" / "folder") == made, "may be made again"
