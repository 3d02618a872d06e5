"""``syncer auth outlook``: the real command, by code or through a browser, against servers that check everything."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.demo.authority import HTML_ERROR_PAGE, SERVER_BUSY, Answer
from syncer.demo.certificates import Certificates
from syncer.model import Side
from tests.fakes.consent import AUTHORIZATION_PENDING, DECLINED, EXPIRED, SLOW_DOWN, elsewhere, microsoft_error
from tests.fakes.faults import FOREVER, Close, Reply, on
from tests.stack.desk import Desk, desk_of

pytestmark = pytest.mark.thorough

SAVE = ("--save", "file:tokens.json")
REFUSED = Reply("NO AUTHENTICATE failed.")


@pytest.fixture
def desk(certificates: Certificates, tmp_path: Path) -> Iterator[Desk]:
    with desk_of(certificates, tmp_path) as made:
        yield made


def test_a_code_is_shown_and_waited_for(desk: Desk) -> None:
    desk.authority.device_answers.append(AUTHORIZATION_PENDING)
    session = desk.sign_in("outlook", *SAVE)
    assert session.exit_code == 0
    assert session.says(
        "https://www.microsoft.com/link", "B7XK2QPLM", "account of OUTLOOK_EMAIL", "IMAP works", "kept in"
    )
    kept = desk.tokens()["outlook"]
    assert desk.opens(Side.DESTINATION, kept["refresh_token"])
    assert kept["signed_in_at"] == kept["renewed_at"] > 0
    assert "client_secret" not in kept


def test_nothing_secret_is_shown(desk: Desk) -> None:
    session = desk.sign_in("outlook", LOG_LEVEL="DEBUG")
    assert [secret for secret in desk.secrets() if secret in session.shown] == []


def test_slow_down_makes_the_questions_rarer(desk: Desk) -> None:
    desk.authority.device_answers.append(SLOW_DOWN)
    session = desk.sign_in("outlook", "--timeout", "4")
    assert session.exit_code == 77  # the second question would come after 6 seconds (RFC 8628 section 3.5)
    assert session.says("nobody entered the code in time")
    assert desk.authority.token_calls(Side.DESTINATION) == 1


@pytest.mark.parametrize("bad_day", [SERVER_BUSY, HTML_ERROR_PAGE], ids=["503", "HTML"])
def test_one_answer_that_does_not_come_ends_nothing(desk: Desk, bad_day: Answer) -> None:
    desk.authority.device_answers.extend([AUTHORIZATION_PENDING, bad_day.with_headers(Retry_After="1")])
    assert desk.sign_in("outlook").exit_code == 0


def test_a_service_that_stays_away_is_no_fault_of_the_person(desk: Desk) -> None:
    desk.authority.device_answers.extend([SERVER_BUSY] * 10)
    session = desk.sign_in("outlook", "--timeout", "3")
    assert session.exit_code == 75
    assert session.says("HTTP status 503")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (DECLINED, "declined"),
        (EXPIRED, "nobody entered the code in time"),
        (microsoft_error("invalid_client", 7000218), "Allow public client flows"),
        (microsoft_error("invalid_grant", 70000), "account.live.com/activity"),
        (microsoft_error("invalid_grant", 65001), "accept what the page asks for"),
        (microsoft_error("brand_new", 123456), "AADSTS123456"),
    ],
    ids=["declined", "expired", "no public client", "abuse mode", "no consent", "unknown"],
)
def test_a_refusal_ends_the_waiting_with_cause_and_remedy(desk: Desk, answer: Answer, said: str) -> None:
    desk.authority.device_answers.append(answer)
    session = desk.sign_in("outlook")
    assert session.exit_code == 77
    assert session.says("-> ")
    assert session.says(said)
    assert "Trace ID" not in session.shown
    assert not (desk.folder / ".env").exists()


def test_an_app_that_microsoft_does_not_know_is_named_with_account_types(desk: Desk) -> None:
    session = desk.sign_in("outlook", MS_CLIENT_ID="00000000-1111-2222-3333-444444444444")
    assert session.exit_code == 77
    assert session.says("AADSTS700016", "personal Microsoft accounts")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MS_CLIENT_ID": ""}, "MS_CLIENT_ID is required"),
        ({"OUTLOOK_EMAIL": ""}, "OUTLOOK_EMAIL is required"),
        ({"MS_CLIENT_SECRET": "x"}, "a device code is for public clients only"),
    ],
)
def test_settings_that_do_not_fit_are_named_first(desk: Desk, settings: dict[str, str], said: str) -> None:
    session = desk.sign_in("outlook", **settings)
    assert session.exit_code == 78
    assert session.says(said)
    assert desk.authority.requests == ()


# -- account and mailbox


def test_another_account_is_not_kept(desk: Desk) -> None:
    desk.authority.signs_in_as[Side.DESTINATION] = elsewhere(desk.authority, desk.outlook, "eve@outlook.example")
    session = desk.sign_in("outlook")
    assert session.exit_code == 77
    assert session.says(
        "You signed in as e...@outlook.example", "OUTLOOK_EMAIL is m...@outlook.example", "primary address"
    )
    assert not (desk.folder / ".env").exists()


def test_an_alias_that_the_mail_server_takes_will_do(desk: Desk) -> None:
    # The ID token names the primary address, the settings another one of the same mailbox.
    desk.destination._check_token = lambda user, token: True
    session = desk.sign_in("outlook", *SAVE, OUTLOOK_EMAIL="alias@outlook.example")
    assert session.exit_code == 0, session.shown
    assert session.says("You signed in as m...@outlook.example; the mail server takes it for OUTLOOK_EMAIL")


def test_authenticated_but_not_connected_says_what_to_switch_on_and_keeps_the_token(desk: Desk) -> None:
    desk.destination.lose_backend()
    session = desk.sign_in("outlook", *SAVE)
    assert session.exit_code == 75
    assert session.says(
        "cannot be reached by IMAP yet", "Forwarding and IMAP", "primary address", "account.live.com/activity"
    )
    assert session.says("kept in the file tokens.json all the same")
    assert desk.opens(Side.DESTINATION, desk.tokens()["outlook"]["refresh_token"])


def test_not_connected_once_is_tried_again(desk: Desk) -> None:
    desk.destination.lose_backend(1)
    assert desk.sign_in("outlook").exit_code == 0


def test_a_refused_sign_in_of_the_right_account_keeps_the_token(desk: Desk) -> None:
    desk.destination.misbehave(on("AUTHENTICATE"), REFUSED, times=FOREVER)
    session = desk.sign_in("outlook", *SAVE)
    assert session.exit_code == 77
    assert session.says("AUTHENTICATE failed", "Forwarding and IMAP", "all the same")


def test_a_mail_server_that_is_away_does_not_cost_the_token(desk: Desk) -> None:
    desk.destination.misbehave(on("AUTHENTICATE"), Close(), times=FOREVER)
    session = desk.sign_in("outlook", *SAVE)
    assert session.exit_code == 75
    assert session.says("could not be asked", "all the same")


def test_a_scope_that_was_not_granted_is_named(desk: Desk) -> None:
    desk.authority.scopes[Side.DESTINATION] = "openid profile"
    session = desk.sign_in("outlook")
    assert session.exit_code == 77
    assert session.says("access to mail by IMAP was not granted")


def test_no_refresh_token_is_a_failure_with_its_remedy(desk: Desk) -> None:
    desk.authority.forgets_refresh_token = True
    session = desk.sign_in("outlook")
    assert session.exit_code == 77
    assert session.says("no refresh token", "Maintain access")


# -- ends


def test_ctrl_c_ends_the_waiting(desk: Desk) -> None:
    desk.authority.device_answers.extend([AUTHORIZATION_PENDING] * 100)
    running = desk.start("outlook")
    running.wait_for("B7XK2QPLM")
    session = running.end(send=signal.SIGINT)
    assert session.exit_code == 130
    assert session.says("Stopped. Nothing was saved.")
    assert "Traceback" not in session.shown


def test_nobody_signed_in_in_time(desk: Desk) -> None:
    desk.authority.device_answers.extend([AUTHORIZATION_PENDING] * 100)
    session = desk.sign_in("outlook", "--timeout", "2")
    assert session.exit_code == 77
    assert session.says("nobody entered the code in time")


# -- the browser


def test_the_browser_does_it_too(desk: Desk) -> None:
    session = desk.sign_in("outlook", "--browser", *SAVE)
    assert session.exit_code == 0
    assert desk.opens(Side.DESTINATION, desk.tokens()["outlook"]["refresh_token"])
    assert "You are signed in" in desk.seen
    (query,) = desk.authority.authorize_queries
    assert (query["response_mode"], query["code_challenge_method"]) == ("form_post", "S256")


def test_with_a_code_the_env_file_is_told_to_be_too_little(desk: Desk) -> None:
    session = desk.sign_in("outlook")
    assert session.exit_code == 0
    assert session.says("set TOKENS_FILE or TOKENS_SECRET_ID")
    assert "MS_REFRESH_TOKEN=" in (desk.folder / ".env").read_text()
