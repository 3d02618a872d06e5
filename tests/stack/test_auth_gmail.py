"""``syncer auth gmail``: the real command, a browser in which somebody clicks, servers that check everything."""

from __future__ import annotations

import json
import re
import shlex
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.demo.authority import HTML_ERROR_PAGE, HTML_WELCOME_PAGE, SERVER_BUSY, Answer
from syncer.demo.certificates import Certificates
from syncer.model import Side
from tests.fakes import browse
from tests.fakes.consent import elsewhere
from tests.fakes.faults import FOREVER, Close, Reply, on
from tests.stack.desk import Desk, Running, desk_of
from tests.stack.pair import OUTLOOK

pytestmark = pytest.mark.thorough

SAVE = ("--save", "file:tokens.json")
REFUSED = Reply("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)")


@pytest.fixture
def desk(certificates: Certificates, tmp_path: Path) -> Iterator[Desk]:
    with desk_of(certificates, tmp_path) as made:
        yield made


def test_a_click_in_the_browser_is_all_it_takes(desk: Desk) -> None:
    session = desk.sign_in("gmail", *SAVE)
    assert session.exit_code == 0
    assert session.says("gave a token", "belongs to the account of GMAIL_EMAIL", "IMAP works: 0 messages", "kept in")
    kept = desk.tokens()["gmail"]
    assert desk.opens(Side.SOURCE, kept["refresh_token"])
    assert kept["signed_in_at"] == kept["renewed_at"] == kept["obtained_at"] > 0
    assert desk.authority.check(desk.environment["GMAIL_EMAIL"], kept["access_token"], Side.SOURCE)
    assert stat.S_IMODE((desk.folder / "tokens.json").stat().st_mode) == 0o600
    assert "You are signed in" in desk.seen


def test_the_address_asks_for_all_that_google_wants(desk: Desk) -> None:
    desk.sign_in("gmail")
    (query,) = desk.authority.authorize_queries
    assert query["scope"].split() == ["https://mail.google.com/", "openid", "email"]
    assert (query["access_type"], query["prompt"]) == ("offline", "consent")
    assert query["login_hint"] == desk.environment["GMAIL_EMAIL"]
    assert query["code_challenge_method"] == "S256"
    assert len(query["state"]) >= 43


def test_nothing_secret_is_shown(desk: Desk) -> None:
    session = desk.sign_in("gmail", LOG_LEVEL="DEBUG")
    address = desk.authority.authorize_queries[0]["login_hint"]
    without_link = re.sub(r"https://\S+", "", session.shown)
    assert [secret for secret in desk.secrets() if secret in without_link] == []
    assert urllib.parse.quote(address) in session.shown  # in the link alone, which the person opens


def test_settings_of_the_other_side_and_of_aws_are_not_needed(desk: Desk) -> None:
    for name in [name for name in desk.environment if name.startswith(("OUTLOOK", "MS_"))]:
        del desk.environment[name]
    assert desk.sign_in("gmail").exit_code == 0


@pytest.mark.parametrize("missing", ["GMAIL_EMAIL", "GMAIL_CLIENT_SECRET"])
def test_a_missing_setting_is_named_before_anything_happens(desk: Desk, missing: str) -> None:
    del desk.environment[missing]
    session = desk.sign_in("gmail")
    assert session.exit_code == 78
    assert session.says(f"{missing} is required")
    assert desk.authority.requests == ()


# -- the client


def client_file(desk: Desk, name: str = "client_secret_1.json", kind: str = "installed") -> Path:
    content = {kind: {"client_id": desk.gmail.client_id, "client_secret": desk.gmail.client_secret}}
    (desk.folder / name).write_text(json.dumps(content))
    for setting in ("GMAIL_CLIENT_ID", "GMAIL_CLIENT_SECRET"):
        desk.environment.pop(setting, None)
    return desk.folder / name


def test_the_file_from_the_console_may_be_named(desk: Desk) -> None:
    session = desk.sign_in("gmail", "--client-secrets", str(client_file(desk, "mine.json")), *SAVE)
    assert session.exit_code == 0
    assert session.says("comes from the file mine.json")
    assert desk.tokens()["gmail"]["client_secret"] == desk.gmail.client_secret


def test_the_only_such_file_in_the_folder_is_found_and_named(desk: Desk) -> None:
    client_file(desk)
    session = desk.sign_in("gmail", *SAVE)
    assert session.exit_code == 0
    assert session.says("comes from the file client_secret_1.json")


