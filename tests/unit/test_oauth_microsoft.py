"""Microsoft's token endpoint: what a refresh brings, and what each way of failing means."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace

import pytest

from syncer import logging_utils
from syncer.demo.authority import (
    HTML_ERROR_PAGE,
    HTML_WELCOME_PAGE,
    MICROSOFT_INTERACTION_REQUIRED,
    MICROSOFT_INVALID_GRANT,
    OUTLOOK_SCOPE,
    SERVER_BUSY,
    TOO_MANY_REQUESTS,
    Account,
    Answer,
    Authority,
)
from syncer.demo.certificates import Certificates
from syncer.errors import AuthError, ConfigError, SideError, Unavailable
from syncer.model import Side
from syncer.oauth_microsoft import refresh
from syncer.tokens import Refreshed

NOW = 1_700_000_000.0
CANARY = "canary-7f3a9"
GUID = "00000000-1111-2222-3333-444444444444"


@pytest.fixture
def authority(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
    with Authority(certificates) as running:
        yield running


@pytest.fixture
def bob(authority: Authority) -> Account:
    return authority.add_account(Side.DESTINATION, "bob@outlook.com")


def refreshed(authority: Authority, account: Account, *, secret: str = "", tenant: str = "consumers") -> Refreshed:
    return refresh(
        account.client_id,
        secret,
        account.refresh_token,
        authority=authority.ms_authority,
        tenant=tenant,
        now=lambda: NOW,
    )


def test_a_refresh_brings_an_access_token_and_the_next_refresh_token(authority: Authority, bob: Account) -> None:
    answer = refreshed(authority, bob)
    assert authority.check("bob@outlook.com", answer.access_token, Side.DESTINATION)
    assert answer.expires_at == NOW + 3600
    assert answer.refresh_token not in (None, bob.refresh_token)
    assert [(r.method, r.grant_type) for r in authority.requests] == [("GET", ""), ("POST", "refresh_token")]
    for secret in (answer.access_token, str(answer.refresh_token), bob.refresh_token):
        assert secret not in repr(answer) + repr(bob) + repr(authority.requests)


def test_the_next_refresh_token_works_in_its_turn(authority: Authority, bob: Account) -> None:
    authority.revokes_rotated = True
    first = refreshed(authority, bob)
    second = refresh(
        bob.client_id,
        "",
        first.refresh_token or "",
        authority=authority.ms_authority,
        tenant="consumers",
        now=lambda: NOW,
    )
    assert second.access_token != first.access_token


def test_an_answer_without_a_refresh_token_leaves_the_old_one_in_use(authority: Authority, bob: Account) -> None:
    authority.rotates = False
    assert refreshed(authority, bob).refresh_token is None


def test_a_client_with_a_secret_sends_it(authority: Authority, bob: Account) -> None:
    confidential = authority.sign_in(replace(bob, client_secret="of-the-app"))
    assert refreshed(authority, confidential, secret="of-the-app").access_token
    with pytest.raises(AuthError, match="invalid_client"):
        refreshed(authority, confidential, secret="of-another-app")
    with pytest.raises(AuthError, match="invalid_client"):
        refreshed(authority, confidential)


@pytest.mark.parametrize(
    ("answer", "words", "setting"),
    [
        pytest.param(MICROSOFT_INVALID_GRANT, "invalid_grant AADSTS70000", "MS_REFRESH_TOKEN", id="dead"),
        pytest.param(
            MICROSOFT_INTERACTION_REQUIRED, "interaction_required AADSTS50076", "MS_REFRESH_TOKEN", id="interaction"
        ),
        pytest.param(
            Answer.of(400, error="invalid_grant", error_description="AADSTS65001: no consent", error_codes=[65001]),
            "AADSTS65001",
            "MS_REFRESH_TOKEN",
            id="consent",
        ),
        pytest.param(
            Answer.of(400, error="consent_required"),
            "consent_required",
            "MS_REFRESH_TOKEN",
            id="consent without number",
        ),
        pytest.param(
            Answer.of(401, error="invalid_client", error_description="AADSTS7000218: secret needed"),
            "invalid_client AADSTS7000218",
            "Allow public client flows",
            id="no public client",
        ),
        pytest.param(
            Answer.of(400, error="unauthorized_client", error_description="AADSTS700016: not found"),
            "AADSTS700016",
            "MS_CLIENT_ID",
            id="unknown client",
        ),
        pytest.param(
            Answer.of(200, access_token="EwBx", expires_in=3600, scope="https://graph.microsoft.com/Mail.Read"),
            "scope",
            "IMAP.AccessAsUser.All",
            id="other scope",
        ),
    ],
)
def test_what_only_a_person_can_mend(
    authority: Authority, bob: Account, answer: Answer, words: str, setting: str
) -> None:
    authority.answer_next(Side.DESTINATION, answer)
    with pytest.raises(AuthError) as caught:
        refreshed(authority, bob)
    assert caught.value.side is Side.DESTINATION
    assert words in caught.value.reason
    assert setting in caught.value.remedy
    assert authority.token_calls() == 1


def test_the_remedy_for_a_dead_token_names_its_ninety_days_and_imap(authority: Authority, bob: Account) -> None:
    authority.revoke(Side.DESTINATION)
    with pytest.raises(AuthError) as caught:
        refreshed(authority, bob)
    assert "90 days" in caught.value.remedy
    assert "IMAP has to be switched on" in caught.value.remedy


BAD_DAYS = [
    pytest.param(SERVER_BUSY, "503", id="busy"),
    pytest.param(TOO_MANY_REQUESTS, "429", id="too many requests"),
    pytest.param(HTML_ERROR_PAGE, "502", id="error page"),
    pytest.param(HTML_WELCOME_PAGE, "without JSON", id="captive portal"),
    pytest.param(Answer(403, b"<html>no</html>", "text/html"), "403", id="forbidden by a proxy"),
    pytest.param(Answer(307, b"", headers={"Location": "https://localhost:1/"}), "307", id="redirect"),
    pytest.param(Answer(200, b"7"), "without JSON", id="no object"),
    pytest.param(Answer.of(200), "malformed", id="empty object"),
]


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        *BAD_DAYS,
        pytest.param(Answer.of(200, access_token=7), "malformed", id="number for a token"),
        pytest.param(Answer.of(200, access_token="x", expires_in="soon"), "malformed", id="word for a time"),
        pytest.param(Answer.of(200, access_token="a b"), "malformed", id="space in the token"),
        pytest.param(
            Answer.of(200, access_token="EwBx", client_info="!", id_token="x.y"), "malformed", id="broken id token"
        ),
        pytest.param(Answer.of(400, error=["x"]), "unknown error", id="list for a code"),
        pytest.param(Answer.of(400, error="temporarily_unavailable"), "temporarily_unavailable", id="says later"),
        pytest.param(
            Answer.of(400, error="invalid_grant", error_description="AADSTS90033: transient", error_codes=[90033]),
            "AADSTS90033",
            id="says later by number",
        ),
    ],
)
def test_a_bad_day(authority: Authority, bob: Account, answer: Answer, word: str) -> None:
    authority.answer_next(Side.DESTINATION, answer)
    with pytest.raises(Unavailable) as caught:
        refreshed(authority, bob)
    assert caught.value.side is Side.DESTINATION
    assert word in caught.value.reason


@pytest.mark.parametrize(("answer", "word"), BAD_DAYS)
def test_a_bad_day_of_the_configuration_document(authority: Authority, bob: Account, answer: Answer, word: str) -> None:
    authority.answer_next_discovery(answer)
    with pytest.raises(Unavailable) as caught:
        refreshed(authority, bob)
    assert word in caught.value.reason
    assert authority.token_calls() == 0


def test_a_tenant_that_does_not_exist_is_a_fault_of_the_settings(authority: Authority, bob: Account) -> None:
    authority.answer_next_discovery(
        Answer.of(400, error="invalid_tenant", error_description="AADSTS90002: Tenant 'x' not found.")
    )
    with pytest.raises(ConfigError, match="MS_TENANT"):
        refreshed(authority, bob)


def test_a_path_that_nobody_answers_for_is_a_bad_day(authority: Authority, bob: Account) -> None:
    with pytest.raises(Unavailable, match="configuration document"):
        refreshed(authority, bob, tenant="other")


def test_a_failure_is_not_remembered_by_the_next_try(authority: Authority, bob: Account) -> None:
    """Msal keeps failed answers for up to a minute inside its application object."""
    for answer in (SERVER_BUSY, MICROSOFT_INVALID_GRANT):
        authority.answer_next(Side.DESTINATION, answer)
        with pytest.raises(SideError):
            refreshed(authority, bob)
    assert refreshed(authority, bob).access_token


def test_a_custom_authority_asks_nobody_else(authority: Authority, bob: Account) -> None:
    refreshed(authority, bob)
    assert {request.path.split("/")[1] for request in authority.requests} == {"consumers"}


@pytest.mark.parametrize(("lifetime", "seconds"), [("1800", 1800.0), (1800, 1800.0), (-5, 0.0), (10**12, 0.0)])
def test_a_lifetime_is_believed_if_it_is_one(
    authority: Authority, bob: Account, lifetime: object, seconds: float
) -> None:
    authority.answer_next(
        Side.DESTINATION, Answer.of(200, access_token="EwBx", scope=OUTLOOK_SCOPE.upper(), expires_in=lifetime)
    )
    assert refreshed(authority, bob) == Refreshed("EwBx", NOW + seconds, None)


@pytest.mark.parametrize(
    "answer",
    [
        Answer.of(400, error="invalid_grant", error_description=f"AADSTS70000: bob@outlook.com {CANARY}"),
        Answer.of(400, error=f"{CANARY} bob@outlook.com"),
        Answer(200, f"{CANARY} bob@outlook.com".encode()),
        Answer(400, f"{CANARY} bob@outlook.com".encode(), "text/plain"),
        Answer(502, f"{CANARY} bob@outlook.com".encode(), "text/plain"),
        Answer.of(200, access_token=f"{CANARY}\n", refresh_token="bob@outlook.com"),
        Answer.of(200, access_token=CANARY, id_token=f"{CANARY}.bob@outlook.com"),
    ],
)
@pytest.mark.parametrize("where", ["token", "discovery"])
def test_neither_errors_nor_log_lines_hold_what_the_server_said(
    authority: Authority, bob: Account, answer: Answer, where: str
) -> None:
    lines = io.StringIO()
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    logging_utils.set_up("DEBUG", lines)
    try:
        if where == "token":
            authority.answer_next(Side.DESTINATION, answer)
        else:
            authority.answer_next_discovery(answer)
        with pytest.raises(SideError) as caught:
            refreshed(authority, bob)
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger().setLevel(level)
    shown = [*traceback.format_exception(caught.value), getattr(caught.value, "remedy", ""), lines.getvalue()]
    for secret in (CANARY, "bob@outlook.com", bob.refresh_token):
        assert not any(secret in text for text in shown)
