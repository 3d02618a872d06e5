"""What Google and Microsoft refuse while somebody signs in: each code and number has its cause and its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer import sign_in_gmail, sign_in_outlook
from syncer.demo.authority import HTML_WELCOME_PAGE, SERVER_BUSY, Account, Answer
from syncer.demo.certificates import Certificates
from syncer.errors import AuthError, ConfigError, Unavailable
from syncer.model import Side
from syncer.sign_in import Client, SignInConfig, load_gmail, load_outlook
from tests.fakes.consent import SignInAuthority, microsoft_error

NO_ENV = Path("no-such-file.env")
CANARY = "canary-7f3a9"


@pytest.fixture
def authority(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[SignInAuthority]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
    with SignInAuthority(certificates) as running:
        running.signs_in_as = {
            Side.SOURCE: running.add_account(Side.SOURCE, "ada@gmail.com"),
            Side.DESTINATION: running.add_account(Side.DESTINATION, "ada@outlook.com"),
        }
        yield running


def google(authority: SignInAuthority) -> SignInConfig:
    return load_gmail(NO_ENV, {"GMAIL_EMAIL": "ada@gmail.com", "GMAIL_TOKEN_URI": authority.gmail_token_uri})


def client_of(account: Account) -> Client:
    return Client(account.client_id, account.client_secret, "a test")


def finish(authority: SignInAuthority, answer: dict[str, str]) -> None:
    request = sign_in_gmail.GmailRequest.new(client_of(authority.signs_in_as[Side.SOURCE]), "http://127.0.0.1:1/", "s")
    request.finish(google(authority), answer, pause=lambda _: None)


def microsoft(authority: SignInAuthority, tenant: str = "consumers") -> sign_in_outlook.MicrosoftSignIn:
    settings = {"OUTLOOK_EMAIL": "ada@outlook.com", "MS_AUTHORITY": authority.ms_authority, "MS_TENANT": tenant}
    config = load_outlook(NO_ENV, settings)
    return sign_in_outlook.MicrosoftSignIn(config, client_of(authority.signs_in_as[Side.DESTINATION]))


@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize("code", sign_in_gmail.REFUSALS)
def test_google_s_token_endpoint(authority: SignInAuthority, code: str, status: int) -> None:
    authority.answer_next(Side.SOURCE, Answer.of(status, error=code, error_description=CANARY))
    with pytest.raises(AuthError) as refused:
        finish(authority, {"code": "4/0"})
    reason, remedy = sign_in_gmail.REFUSALS[code]
    assert (refused.value.reason, refused.value.remedy) == (f"{reason} ({code})", remedy)


@pytest.mark.parametrize("code", sign_in_gmail.REFUSALS)
def test_google_s_answer_in_the_browser(authority: SignInAuthority, code: str) -> None:
    with pytest.raises(AuthError) as refused:
        finish(authority, {"error": code, "error_description": CANARY})
    assert refused.value.reason.endswith(f"({code})")
    assert authority.token_calls(Side.SOURCE) == 0


@pytest.mark.parametrize("code", ["temporarily_unavailable", "server_error", "<b>no code</b>"])
def test_google_s_bad_days_are_nobody_s_fault(authority: SignInAuthority, code: str) -> None:
    with pytest.raises(Unavailable) as told:
        finish(authority, {"error": code})
    assert "<b>" not in str(told.value)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"access_token": 7, "refresh_token": "1//x"},
        {"access_token": "a b", "refresh_token": "1//x"},
        {"access_token": ["x"], "refresh_token": "1//x", "expires_in": "soon"},
    ],
)
def test_an_answer_of_google_s_that_makes_no_sense_is_no_crash(
    authority: SignInAuthority, values: dict[str, object]
) -> None:
    authority.answer_next(Side.SOURCE, Answer.of(200, **values))
    with pytest.raises(Unavailable, match="malformed answer"):
        finish(authority, {"code": "4/0"})


@pytest.mark.parametrize("key", sign_in_outlook.REFUSALS)
def test_microsoft_s_device_code_endpoint(authority: SignInAuthority, key: int | str) -> None:
    answer = microsoft_error("invalid_request", key) if isinstance(key, int) else Answer.of(400, error=key)
    authority.scripted_device_code.append(answer)
    with pytest.raises(AuthError) as refused:
        microsoft(authority).ask_for_code()
    reason, remedy = sign_in_outlook.REFUSALS[key]
    assert refused.value.reason.startswith(reason)
    assert str(key) in refused.value.reason
    assert refused.value.remedy == remedy
    assert "Trace ID" not in refused.value.reason


@pytest.mark.parametrize("key", sign_in_outlook.REFUSALS)
def test_microsoft_s_answer_to_a_poll(authority: SignInAuthority, key: int | str) -> None:
    answer = microsoft_error("invalid_request", key) if isinstance(key, int) else Answer.of(400, error=key)
    authority.device_answers.append(answer)
    under_way = microsoft(authority)
    code = under_way.ask_for_code()
    with pytest.raises(AuthError) as refused:
        under_way.poll(code)
    assert refused.value.remedy == sign_in_outlook.REFUSALS[key][1]


@pytest.mark.parametrize("bad", [SERVER_BUSY, HTML_WELCOME_PAGE, microsoft_error("server_error", 90033)])
def test_microsoft_s_bad_days_are_nobody_s_fault(authority: SignInAuthority, bad: Answer) -> None:
    authority.scripted_device_code.append(bad)
    with pytest.raises(Unavailable):
        microsoft(authority).ask_for_code()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"user_code": 7, "device_code": "x", "verification_uri": "https://microsoft.com/link"},
        {"user_code": "A", "device_code": "x", "verification_uri": "http://evil.example"},
        {"user_code": "\x1b[2J", "device_code": "x", "verification_uri": "https://microsoft.com/link"},
        {"user_code": "A", "device_code": "x", "verification_uri": "https://microsoft.com/link", "interval": "soon"},
    ],
)
def test_a_code_that_makes_no_sense_is_not_shown(authority: SignInAuthority, values: dict[str, object]) -> None:
    authority.scripted_device_code.append(Answer.of(200, **values))
    with pytest.raises(Unavailable, match="malformed answer"):
        microsoft(authority).ask_for_code()


def test_a_tenant_that_does_not_exist_is_a_fault_of_the_settings(authority: SignInAuthority) -> None:
    authority.answer_next_discovery(microsoft_error("invalid_tenant", 90002))
    with pytest.raises(ConfigError, match="MS_TENANT=consumers"):
        microsoft(authority)


def test_a_refusal_in_microsoft_s_page_reaches_the_person(authority: SignInAuthority) -> None:
    under_way = microsoft(authority)
    under_way.browser_address("http://localhost:1/", "ours")
    described = {"error": "access_denied", "error_description": f"AADSTS65004: {CANARY} declined"}
    with pytest.raises(AuthError, match=r"the consent was not given \(access_denied AADSTS65004\)"):
        under_way.finish({**described, "state": "ours"})


def test_an_answer_with_another_state_is_not_exchanged(authority: SignInAuthority) -> None:
    under_way = microsoft(authority)
    under_way.browser_address("http://localhost:1/", "ours")
    with pytest.raises(Unavailable):
        under_way.finish({"code": "1", "state": "theirs"})
    assert authority.token_calls(Side.DESTINATION) == 0