def test_the_second_time_the_client_comes_from_the_tokens_file(desk: Desk) -> None:
    file = client_file(desk)
    assert desk.sign_in("gmail", *SAVE).exit_code == 0
    file.unlink()
    session = desk.sign_in("gmail", *SAVE)
    assert session.exit_code == 0
    assert session.says("comes from the token store")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no OAuth client"),
        ({"client_secret_1.json": "{}", "client_secret_2.json": "{}"}, "choose one by --client-secrets"),
        ({"client_secret_1.json": '{"web": {"client_id": "1"}}'}, "a client of the type 'Web application'"),
        ({"client_secret_1.json": '{"type": "service_account"}'}, "a service account's key"),
        ({"client_secret_1.json": "hello"}, "not the JSON file of an OAuth client"),
        ({"client_secret_1.json": '{"installed": {"client_id": 1}}'}, "not the JSON file of an OAuth client"),
    ],
    ids=["none", "two", "web", "service account", "no JSON", "no texts"],
)
def test_a_client_that_is_none_is_called_what_it_is(desk: Desk, files: dict[str, str], said: str) -> None:
    client_file(desk).unlink()
    for name, content in files.items():
        (desk.folder / name).write_text(content)
    session = desk.sign_in("gmail")
    assert session.exit_code == 78
    assert session.says(said)


# -- what the person or Google says


def test_cancel_is_an_answer_too(desk: Desk) -> None:
    session = desk.sign_in("gmail", choice="deny")
    assert session.exit_code == 77
    assert session.says("consent was not given (access_denied)", "-> ")
    assert "Signing in did not work" in desk.seen
    assert not (desk.folder / ".env").exists()


def test_a_box_that_was_not_ticked_is_named(desk: Desk) -> None:
    session = desk.sign_in("gmail", choice="untick")
    assert session.exit_code == 77
    assert session.says("box was not ticked", "tick the box")
    assert not (desk.folder / ".env").exists()


@pytest.mark.parametrize("told", [True, False], ids=["an ID token says so", "only the mail server says so"])
def test_another_account_is_not_kept(desk: Desk, told: bool) -> None:
    desk.authority.signs_in_as[Side.SOURCE] = elsewhere(desk.authority, desk.gmail, "eve@gmail.example")
    desk.authority.forgets_id_token = not told
    session = desk.sign_in("gmail")
    assert session.exit_code == 77
    assert session.says("You signed in as e...@gmail.example" if told else "You signed in as another account")
    assert session.says("GMAIL_EMAIL", "-> Run the command again and sign in to the account of GMAIL_EMAIL")
    assert not (desk.folder / ".env").exists()
    assert "eve@gmail.example" not in session.shown


def test_without_an_id_token_the_mail_server_vouches_for_the_account(desk: Desk) -> None:
    desk.authority.forgets_id_token = True
    assert desk.sign_in("gmail").exit_code == 0


def test_a_project_in_testing_is_warned_of_and_the_end_is_kept(desk: Desk) -> None:
    desk.authority.testing = True
    session = desk.sign_in("gmail", *SAVE)
    assert session.exit_code == 0
    assert session.says("ends in 7.0 days", "'Testing'", "-> ", "Publish app", "run this command again")
    kept = desk.tokens()["gmail"]
    assert kept["refresh_expires_at"] - kept["signed_in_at"] == pytest.approx(604799, abs=60)


def test_no_refresh_token_is_a_failure_with_its_remedy(desk: Desk) -> None:
    desk.authority.forgets_refresh_token = True
    session = desk.sign_in("gmail")
    assert session.exit_code == 77
    assert session.says("no refresh token", "myaccount.google.com/connections")


def test_a_refusal_of_the_token_endpoint_has_cause_and_remedy(desk: Desk) -> None:
    desk.authority.answer_next(Side.SOURCE, Answer.of(401, error="deleted_client", error_description="canary"))
    session = desk.sign_in("gmail")
    assert session.exit_code == 77
    assert session.says("Google has deleted this OAuth client", "(deleted_client)", "-> ", "--client-secrets FILE")
    assert "canary" not in session.shown


@pytest.mark.parametrize("bad_day", [SERVER_BUSY, HTML_ERROR_PAGE, HTML_WELCOME_PAGE], ids=["503", "502", "portal"])
def test_a_bad_day_of_the_token_endpoint_is_sat_out(desk: Desk, bad_day: Answer) -> None:
    desk.authority.answer_next(Side.SOURCE, bad_day)
    assert desk.sign_in("gmail").exit_code == 0


def test_a_token_endpoint_that_stays_away_is_no_fault_of_the_person(desk: Desk) -> None:
    desk.authority.answer_next(Side.SOURCE, *[SERVER_BUSY] * 3)
    session = desk.sign_in("gmail")
    assert session.exit_code == 75
    assert session.says("token endpoint: HTTP status 503", "run the command again later")


