"""Access tokens: when one is asked for, what is saved when, and that none is lost or shown."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from syncer import logging_utils
from syncer.access_tokens import AccessTokens
from syncer.config import Config, load
from syncer.demo.authority import SERVER_BUSY, Account, Authority
from syncer.demo.certificates import Certificates
from syncer.errors import AuthError, ConfigError, Unavailable
from syncer.model import Side
from syncer.token_store import EnvTokens, FileTokens, SecretsManagerTokens, StoreUnavailable, TokenStore
from syncer.tokens import Refreshed, SideTokens, Tokens
from tests.fakes.secrets_manager import Secret

CANARY = "canary-7f3a9"
SOURCE, DESTINATION = Side.SOURCE, Side.DESTINATION
SETTINGS = {
    "GMAIL_EMAIL": "alice@gmail.com",
    "OUTLOOK_EMAIL": "bob@outlook.com",
    "AWS_REGION": "eu-central-1",
    "DYNAMODB_TABLE": "gmail-sync",
    "GMAIL_CLIENT_ID": "google-client",
    "GMAIL_CLIENT_SECRET": f"{CANARY}-gcs",
    "GMAIL_REFRESH_TOKEN": f"1//{CANARY}-R0",
    "MS_CLIENT_ID": "microsoft-client",
    "MS_REFRESH_TOKEN": f"M.C5_{CANARY}-R0",
}
START = 1_700_000_000.0


def config(**changes: str) -> Config:
    return load(environ={**SETTINGS, **changes})


class Clock:
    """A time that passes only when told to."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class Provider:
    """Both token endpoints as functions: count calls, rotate like Microsoft, fail when told to."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.used: dict[Side, list[str]] = {side: [] for side in Side}
        self.failure: Exception | None = None
        self.before_answer: Callable[[], None] = lambda: None

    def refreshers(self) -> dict[Side, Callable[[SideTokens], Refreshed]]:
        return {side: lambda known, side=side: self._refresh(side, known) for side in Side}  # type: ignore[misc]

    def calls(self, side: Side) -> int:
        return len(self.used[side])

    def _refresh(self, side: Side, known: SideTokens) -> Refreshed:
        self.used[side].append(known.refresh_token)
        self.before_answer()
        if self.failure is not None:
            raise self.failure
        count = len(self.used[side])
        rotated = f"{CANARY}-R{count}-{self.clock.time:.0f}" if side is DESTINATION else None
        return Refreshed(f"{CANARY}-{side}-A{count}-{self.clock.time:.0f}", self.clock.time + 3600, rotated)


class Watched:
    """A real store that counts, and fails when told to."""

    def __init__(self, inner: TokenStore) -> None:
        self.inner = inner
        self.loads = 0
        self.saves: list[Tokens] = []
        self.load_failure: Exception | None = None
        self.save_failure: Exception | None = None

    @property
    def read_only(self) -> bool:
        return self.inner.read_only

    @property
    def pause_seconds(self) -> float:
        return self.inner.pause_seconds

    def load(self) -> Tokens:
        self.loads += 1
        if self.load_failure is not None:
            raise self.load_failure
        return self.inner.load()

    def save(self, tokens: Tokens) -> None:
        if self.save_failure is not None:
            raise self.save_failure
        self.inner.save(tokens)
        self.saves.append(tokens)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(clock: Clock) -> Provider:
    return Provider(clock)


@pytest.fixture
def file(tmp_path: Path) -> Watched:
    return Watched(FileTokens(tmp_path / "tokens.json"))


@pytest.fixture
def secret() -> Iterator[Watched]:
    with mock_aws():
        boto3.client("secretsmanager", region_name="eu-central-1").create_secret(Name="tokens", SecretString="{}")
        yield Watched(SecretsManagerTokens("tokens", "eu-central-1", None))


@pytest.fixture
def log() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Return the log lines so far; none of them, at any level, may hold a secret."""
    stream = io.StringIO()
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    logging_utils.set_up("DEBUG", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger().handlers[:] = before
    logging.getLogger().setLevel(level)
    assert CANARY not in stream.getvalue()
    assert "alice" not in stream.getvalue()


@pytest.fixture
def made(clock: Clock, provider: Provider) -> Callable[..., AccessTokens]:
    """Return what a new process would have."""

    def make(store: TokenStore, settings: Config | None = None, *, read_only: bool = False) -> AccessTokens:
        return AccessTokens(
            settings or config(), store, refreshers=provider.refreshers(), now=clock, read_only=read_only
        )

    return make


Make = Callable[..., AccessTokens]
Log = Callable[[], list[dict[str, Any]]]


def events(log: Log) -> list[str]:
    return [line["event"] for line in log()]


# --- the cache ------------------------------------------------------------------------------


def test_making_it_contacts_nobody(made: Make, file: Watched, provider: Provider) -> None:
    made(file)
    assert (file.loads, provider.calls(SOURCE)) == (0, 0)


def test_a_token_is_used_until_five_minutes_before_its_end(
    made: Make, file: Watched, provider: Provider, clock: Clock
) -> None:
    tokens = made(file)
    first = tokens.get(SOURCE)
    clock.advance(3299)
    assert tokens.get(SOURCE) == first
    clock.advance(1)
    assert tokens.get(SOURCE) != first
    assert provider.calls(SOURCE) == 2


@pytest.mark.parametrize("kind", ["file", "secret"])
def test_the_next_process_needs_no_token_call(
    made: Make, provider: Provider, request: pytest.FixtureRequest, kind: str
) -> None:
    store = request.getfixturevalue(kind)
    first = made(store)
    handed_out = [first.get(SOURCE), first.get(DESTINATION)]
    first.flush()
    second = made(store)
    assert [second.get(SOURCE), second.get(DESTINATION)] == handed_out
    assert (provider.calls(SOURCE), provider.calls(DESTINATION)) == (1, 1)


def test_a_warm_process_asks_neither_store_nor_provider(
    made: Make, secret: Watched, provider: Provider, clock: Clock
) -> None:
    tokens = made(secret)
    for _ in range(5):
        for side in Side:
            tokens.get(side)
        tokens.flush()
        clock.advance(300)
    assert secret.loads == 1
    assert len(secret.saves) == 1
    assert (provider.calls(SOURCE), provider.calls(DESTINATION)) == (1, 1)


def test_the_stored_refresh_token_is_used_from_the_second_time_on(
    made: Make, file: Watched, provider: Provider, clock: Clock
) -> None:
    made(file).get(DESTINATION)
    clock.advance(3600)
    made(file).get(DESTINATION)
    assert provider.used[DESTINATION] == [SETTINGS["MS_REFRESH_TOKEN"], f"{CANARY}-R1-{START:.0f}"]


def test_googles_refresh_token_stays_where_none_comes_back(
    made: Make, file: Watched, provider: Provider, clock: Clock
) -> None:
    for _ in range(2):
        made(file).get(SOURCE)
        clock.advance(3600)
    assert provider.used[SOURCE] == [SETTINGS["GMAIL_REFRESH_TOKEN"]] * 2


def test_a_new_sign_in_wins_over_the_store(made: Make, file: Watched, provider: Provider) -> None:
    made(file).get(DESTINATION)
    made(file, config(MS_REFRESH_TOKEN=f"{CANARY}-again")).get(DESTINATION)
    assert provider.used[DESTINATION][1] == f"{CANARY}-again"


def test_no_client_library_is_imported_before_a_token_is_refreshed() -> None:
    """A cycle with a cached token, which is nearly every one, pays for none of them at its cold start."""
    program = (
        "import sys, syncer.access_tokens; print(sorted({'requests', 'msal', 'google', 'boto3'} & {*sys.modules}))"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


# --- rotation and saving -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "secret"])
def test_a_rotated_token_is_saved_before_the_access_token_is_handed_out(
    made: Make, request: pytest.FixtureRequest, kind: str, log: Log
) -> None:
    store = request.getfixturevalue(kind)
    access = made(store).get(DESTINATION)
    stored = store.inner.load().of(DESTINATION)
    assert stored.refresh_token == f"{CANARY}-R1-{START:.0f}"
    assert stored.access_token == access
    assert (stored.obtained_at, stored.expires_at) == (START, START + 3600)
    assert [line["side"] for line in log() if line["event"] == "token_rotated"] == ["destination"]


def test_both_sides_refreshed_in_one_run_cost_one_save_of_the_secret(made: Make, secret: Watched) -> None:
    tokens = made(secret)
    tokens.get(SOURCE)
    tokens.get(DESTINATION)
    tokens.flush()
    assert len(secret.saves) == 1
    assert all(secret.inner.load().of(side).access_token for side in Side)


def test_an_access_token_alone_is_saved_at_the_end_of_the_run(made: Make, secret: Watched) -> None:
    tokens = made(secret)
    tokens.get(SOURCE)
    assert secret.saves == []
    tokens.flush()
    assert len(secret.saves) == 1


def test_the_secret_is_not_saved_twice_within_ten_minutes_for_an_access_token(
    made: Make, secret: Watched, clock: Clock
) -> None:
    tokens = made(secret)
    tokens.get(SOURCE)
    tokens.flush()
    clock.advance(599)
    tokens.renew(SOURCE)
    tokens.flush()
    assert len(secret.saves) == 1
    clock.advance(1)
    tokens.flush()
    assert len(secret.saves) == 2


def test_a_rotated_token_does_not_wait_for_the_pause_of_the_other_side(
    made: Make, secret: Watched, clock: Clock
) -> None:
    tokens = made(secret)
    tokens.get(SOURCE)
    tokens.flush()
    clock.advance(10)
    tokens.get(DESTINATION)
    assert len(secret.saves) == 2


def test_a_token_rotated_twice_within_the_pause_waits_and_is_saved_after_it(
    made: Make, secret: Watched, clock: Clock, log: Log
) -> None:
    tokens = made(secret)
    tokens.get(DESTINATION)
    clock.advance(100)
    tokens.renew(DESTINATION)
    tokens.flush()
    assert len(secret.saves) == 1
    assert events(log).count("token_save_deferred") == 1
    clock.advance(500)
    tokens.get(DESTINATION)
    assert len(secret.saves) == 2
    assert secret.inner.load().of(DESTINATION).refresh_token == f"{CANARY}-R2-{START + 100:.0f}"


def test_two_days_of_cycles_stay_far_below_the_quota_of_versions(
    made: Make, secret: Watched, clock: Clock, provider: Provider
) -> None:
    """A new process every five minutes, mail in each: some 100 versions in 24 hours break Secrets Manager."""
    for _ in range(2 * 288):
        tokens = made(secret)
        for side in Side:
            tokens.get(side)
        tokens.flush()
        clock.advance(300)
    assert len(secret.saves) <= 2 * 30
    assert provider.calls(DESTINATION) <= 2 * 30
    assert secret.inner.load().of(DESTINATION).refresh_token.startswith(f"{CANARY}-R{provider.calls(DESTINATION)}-")


@pytest.mark.parametrize("kind", ["file", "secret"])
@pytest.mark.parametrize("failure", [StoreUnavailable("disk full"), ConfigError(["TOKENS_SECRET_ID: denied"])])
def test_a_failed_save_is_logged_and_made_good_at_the_next_opportunity(
    made: Make, request: pytest.FixtureRequest, kind: str, failure: Exception, log: Log, clock: Clock
) -> None:
    store = request.getfixturevalue(kind)
    tokens = made(store)
    store.save_failure = failure
    access = tokens.get(DESTINATION)
    tokens.flush()
    assert events(log).count("token_save_failed") == 2
    store.save_failure = None
    clock.advance(5)
    assert tokens.get(DESTINATION) == access
    stored = store.inner.load().of(DESTINATION)
    assert (stored.access_token, stored.refresh_token) == (access, f"{CANARY}-R1-{START:.0f}")


def test_what_could_not_be_saved_is_still_used_for_the_next_refresh(
    made: Make, file: Watched, provider: Provider, clock: Clock
) -> None:
    tokens = made(file)
    file.save_failure = StoreUnavailable("disk full")
    tokens.get(DESTINATION)
    clock.advance(3600)
    tokens.get(DESTINATION)
    assert provider.used[DESTINATION][1] == f"{CANARY}-R1-{START:.0f}"


def test_a_damaged_store_neither_stops_a_flush_nor_is_overwritten_by_it(made: Make, file: Watched, log: Log) -> None:
    tokens = made(file)
    file.save_failure = StoreUnavailable("disk full")
    tokens.get(DESTINATION)
    file.save_failure = None
    file.load_failure = ConfigError(["TOKENS_FILE can be read by others"])
    tokens.flush()
    assert tokens.get(DESTINATION)
    assert file.saves == []
    assert "token_save_failed" in events(log)


def test_a_time_from_a_wrong_clock_does_not_stop_saves_for_ever(made: Make, secret: Watched, clock: Clock) -> None:
    clock.advance(10**9)
    tokens = made(secret)
    tokens.get(DESTINATION)
    clock.advance(-(10**9))
    again = made(secret)
    again.renew(DESTINATION)
    assert len(secret.saves) == 2


# --- other runners ------------------------------------------------------------------------------


def test_what_another_runner_refreshed_meanwhile_is_taken(
    made: Make, file: Watched, provider: Provider, clock: Clock
) -> None:
    ours, theirs = made(file), made(file)
    ours.get(DESTINATION)
    clock.advance(3600)
    fresh = theirs.get(DESTINATION)
    assert ours.get(DESTINATION) == fresh
    assert provider.calls(DESTINATION) == 2


def test_a_save_does_not_undo_what_another_runner_saved_for_the_other_side(
    made: Make, file: Watched, clock: Clock
) -> None:
    ours, theirs = made(file), made(file)
    ours.get(DESTINATION)
    clock.advance(3600)
    theirs.get(DESTINATION)
    ours.get(SOURCE)
    assert file.inner.load().of(DESTINATION).refresh_token == f"{CANARY}-R2-{START + 3600:.0f}"


def test_a_newer_token_of_another_runner_wins_over_one_that_was_never_saved(
    made: Make, file: Watched, clock: Clock
) -> None:
    ours, theirs = made(file), made(file)
    file.save_failure = StoreUnavailable("disk full")
    ours.get(DESTINATION)
    file.save_failure = None
    clock.advance(10)
    fresh = theirs.get(DESTINATION)
    ours.flush()
    assert ours.get(DESTINATION) == fresh
    assert file.inner.load().of(DESTINATION).access_token == fresh


def beside(secret: Secret) -> SecretsManagerTokens:
    """Return a runner's own store on a secret that others use, too."""
    store = SecretsManagerTokens("tokens", "eu-central-1", None)
    store._client = secret
    return store


@pytest.mark.parametrize(("ours_first", "winner"), [(True, "theirs"), (False, "ours")])
def test_of_two_runners_that_save_at_once_the_newest_refresh_token_stays(
    made: Make, clock: Clock, log: Log, ours_first: bool, winner: str
) -> None:
    secret = Secret(clock)
    ours, theirs = made(beside(secret)), made(beside(secret))
    for tokens in (ours, theirs):
        tokens.get(SOURCE)
    clock.advance(3600)
    tokens_of: dict[str, str] = {}

    def meanwhile() -> None:
        clock.advance(5 if ours_first else -5)
        tokens_of["theirs"] = theirs.get(DESTINATION)
        clock.advance(-5 if ours_first else 5)

    secret.after["put_secret_value"] = meanwhile
    tokens_of["ours"] = ours.get(DESTINATION)
    stored = beside(secret).load()
    assert stored.of(DESTINATION).access_token == tokens_of[winner]
    assert ours.get(DESTINATION) == tokens_of[winner]
    assert "token_save_overtaken" in events(log)
    clock.advance(600)
    for tokens in (ours, theirs):
        tokens.flush()
    assert beside(secret).load().of(DESTINATION).access_token == tokens_of[winner]


def test_what_two_runners_save_at_once_for_different_sides_is_kept_of_both(made: Make, clock: Clock) -> None:
    secret = Secret(clock)
    ours, theirs = made(beside(secret)), made(beside(secret))

    def meanwhile() -> None:
        theirs.get(SOURCE)
        theirs.flush()

    secret.after["put_secret_value"] = meanwhile
    access = ours.get(DESTINATION)
    ours.flush()
    clock.advance(600)
    theirs.flush()
    ours.flush()
    stored = beside(secret).load()
    assert stored.of(DESTINATION).access_token == access
    assert stored.of(SOURCE).access_token
    assert len(secret.puts) <= 5


def test_a_new_sign_in_is_not_undone_by_a_runner_that_refreshed_the_old_grant_later(made: Make, clock: Clock) -> None:
    secret = Secret(clock)
    ours = made(beside(secret), config(TOKENS_SECRET_ID="tokens", GMAIL_REFRESH_TOKEN="", MS_REFRESH_TOKEN=""))
    old = SideTokens(client_id="c", client_secret="s", refresh_token="old", signed_in_at=START - 9, obtained_at=START)
    signing_in = beside(secret)
    signing_in.save(Tokens(dict.fromkeys(Side, old)))
    ours.get(SOURCE)
    clock.advance(3600)

    def meanwhile() -> None:
        signing_in.load()
        new = replace(old, refresh_token="new", signed_in_at=clock.time - 2, obtained_at=clock.time - 2)
        signing_in.save(Tokens(dict.fromkeys(Side, new)))

    secret.after["put_secret_value"] = meanwhile
    ours.get(DESTINATION)
    clock.advance(600)
    ours.flush()
    assert beside(secret).load().of(DESTINATION).refresh_token == "new"


def test_unknown_keys_of_the_store_survive(made: Make, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text('{"gmail": {"note": "mine"}, "since": 2024}')
    path.chmod(0o600)
    made(FileTokens(path)).get(SOURCE)
    content = json.loads(path.read_text())
    assert (content["gmail"]["note"], content["since"]) == ("mine", 2024)


# --- renewing ---------------------------------------------------------------------------------


def test_a_refused_token_is_renewed_though_it_would_last(made: Make, file: Watched, provider: Provider) -> None:
    tokens = made(file)
    refused = tokens.get(SOURCE)
    assert tokens.renew(SOURCE) != refused
    assert provider.calls(SOURCE) == 2


def test_two_threads_refused_with_one_token_cost_one_token_call(made: Make, file: Watched, provider: Provider) -> None:
    tokens = made(file)
    refused = tokens.get(DESTINATION)
    renewed = [tokens.renew(DESTINATION, refused) for _ in range(2)]
    assert renewed[0] == renewed[1] != refused
    assert provider.calls(DESTINATION) == 2


def test_threads_that_ask_at_the_same_time_share_one_refresh(made: Make, file: Watched, provider: Provider) -> None:
    tokens = made(file)
    together = threading.Barrier(4)
    got: list[str] = []

    def ask() -> None:
        together.wait(5)
        got.append(tokens.get(DESTINATION))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(got) == 4
    assert len(set(got)) == 1
    assert provider.calls(DESTINATION) == 1


# --- reading only -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "secret"])
def test_a_dry_run_leaves_the_store_alone(
    made: Make, request: pytest.FixtureRequest, kind: str, provider: Provider, clock: Clock
) -> None:
    store = request.getfixturevalue(kind)
    tokens = made(store, read_only=True)
    for _ in range(2):
        for side in Side:
            tokens.get(side)
        tokens.flush()
        clock.advance(3600)
    assert store.saves == []
    assert provider.used[DESTINATION][1] == f"{CANARY}-R1-{START:.0f}", "but it remembers"


def test_a_dry_run_uses_a_cached_token(made: Make, file: Watched, provider: Provider) -> None:
    access = made(file).get(SOURCE)
    assert made(file, read_only=True).get(SOURCE) == access
    assert provider.calls(SOURCE) == 1


def test_without_a_store_the_rotated_token_is_used_while_the_process_lives(
    made: Make, provider: Provider, clock: Clock, log: Log
) -> None:
    tokens = made(EnvTokens(config()))
    tokens.get(DESTINATION)
    clock.advance(3600)
    tokens.get(DESTINATION)
    tokens.flush()
    assert provider.used[DESTINATION] == [SETTINGS["MS_REFRESH_TOKEN"], f"{CANARY}-R1-{START:.0f}"]
    assert [line["kept"] for line in log() if line["event"] == "token_rotated"] == [False, False]
    assert "token_save_failed" not in events(log)


# --- failures ---------------------------------------------------------------------------------


def test_all_that_is_missing_in_settings_and_store_is_named_at_once(made: Make, file: Watched) -> None:
    bare = {name: "" for name in SETTINGS if name.startswith(("GMAIL_CLIENT", "GMAIL_REFRESH", "MS_"))}
    tokens = made(file, config(**bare, TOKENS_FILE="tokens.json"))
    with pytest.raises(ConfigError) as caught:
        tokens.get(SOURCE)
    assert len(caught.value.faults) == 5


def test_a_store_that_cannot_be_read_at_first_ends_the_run_and_is_tried_again(made: Make, secret: Watched) -> None:
    secret.load_failure = StoreUnavailable("Secrets Manager: ThrottlingException")
    tokens = made(secret)
    with pytest.raises(Unavailable) as caught:
        tokens.get(DESTINATION)
    assert caught.value.side is DESTINATION
    assert "ThrottlingException" in caught.value.reason
    secret.load_failure = None
    assert tokens.get(DESTINATION)


def test_a_store_that_cannot_be_read_again_does_not_stop_a_warm_process(
    made: Make, file: Watched, clock: Clock, log: Log
) -> None:
    tokens = made(file)
    tokens.get(SOURCE)
    clock.advance(3600)
    file.load_failure = StoreUnavailable("gone")
    assert tokens.get(SOURCE)
    assert "token_load_failed" in events(log)


@pytest.mark.parametrize("failure", [AuthError(SOURCE, "invalid_grant", "sign in"), Unavailable(SOURCE, "503")])
def test_a_failed_refresh_changes_nothing(made: Make, file: Watched, provider: Provider, failure: Exception) -> None:
    provider.failure = failure
    tokens = made(file)
    with pytest.raises(type(failure)):
        tokens.get(SOURCE)
    assert file.saves == []
    provider.failure = None
    assert tokens.get(SOURCE)


def test_one_sides_failure_leaves_the_other_side_working(made: Make, file: Watched, provider: Provider) -> None:
    tokens = made(file)
    access = tokens.get(SOURCE)
    provider.failure = AuthError(DESTINATION, "invalid_grant", "sign in")
    with pytest.raises(AuthError):
        tokens.get(DESTINATION)
    assert tokens.get(SOURCE) == access


# --- the whole of it ---------------------------------------------------------------------------


@pytest.fixture
def authority(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
    with Authority(certificates) as running:
        running.revokes_rotated = True  # stricter than the real one: who uses an old token is found out
        yield running


def signed_in(authority: Authority, gmail: Account, outlook: Account) -> Config:
    return config(
        GMAIL_CLIENT_ID=gmail.client_id,
        GMAIL_CLIENT_SECRET=gmail.client_secret,
        GMAIL_REFRESH_TOKEN=gmail.refresh_token,
        GMAIL_TOKEN_URI=authority.gmail_token_uri,
        MS_CLIENT_ID=outlook.client_id,
        MS_REFRESH_TOKEN=outlook.refresh_token,
        MS_AUTHORITY=authority.ms_authority,
    )


def test_with_real_requests_a_chain_of_processes_never_loses_the_grant(
    authority: Authority, tmp_path: Path, log: Log
) -> None:
    gmail = authority.add_account(SOURCE, "alice@gmail.com")
    outlook = authority.add_account(DESTINATION, "bob@outlook.com")
    settings = signed_in(authority, gmail, outlook)
    store = FileTokens(tmp_path / "tokens.json")
    for _ in range(3):
        tokens = AccessTokens(settings, store)
        assert authority.check("alice@gmail.com", tokens.get(SOURCE), SOURCE)
        assert authority.check("bob@outlook.com", tokens.get(DESTINATION), DESTINATION)
        tokens.get(DESTINATION)
        authority.expire_access_tokens()
        assert authority.check("bob@outlook.com", tokens.renew(DESTINATION), DESTINATION)
        assert authority.check("alice@gmail.com", tokens.renew(SOURCE), SOURCE)
        tokens.flush()
    assert authority.token_calls(DESTINATION) == 4, "one for the first process, one renewal for each"
    assert events(log).count("token_rotated") == 4
    shown = json.dumps(log())
    assert not any(request.refresh_token in shown for request in authority.requests if request.refresh_token)


def test_with_real_requests_a_revoked_grant_needs_a_person_and_a_bad_day_does_not(
    authority: Authority, tmp_path: Path
) -> None:
    gmail = authority.add_account(SOURCE, "alice@gmail.com")
    outlook = authority.add_account(DESTINATION, "bob@outlook.com")
    store = FileTokens(tmp_path / "tokens.json")
    tokens = AccessTokens(signed_in(authority, gmail, outlook), store)
    authority.answer_next(DESTINATION, SERVER_BUSY)
    with pytest.raises(Unavailable):
        tokens.get(DESTINATION)
    assert tokens.get(DESTINATION)
    authority.revoke(DESTINATION)
    with pytest.raises(AuthError):
        tokens.renew(DESTINATION)
    again = AccessTokens(signed_in(authority, gmail, authority.sign_in(outlook)), store)
    assert authority.check("bob@outlook.com", again.get(DESTINATION), DESTINATION)


def test_the_store_knows_when_somebody_signed_in_and_when_the_refresh_token_last_changed(
    made: Make, file: Watched, clock: Clock
) -> None:
    tokens = made(file)
    tokens.get(SOURCE)
    tokens.get(DESTINATION)
    clock.advance(86400)
    tokens.get(SOURCE)
    tokens.get(DESTINATION)

    kept = file.load()
    assert (kept.of(SOURCE).signed_in_at, kept.of(SOURCE).renewed_at) == (START, START)
    assert (kept.of(DESTINATION).signed_in_at, kept.of(DESTINATION).renewed_at) == (START, START + 86400)


# --- kept alive while nothing arrives ----------------------------------------------------------

DAY = 86400.0


@pytest.mark.parametrize("lives", [1, 288], ids=["a new process each time", "a process a day"])
def test_months_of_idle_cycles_keep_microsofts_token_alive(
    made: Make, file: Watched, clock: Clock, provider: Provider, lives: int
) -> None:
    """A cycle without mail asks for Gmail's token only; one that had not been renewed for 90 days would be dead."""
    for side in Side:
        made(file).get(side)
    youngest = 90.0
    for cycle in range(200 * 24):  # one an hour: a token call each
        if cycle % lives == 0:
            tokens = made(file)
        tokens.get(SOURCE)
        tokens.keep_alive()
        tokens.flush()
        left = tokens.forecasts()[DESTINATION].days_left(clock.time)
        assert left is not None
        youngest = min(youngest, left)
        clock.advance(3600)
    assert youngest > 82
    assert provider.calls(DESTINATION) <= 1 + 200 // 7 + 1
    assert file.load().of(DESTINATION).refresh_token.startswith(f"{CANARY}-R{provider.calls(DESTINATION)}-")


def test_a_cycle_with_cached_tokens_renews_nothing(made: Make, file: Watched, clock: Clock, provider: Provider) -> None:
    made(file).get(DESTINATION)
    clock.advance(8 * DAY)
    made(file).get(SOURCE)
    warm = made(file)
    warm.get(SOURCE)
    warm.keep_alive()
    assert provider.calls(DESTINATION) == 1


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (AuthError(DESTINATION, "invalid_grant", "sign in"), {"reason": "invalid_grant", "remedy": "sign in"}),
        (Unavailable(DESTINATION, "HTTP status 503"), {"reason": "HTTP status 503"}),
        (ConfigError(["MS_TENANT names a tenant that does not exist"]), {}),
    ],
)
def test_a_renewal_that_fails_stops_nothing_and_is_tried_again_with_the_next_token_call(
    made: Make, file: Watched, clock: Clock, provider: Provider, log: Log, failure: Exception, says: dict[str, str]
) -> None:
    made(file).get(DESTINATION)
    clock.advance(8 * DAY)
    tokens = made(file)
    tokens.get(SOURCE)
    provider.failure = failure
    tokens.keep_alive()
    tokens.keep_alive()
    (line,) = [line for line in log() if line["event"] == "token_renewal_failed"]
    assert says.items() <= line.items()
    assert line["side"] == "destination"
    assert provider.calls(DESTINATION) == 2

    provider.failure = None
    clock.advance(3600)
    tokens.get(SOURCE)
    tokens.keep_alive()
    assert provider.calls(DESTINATION) == 3
    assert file.load().of(DESTINATION).renewed_at == clock.time


def test_a_token_of_unknown_age_is_renewed_if_that_can_be_kept(made: Make, file: Watched, provider: Provider) -> None:
    tokens = made(EnvTokens(config()))
    tokens.get(SOURCE)
    tokens.keep_alive()
    assert provider.calls(DESTINATION) == 0, "each start would renew it, for nothing"
    tokens = made(file)
    tokens.get(SOURCE)
    tokens.keep_alive()
    assert provider.calls(DESTINATION) == 1


def test_a_daemon_without_a_store_lives_on_what_it_has_in_memory(made: Make, clock: Clock, provider: Provider) -> None:
    daemon = made(EnvTokens(config()))
    for side in Side:
        daemon.get(side)
    for _ in range(100):
        clock.advance(DAY)
        daemon.get(SOURCE)
        daemon.keep_alive()
    assert provider.calls(DESTINATION) > 10


# --- forecasts ------------------------------------------------------------------------------


def test_nothing_is_foreseen_before_the_tokens_are_read(made: Make, file: Watched) -> None:
    tokens = made(file)
    assert tokens.forecasts() == {}
    assert file.loads == 0


def test_of_tokens_that_only_the_environment_holds_nobody_knows_when_microsofts_ends(made: Make) -> None:
    tokens = made(EnvTokens(config()))
    for side in Side:
        tokens.get(side)
    foreseen = tokens.forecasts()
    assert foreseen[DESTINATION].ends_at is None
    assert foreseen[SOURCE].days_left(START) == 180


def test_googles_word_is_kept_until_it_says_otherwise(made: Make, file: Watched, clock: Clock) -> None:
    """A project in Testing: seven days from the sign-in, however often the token is used."""
    answers = [
        Refreshed("A1", START + 3600, None, START + 7 * DAY),
        Refreshed("A2", START + 4 * DAY, None),
        Refreshed("A3", START + 9 * DAY, None),
    ]
    given = iter(answers)
    tokens = AccessTokens(config(), file, refreshers={SOURCE: lambda _known: next(given)}, now=clock)
    left = []
    for at in (0, 3 * DAY, 8 * DAY):
        clock.time = START + at
        tokens.get(SOURCE)
        left.append(tokens.forecasts()[SOURCE].days_left(clock.time))
    assert left == [7.0, 4.0, 180.0], "it outlived its end: the word does not count any more"
    assert file.load().of(SOURCE).refresh_expires_at == 0
