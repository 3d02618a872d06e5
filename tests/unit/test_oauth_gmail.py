"""Google's token endpoint: what a refresh brings, and what each way of failing means."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
import traceback
from collections.abc import Iterator

import pytest

from syncer import logging_utils
from syncer.demo.authority import (
    GOOGLE_INVALID_GRANT,
    HTML_ERROR_PAGE,
    HTML_WELCOME_PAGE,
    SERVER_BUSY,
    TOO_MANY_REQUESTS,
    Account,
    Answer,
    Authority,
)
from syncer.demo.certificates import Certificates, make
from syncer.errors import AuthError, ConfigError, SideError, Unavailable
from syncer.https_session import BadDay, within
from syncer.model import Side
from syncer.oauth_gmail import refresh
from syncer.tokens import Refreshed

NOW = 1_700_000_000.0
CANARY = "canary-7f3a9"


@pytest.fixture
def authority(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
    with Authority(certificates) as running:
        yield running


@pytest.fixture
def alice(authority: Authority) -> Account:
    return authority.add_account(Side.SOURCE, "alice@gmail.com")


def refreshed(authority: Authority, account: Account, token_uri: str | None = None) -> Refreshed:
    return refresh(
        account.client_id,
        account.client_secret,
        account.refresh_token,
        token_uri=token_uri or authority.gmail_token_uri,
        now=lambda: NOW,
    )


def test_a_refresh_brings_an_access_token_that_opens_the_mailbox(authority: Authority, alice: Account) -> None:
    answer = refreshed(authority, alice)
    assert authority.check("alice@gmail.com", answer.access_token, Side.SOURCE)
    assert answer.expires_at == pytest.approx(NOW + 3599, abs=5)
    assert answer.refresh_token is None, "Google does not rotate"
    assert [(r.method, r.grant_type) for r in authority.requests] == [("POST", "refresh_token")]


@pytest.mark.parametrize(
    ("said", "end"),
    [(604799, NOW + 604799), ("604799", NOW + 604799), (None, 0.0), (-1, 0.0), (True, 0.0), ([7], 0.0), (1e12, 0.0)],
)
def test_googles_word_on_the_life_of_the_refresh_token_is_kept(
    authority: Authority, alice: Account, said: object, end: float
) -> None:
    """A project in Testing: seven days, whatever is done."""
    values = {"access_token": "ya29.x", "expires_in": 3599, "scope": "https://mail.google.com/", "token_type": "Bearer"}
    more = {} if said is None else {"refresh_token_expires_in": said}
    authority.answer_next(Side.SOURCE, Answer.of(200, **values, **more))
    assert refreshed(authority, alice).refresh_expires_at == end


def test_nothing_secret_is_shown(authority: Authority, alice: Account) -> None:
    answer = refreshed(authority, alice)
    shown = repr(answer) + repr(alice) + repr(authority.requests)
    for secret in (answer.access_token, alice.refresh_token, alice.client_secret):
        assert secret not in shown


def test_a_new_refresh_token_is_handed_on_should_google_ever_send_one(authority: Authority, alice: Account) -> None:
    values = {"access_token": "ya29.x", "expires_in": 3599, "scope": "https://mail.google.com/", "token_type": "Bearer"}
    authority.answer_next(Side.SOURCE, Answer.of(200, refresh_token="1//new", **values))
    assert refreshed(authority, alice).refresh_token == "1//new"
    authority.answer_next(Side.SOURCE, Answer.of(200, refresh_token=alice.refresh_token, **values))
    assert refreshed(authority, alice).refresh_token is None


@pytest.mark.parametrize(
    ("answer", "code", "setting"),
    [
        pytest.param(GOOGLE_INVALID_GRANT, "invalid_grant", "GMAIL_REFRESH_TOKEN", id="revoked"),
        pytest.param(Answer.of(401, error="invalid_client"), "invalid_client", "GMAIL_CLIENT_SECRET", id="client"),
        pytest.param(Answer.of(401, error="deleted_client"), "deleted_client", "GMAIL_CLIENT_ID", id="deleted"),
        pytest.param(Answer.of(400, error="unauthorized_client"), "unauthorized_client", "GMAIL_CLIENT_ID", id="type"),
        pytest.param(Answer.of(400, error="invalid_scope"), "invalid_scope", "GMAIL_REFRESH_TOKEN", id="scope"),
        pytest.param(
            Answer.of(400, error="admin_policy_enforced"), "admin_policy_enforced", "GMAIL_REFRESH_TOKEN", id="policy"
        ),
        pytest.param(
            Answer.of(400, error="invalid_grant", error_subtype="invalid_rapt"),
            "invalid_rapt",
            "GMAIL_REFRESH_TOKEN",
            id="sign-in demanded again",
        ),
        pytest.param(
            Answer.of(200, access_token="ya29.x", expires_in=3599, scope="https://www.googleapis.com/auth/gmail.send"),
            "scope",
            "https://mail.google.com/",
            id="box not ticked",
        ),
    ],
)
def test_what_only_a_person_can_mend(
    authority: Authority, alice: Account, answer: Answer, code: str, setting: str
) -> None:
    authority.answer_next(Side.SOURCE, answer)
    with pytest.raises(AuthError) as caught:
        refreshed(authority, alice)
    assert caught.value.side is Side.SOURCE
    assert code in caught.value.reason
    assert setting in caught.value.remedy
    assert len(authority.requests) == 1, "asking again does not help"


def test_the_remedy_for_a_dead_token_names_the_seven_days_of_testing(authority: Authority, alice: Account) -> None:
    authority.revoke(Side.SOURCE)
    with pytest.raises(AuthError) as caught:
        refreshed(authority, alice)
    assert "7 days" in caught.value.remedy
    assert "In production" in caught.value.remedy


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        pytest.param(SERVER_BUSY, "503", id="busy"),
        pytest.param(TOO_MANY_REQUESTS, "429", id="too many requests"),
        pytest.param(Answer.of(408), "408", id="request time-out"),
        pytest.param(HTML_ERROR_PAGE, "502", id="error page"),
        pytest.param(HTML_WELCOME_PAGE, "without JSON", id="captive portal"),
        pytest.param(Answer(403, b"<html>no</html>", "text/html"), "403", id="forbidden by a proxy"),
        pytest.param(Answer(302, b"", headers={"Location": "https://localhost:1/"}), "302", id="redirect"),
        pytest.param(Answer(200, b"[1]"), "without JSON", id="no object"),
        pytest.param(Answer(200, b"[" * 100_000), "without JSON", id="deeply nested"),
        pytest.param(Answer(200, b" " * (1 << 21)), "octets", id="endless"),
        pytest.param(Answer.of(200), "malformed", id="empty object"),
        pytest.param(Answer.of(200, access_token=["x"], expires_in=1), "malformed", id="list for a token"),
        pytest.param(Answer.of(200, access_token="a\x01b"), "malformed", id="control character in the token"),
        pytest.param(Answer.of(200, access_token="x", expires_in="soon"), "malformed", id="word for a time"),
        pytest.param(Answer.of(200, access_token="x", expires_in=1e300), "malformed", id="endless life"),
        pytest.param(Answer.of(200, access_token="x", expires_in=[1]), "malformed", id="list for a time"),
        pytest.param(Answer.of(200, access_token="x", scope=7), "malformed", id="number for scopes"),
        pytest.param(Answer.of(400, error={"code": 1}), "malformed", id="object for a code"),
        pytest.param(Answer.of(400, error="No code. " + CANARY), "malformed", id="prose for a code"),
        pytest.param(Answer.of(400), "malformed", id="refusal without a code"),
    ],
)
def test_a_bad_day(authority: Authority, alice: Account, answer: Answer, word: str) -> None:
    authority.answer_next(Side.SOURCE, answer)
    with pytest.raises(Unavailable) as caught:
        refreshed(authority, alice)
    assert caught.value.side is Side.SOURCE
    assert word in caught.value.reason
    assert len(authority.requests) == 1


def test_a_token_without_a_lifetime_is_good_for_once(authority: Authority, alice: Account) -> None:
    authority.answer_next(Side.SOURCE, Answer.of(200, access_token="ya29.x", token_type="Bearer"))
    assert refreshed(authority, alice) == Refreshed("ya29.x", NOW, None)


def test_nobody_there_is_a_bad_day(authority: Authority, alice: Account) -> None:
    uri = authority.gmail_token_uri
    authority.close()
    with pytest.raises(Unavailable, match="could not connect"):
        refreshed(authority, alice, uri)


def test_a_name_that_cannot_be_resolved_is_a_bad_day(authority: Authority, alice: Account) -> None:
    with pytest.raises(Unavailable, match="could not connect"):
        refreshed(authority, alice, "https://nowhere.invalid/token")


def test_a_certificate_from_elsewhere_is_refused(
    authority: Authority,
    alice: Account,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    other = make(tmp_path_factory.mktemp("other"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.ca))
    with pytest.raises(Unavailable, match="certificate not trusted"):
        refreshed(authority, alice)
    assert authority.requests == ()


def test_a_ca_bundle_that_is_not_there_is_a_fault_of_the_settings(
    authority: Authority, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(ConfigError, match="REQUESTS_CA_BUNDLE"):
        refreshed(authority, alice)


def test_a_slow_answer_is_not_waited_for(authority: Authority, alice: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncer.https_session.READ_SECONDS", 0.1)
    authority.answer_next(Side.SOURCE, GOOGLE_INVALID_GRANT.delayed(60))
    with pytest.raises(Unavailable, match="no answer in time"):
        refreshed(authority, alice)


def test_a_call_that_never_ends_is_given_up_as_a_whole() -> None:
    done = threading.Event()
    with pytest.raises(BadDay, match=r"0\.05 seconds"):
        within(0.05, done.wait)
    done.set()


def test_a_call_in_time_brings_its_result_or_its_own_error() -> None:
    assert within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


@pytest.mark.parametrize(
    "answer",
    [
        Answer.of(400, error="invalid_grant", error_description=f"alice@gmail.com {CANARY}"),
        Answer.of(400, error=f"{CANARY} alice@gmail.com"),
        Answer(200, json.dumps([CANARY, "alice@gmail.com"]).encode()),
        Answer(502, CANARY.encode() + b" alice@gmail.com", "text/plain"),
        Answer.of(200, access_token=f"{CANARY}\n", refresh_token="alice@gmail.com"),
        Answer.of(200, access_token=CANARY, scope="alice@gmail.com"),
    ],
)
def test_neither_errors_nor_log_lines_hold_what_the_server_said(
    authority: Authority, alice: Account, answer: Answer
) -> None:
    lines = io.StringIO()
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    logging_utils.set_up("DEBUG", lines)
    try:
        authority.answer_next(Side.SOURCE, answer)
        with pytest.raises(SideError) as caught:
            refreshed(authority, alice)
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger().setLevel(level)
    shown = [*traceback.format_exception(caught.value), getattr(caught.value, "remedy", ""), lines.getvalue()]
    for secret in (CANARY, "alice@gmail.com", alice.refresh_token, alice.client_secret):
        assert not any(secret in text for text in shown)


def test_the_authority_ends_a_slow_answer_when_it_is_closed(certificates: Certificates) -> None:
    started = time.monotonic()
    with Authority(certificates) as authority:
        authority.answer_next(Side.SOURCE, SERVER_BUSY.delayed(60))
    assert time.monotonic() - started < 5