def test_a_code_that_a_lost_answer_used_up_is_not_called_the_person_s_fault(desk: Desk) -> None:
    desk.authority.answer_next(Side.SOURCE, SERVER_BUSY, Answer.of(400, error="invalid_grant"))
    assert desk.sign_in("gmail").exit_code == 75


def test_a_slow_answer_is_waited_for(desk: Desk) -> None:
    desk.authority.answer_next(Side.SOURCE, SERVER_BUSY.delayed(1.0))
    assert desk.sign_in("gmail").exit_code == 0


# -- the mail server


def test_a_mail_server_that_is_away_does_not_cost_the_token(desk: Desk) -> None:
    desk.source.misbehave(on("AUTHENTICATE"), Close(), times=FOREVER)
    session = desk.sign_in("gmail", *SAVE)
    assert session.exit_code == 75
    assert session.says("belongs to the account", "could not be asked", "kept in the file tokens.json all the same")
    assert desk.opens(Side.SOURCE, desk.tokens()["gmail"]["refresh_token"])
    assert "one thing to do" in desk.seen


def test_a_mail_server_that_refuses_the_right_account_does_not_cost_the_token(desk: Desk) -> None:
    desk.source.misbehave(on("AUTHENTICATE"), REFUSED, times=FOREVER)
    session = desk.sign_in("gmail", *SAVE)
    assert session.exit_code == 77
    assert session.says("Invalid credentials", "all the same")


# -- the redirect


def address_from(running: Running) -> dict[str, str]:
    """Return the query of the address that is shown, once all that belongs to it is."""
    address = running.wait_for(r"^https://\S+\n")
    return dict(urllib.parse.parse_qsl(address.strip().partition("?")[2]))


def answer_of(desk: Desk, query: dict[str, str]) -> str:
    """Consent as a browser on another machine would; return the address that it ends at."""
    there = desk.authority._google_consent({**query, "choice": "allow", "mail": "yes"})
    return there.headers["Location"]


def test_without_a_browser_the_answer_is_pasted(desk: Desk) -> None:
    running = desk.start("gmail", "--no-browser", *SAVE)
    session = running.end(f"what?\n{answer_of(desk, address_from(running))}\n")
    assert session.exit_code == 0, session.shown
    assert session.says("paste it here", "That is of no use", "kept in")
    assert desk.opens(Side.SOURCE, desk.tokens()["gmail"]["refresh_token"])
    assert not (desk.folder / "seen.html").exists()  # no browser was opened


def test_a_machine_without_a_display_is_known_by_itself(desk: Desk) -> None:
    running = desk.start("gmail", BROWSER="")
    session = running.end(answer_of(desk, address_from(running)) + "\n")
    assert session.exit_code == 0
    assert session.says("paste it here")


def test_a_pasted_answer_of_another_sign_in_is_refused_and_the_right_one_taken(desk: Desk) -> None:
    running = desk.start("gmail", "--no-browser")
    query = address_from(running)
    foreign = answer_of(desk, {**query, "state": "x" * 43})
    session = running.end(f"{foreign}\n{answer_of(desk, query)}\n")
    assert session.exit_code == 0
    assert session.says("That is of no use: it does not belong to this sign-in", "IMAP works")


def test_a_redirect_without_the_state_changes_nothing(desk: Desk) -> None:
    running = desk.start("gmail", "--no-browser")
    query = address_from(running)
    for attempt in ("?code=evil&state=guess", "?code=evil", "?state=" + query["state"], "?code=1&code=2", "favicon"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(query["redirect_uri"] + attempt, timeout=30)
        assert refused.value.code in (400, 404)
        refused.value.close()
    assert running.end(answer_of(desk, query) + "\n").exit_code == 0


def test_another_host_name_leads_nowhere(desk: Desk) -> None:
    running = desk.start("gmail", "--no-browser")
    request = urllib.request.Request(answer_of(desk, address_from(running)), headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    refused.value.close()
    assert refused.value.code == 404
    assert running.end(send=signal.SIGINT).exit_code == 130


def test_a_code_with_another_verifier_is_worthless(desk: Desk) -> None:
    running = desk.start("gmail", "--no-browser")
    query = address_from(running)
    session = running.end(answer_of(desk, {**query, "code_challenge": "of-somebody-else"}) + "\n")
    assert session.exit_code == 77
    assert session.says("(invalid_grant)")


def test_ctrl_c_ends_it_without_a_trace(desk: Desk) -> None:
    running = desk.start("gmail", "--no-browser")
    running.wait_for("paste it here")
    session = running.end(send=signal.SIGINT)
    assert session.exit_code == 130
    assert session.says("Stopped. Nothing was saved.")
    assert "Traceback" not in session.shown
    assert not (desk.folder / ".env").exists()


def test_a_closed_standard_input_is_no_trouble(desk: Desk) -> None:
    command = 'exec "$@" <&-'
    browser = shlex.join([sys.executable, browse.__file__, "allow", "%s"])
    done = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "-m", "syncer", "auth", "gmail"],
        env={**desk.environment, "BROWSER": browser},
        cwd=desk.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # which is for programs; people read stderr


def test_a_terminal_without_unicode_gets_plain_letters(desk: Desk) -> None:
    session = desk.sign_in("outlook", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert session.exit_code == 0, session.shown
    assert session.says("B7XK2QPLM", "ok IMAP works")
    assert session.shown.isascii()


def test_nobody_came_in_time(desk: Desk) -> None:
    session = desk.sign_in("gmail", "--no-browser", "--timeout", "1")
    assert session.exit_code == 77
    assert session.says("nobody signed in within 1 seconds", "Error 403 access_denied", "redirect_uri_mismatch")


# -- saving


def test_a_second_run_replaces_one_side_only(desk: Desk) -> None:
    assert desk.sign_in("gmail", *SAVE).exit_code == 0
    assert desk.sign_in("outlook", *SAVE).exit_code == 0
    before = desk.tokens()
    (desk.folder / "tokens.json").write_text(json.dumps({**before, "mine": 1}))
    assert desk.sign_in("gmail", *SAVE).exit_code == 0
    after = desk.tokens()
    assert after["outlook"] == before["outlook"]
    assert after["mine"] == 1
    assert after["gmail"]["refresh_token"] != before["gmail"]["refresh_token"]


def test_the_settings_say_where_to_save(desk: Desk) -> None:
    session = desk.sign_in("gmail", TOKENS_FILE="there.json")
    assert session.exit_code == 0
    assert session.says("kept in the file there.json")
    assert desk.opens(Side.SOURCE, desk.tokens("there.json")["gmail"]["refresh_token"])


def test_what_is_stored_wins_over_an_old_token_in_the_environment(desk: Desk) -> None:
    old = {"GMAIL_REFRESH_TOKEN": "1//old", "TOKENS_FILE": "tokens.json"}
    assert desk.sign_in("gmail", **old).exit_code == 0
    from syncer.config import load
    from syncer.token_store import environment_tokens, merge, store_of

    settings = {**desk.environment, **old, "AWS_REGION": "eu-central-1", "DYNAMODB_TABLE": "table"}
    settings["TOKENS_FILE"] = str(desk.folder / "tokens.json")
    config = load(environ=settings)
    counts = merge(store_of(config).load().of(Side.SOURCE), environment_tokens(config).of(Side.SOURCE))
    assert counts.refresh_token == desk.tokens()["gmail"]["refresh_token"] != "1//old"


def test_a_place_that_cannot_keep_it_is_known_before_anybody_signs_in(desk: Desk) -> None:
    (desk.folder / "tokens.json").write_text("{}")
    (desk.folder / "tokens.json").chmod(0o644)
    for place, said in (
        ("file:tokens.json", "the file tokens.json can be read by others"),
        ("file:no/where.json", "make the folder"),
        ("env:no/where", "make the folder"),
        ("nowhere", "--save has to be"),
        ("file:~nobody-of-that-name/x", "home folder that does not exist"),
        ("secretsmanager:x", "AWS_REGION is required"),
    ):
        session = desk.sign_in("gmail", "--save", place)
        assert session.exit_code == 78
        assert session.says(said)
    assert desk.authority.requests == ()


def test_the_env_file_keeps_its_other_lines_and_gets_private(desk: Desk) -> None:
    env = desk.folder / ".env"
    env.write_text(f"# mine\nOUTLOOK_EMAIL={OUTLOOK}  # hers\n\n#GMAIL_REFRESH_TOKEN=\nexport MS_CLIENT_ID='a b'\n")
    env.chmod(0o644)
    session = desk.sign_in("gmail")
    assert session.exit_code == 0
    assert session.says("could be read by others until now")
    lines = env.read_text().splitlines()
    assert [lines[0], lines[1], lines[2], lines[4]] == [
        "# mine",
        f"OUTLOOK_EMAIL={OUTLOOK}  # hers",
        "",
        "export MS_CLIENT_ID='a b'",
    ]
    assert lines[3].startswith("GMAIL_REFRESH_TOKEN=1//")
    assert stat.S_IMODE(env.stat().st_mode) == 0o600


def test_an_environment_variable_that_would_win_is_named(desk: Desk) -> None:
    session = desk.sign_in("gmail", GMAIL_REFRESH_TOKEN="1//old")
    assert session.exit_code == 0
    assert session.says("GMAIL_REFRESH_TOKEN in the environment wins over")
    assert "GMAIL_CLIENT_ID in the environment" not in session.shown  # which says the same
