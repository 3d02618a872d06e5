"""IDLE, over the fake Gmail and a real Dovecot: what wakes, what does not, and what a lost connection leads to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from syncer.clocks import elapsed
from syncer.cycle_state import Summary
from syncer.demo.authority import Authority
from syncer.errors import AuthError, SyncError, Throttled, Unavailable
from syncer.idle_watch import EAGER_TRIES, LONGEST_PAUSE_SECONDS, PROOF_SECONDS, REISSUE_SECONDS, IdleWatch
from syncer.imap_session import ImapSession
from syncer.model import Outcome, Side
from tests.fakes.faults import (
    FOREVER,
    OVER_QUOTA,
    TOO_MANY_CONNECTIONS,
    Action,
    Bye,
    Close,
    Delay,
    Raw,
    Reply,
    Stall,
    on,
)
from tests.fakes.gmail import FakeGmail
from tests.fakes.raw_client import GOOD, USER
from tests.fakes.relay import Relay
from tests.imap.doors import NO_WAITING, SignIn, dialect, endpoint
from tests.imap.dovecot import Dovecot
from tests.stack.pair import until

pytest_plugins = ["tests.fakes.fixtures", "tests.imap.door_fixtures"]

SOURCE = Side.SOURCE
MAIL = b"Message-ID: <1@example.com>\r\n\r\nBody\r\n"
ARRIVED = "17-Jul-2026 02:44:25 +0200"
CYCLE = ["EXAMINE", "IDLE"]
"""What a connection says to stand."""


# The command.


def heard_by(session: ImapSession) -> list[bytes]:
    heard: list[bytes] = []
    session.listen(lambda parts: heard.append(bytes(parts[0])))
    return heard


@pytest.fixture
def session(gmail: FakeGmail, sign_in: SignIn) -> ImapSession:
    """A session with its INBOX open, whose time-out is short."""
    made = sign_in(gmail.port, SOURCE, timeout=NO_WAITING)
    made.examine("INBOX").result()
    return made


def test_news_are_heard_while_it_stands_and_done_ends_it(gmail: FakeGmail, session: ImapSession) -> None:
    heard = heard_by(session)
    idle = session.idle()
    gmail.deliver(MAIL)
    until(lambda: b"* 1 EXISTS" in heard)
    idle.done()
    assert gmail.verbs()[-3:] == ["EXAMINE", "IDLE", "DONE"]
    session.noop()  # and the connection goes on
    assert gmail.malformed == []


def test_silence_is_no_fault_while_it_stands(session: ImapSession) -> None:
    idle = session.idle()
    threading.Event().wait(2 * NO_WAITING)
    assert session.alive
    idle.done()


def test_a_begin_that_comes_late_is_waited_for(gmail: FakeGmail, session: ImapSession) -> None:
    gmail.misbehave(on("IDLE"), Delay(NO_WAITING / 3))
    session.idle().done()


@pytest.mark.parametrize(
    ("verb", "deed", "reason"),
    [
        pytest.param("IDLE", Stall(), "no answer within", id="it never begins"),
        pytest.param("IDLE", Close(), "connection lost", id="cut instead of a begin"),
        pytest.param("IDLE", Reply("NO not now"), "IDLE refused", id="NO"),
        pytest.param("IDLE", Reply("BAD what?"), "IDLE refused", id="BAD"),
        pytest.param("IDLE", Raw(b"<tag> OK\r\n"), "ended IDLE by itself", id="over before it began"),
        pytest.param("DONE", Stall(), "no answer within", id="DONE is never answered"),
        pytest.param("DONE", Close(), "connection lost", id="cut instead of an answer to DONE"),
        pytest.param("DONE", Reply("NO never"), "IDLE refused", id="NO to DONE"),
        pytest.param("DONE", Bye("Server shutting down"), "BYE", id="BYE instead of an answer to DONE"),
    ],
)
def test_it_ends_in_time_whatever_the_server_does(
    gmail: FakeGmail, session: ImapSession, verb: str, deed: Action, reason: str
) -> None:
    gmail.misbehave(on(verb), deed)
    with pytest.raises(Unavailable, match=reason):
        session.idle().done()


@pytest.mark.parametrize("octets", [b"<tag> OK\r\n", b"+ again\r\n+ and again\r\n"])
def test_what_comes_unasked_is_no_answer_to_done(gmail: FakeGmail, session: ImapSession, octets: bytes) -> None:
    idle = session.idle()
    gmail.announce(octets)
    if octets.startswith(b"<"):
        with pytest.raises(Unavailable, match="protocol broken"):
            idle.ended.result(10)
    else:
        idle.done()


@pytest.mark.parametrize(
    ("bye", "error"),
    [("Session expired, please login again.", Throttled), ("Web login required: see the page", AuthError),
     ("System shutting down", Unavailable)],
)  # fmt: skip
def test_a_bye_says_what_is_to_be_done(
    gmail: FakeGmail, session: ImapSession, bye: str, error: type[SyncError]
) -> None:
    idle = session.idle()
    gmail.drop_connections(bye)
    with pytest.raises(error):
        idle.ended.result(10)


def test_closing_says_done_before_logout(gmail: FakeGmail, session: ImapSession) -> None:
    session.idle()
    session.close()
    until(lambda: gmail.verbs()[-1] == "LOGOUT")
    assert gmail.verbs()[-3:] == ["IDLE", "DONE", "LOGOUT"]
    assert gmail.malformed == []


# The watch.


class Daemon:
    """Everything around a watch: time that a test lets pass, cycles that end, and who is woken."""

    def __init__(self) -> None:
        self.wakes = 0
        self.slept = 0.0
        self.watch: IdleWatch

    def clock(self) -> float:
        return elapsed() + self.slept

    def wake(self) -> None:
        self.wakes += 1

    def cycle(self, outcome: Outcome = Outcome.OK, *, listed: int = 0, last_uid: int = 0) -> None:
        """Let a cycle end, which also has the watch look at the clock."""
        self.watch.ended(Summary(outcome, listed=listed, last_uid=last_uid))

    def later(self, seconds: float) -> None:
        """Let time pass, as a sleeping machine does."""
        self.slept += seconds
        self.watch._bell.put(None)

    def settle(self) -> None:
        """Wait until the watch has done what it has to do about all that happened: it comes back to its bell."""
        for _ in range(2):
            self.watch._bell.put(None)
            until(self.watch._bell.empty)


Watch = Callable[..., Daemon]


class Told(logging.Handler):
    """What the watch has logged; unlike caplog's, also what it logged while a fixture was made."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.reasons: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.reasons += [record.__dict__["reason"]] if "reason" in record.__dict__ else []
        self.events.append(record.__dict__["event"])


@pytest.fixture
def told() -> Iterator[Told]:
    """Listen to the watch."""
    logger, handler = logging.getLogger("syncer.idle_watch"), Told()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture
def watch(gmail: FakeGmail, trusted: None, _no_thread_is_left: None) -> Iterator[Watch]:
    """Start a watch of the fake Gmail's INBOX; it has seen no cycle yet."""
    with ExitStack() as stack:

        def start(port: int = 0, *, timeout: float = 5.0, user: str = USER, token: str = GOOD) -> Daemon:
            daemon = Daemon()

            def connect() -> ImapSession:
                where = endpoint(port or gmail.port, SOURCE, timeout)
                return ImapSession.connect(where, dialect(SOURCE), user, token, pause=lambda seconds: None)

            daemon.watch = IdleWatch(connect, "INBOX", daemon.wake, clock=daemon.clock)
            stack.enter_context(daemon.watch)
            return daemon

        yield start


@pytest.fixture
def standing(gmail: FakeGmail, watch: Watch, told: Told) -> Daemon:
    """A watch whose connection stands, over an INBOX of two messages that a cycle has copied."""
    for _ in range(2):
        gmail.deliver(MAIL)
    daemon = watch()
    daemon.cycle(last_uid=2)
    until(lambda: told.events == ["idle_started"])
    return daemon


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.OK])
def test_nothing_is_opened_before_a_cycle_has_ended_well(gmail: FakeGmail, watch: Watch, outcome: Outcome) -> None:
    daemon = watch()
    daemon.cycle(outcome)
    daemon.watch.ended(None)
    daemon.cycle(outcome)
    daemon.settle()
    assert gmail.connections == 0
    daemon.cycle()
    until(lambda: gmail.connections_in_idle == 1)


def test_mail_wakes_the_daemon(gmail: FakeGmail, standing: Daemon, told: Told) -> None:
    assert standing.wakes == 0
    gmail.deliver(MAIL)
    until(lambda: standing.wakes == 1)
    assert told.events == ["idle_started"]
    assert gmail.violations == []


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"* 1 FETCH (FLAGS (\\Seen))\r\n", id="flags"),
        pytest.param(b"* 2 EXISTS\r\n* 0 RECENT\r\n", id="as many as before"),
        pytest.param(b"* 1 EXPUNGE\r\n* 1 EXISTS\r\n", id="fewer"),
        pytest.param(b"* 1 EXISTS\r\n", id="fewer, without a word which"),
        pytest.param(b"* OK Still here\r\n", id="still here"),
        pytest.param(b"* FLAGS (\\Seen)\r\n* OK [UIDNEXT 9] so it is\r\n", id="noise"),
        pytest.param(b"* EXISTS\r\n* 99999999999 EXISTS\r\n* -3 EXISTS\r\n", id="nonsense"),
        pytest.param(b"+ idling\r\n+\r\n", id="begun once more"),
    ],
)
def test_what_is_no_new_mail_wakes_nobody(gmail: FakeGmail, standing: Daemon, octets: bytes) -> None:
    gmail.announce(octets)
    standing.later(REISSUE_SECONDS)
    until(lambda: gmail.verbs().count("IDLE") == 2)  # all of it was heard by now
    assert standing.wakes == 0


def test_mail_that_takes_the_place_of_what_went_wakes(gmail: FakeGmail, standing: Daemon) -> None:
    gmail.announce(b"* 1 EXPUNGE\r\n* 2 EXISTS\r\n")
    until(lambda: standing.wakes == 1)


def test_mail_that_came_between_the_cycle_and_the_connection_wakes(gmail: FakeGmail, watch: Watch) -> None:
    gmail.deliver(MAIL)
    daemon = watch()
    gmail.deliver(MAIL)
    daemon.cycle(last_uid=1)
    until(lambda: daemon.wakes == 1)


def test_it_is_issued_anew_before_it_grows_stale(gmail: FakeGmail, standing: Daemon) -> None:
    for round_ in (1, 2, 3):
        standing.later(REISSUE_SECONDS)
        until(lambda round_=round_: gmail.verbs().count("IDLE") == 1 + round_)  # type: ignore[misc]
    assert gmail.verbs(1)[-11:] == [*CYCLE, "DONE", *CYCLE, "DONE", *CYCLE, "DONE", *CYCLE]
    assert (gmail.connections, standing.wakes) == (1, 0)


def test_what_a_server_kept_quiet_is_found_when_it_is_issued_anew(gmail: FakeGmail, standing: Daemon) -> None:
    gmail.announces = False
    gmail.deliver(MAIL)
    standing.later(REISSUE_SECONDS)
    until(lambda: standing.wakes == 1)
    standing.later(REISSUE_SECONDS)
    until(lambda: gmail.verbs().count("IDLE") == 3)
    assert standing.wakes == 1


def test_a_mailbox_that_was_numbered_anew_wakes(gmail: FakeGmail, standing: Daemon) -> None:
    gmail.misbehave(on("DONE"), Bye("The mailbox is not what it was"))
    gmail.set_uidvalidity(77)
    standing.later(REISSUE_SECONDS)
    until(lambda: gmail.connections_in_idle == 0)
    standing.later(10)
    until(lambda: standing.wakes > 0)


def test_a_cycle_that_finds_what_was_not_announced_has_the_connection_tested(
    gmail: FakeGmail, watch: Watch, told: Told
) -> None:
    daemon = watch(timeout=NO_WAITING)
    daemon.cycle()
    until(lambda: gmail.connections_in_idle == 1)
    gmail.announces = False
    gmail.misbehave(on("DONE"), Stall())
    gmail.deliver(MAIL)
    daemon.cycle(listed=1, last_uid=1)
    until(lambda: "idle_lost" in told.events)
    assert told.reasons == [f"no answer within {NO_WAITING:g} s"]


def test_mail_that_was_announced_is_no_reason_to_test_it(gmail: FakeGmail, standing: Daemon) -> None:
    gmail.deliver(MAIL)
    until(lambda: standing.wakes == 1)
    standing.cycle(listed=1, last_uid=3)
    gmail.deliver(MAIL)
    until(lambda: standing.wakes == 2)
    standing.cycle(listed=1, last_uid=4)
    standing.settle()
    assert gmail.verbs().count("DONE") == 0


def test_after_the_machine_slept_the_connection_is_tested(gmail: FakeGmail, standing: Daemon) -> None:
    standing.later(60)
    until(lambda: gmail.verbs(1)[-3:] == ["DONE", *CYCLE])


def test_a_connection_that_died_in_silence_is_noticed_and_made_anew(gmail: FakeGmail, watch: Watch, told: Told) -> None:
    with Relay(gmail.port) as relay:
        daemon = watch(relay.port, timeout=NO_WAITING)
        daemon.cycle()
        until(lambda: gmail.connections_in_idle == 1)
        relay.black_hole()
        daemon.later(REISSUE_SECONDS)
        until(lambda: "idle_lost" in told.events)
        relay.heal()
        daemon.later(10)
        until(lambda: daemon.wakes == 1)  # the records are to be proved first
        assert gmail.connections == 1
        daemon.cycle()
        until(lambda: told.events[-1] == "idle_started")
        assert gmail.connections == 2


@pytest.mark.parametrize("bye", [None, "Server shutting down"])
def test_a_lost_connection_is_made_anew_after_a_cycle(
    gmail: FakeGmail, standing: Daemon, told: Told, bye: str | None
) -> None:
    standing.later(PROOF_SECONDS + 1)
    until(lambda: gmail.verbs().count("IDLE") == 2)
    gmail.drop_connections(bye)
    until(lambda: "idle_lost" in told.events)
    standing.later(10)
    until(lambda: standing.wakes == 1)
    assert gmail.connections == 1
    standing.cycle(last_uid=2)
    until(lambda: gmail.connections_in_idle == 1)
    assert told.events == ["idle_started", "idle_lost", "idle_started"]


def test_tries_come_after_pauses_that_grow_and_are_told_once(gmail: FakeGmail, watch: Watch, told: Told) -> None:
    gmail.misbehave(on("AUTHENTICATE"), Reply("NO [UNAVAILABLE] Temporary failure"), FOREVER)
    daemon = watch()
    pauses = []
    for tries in range(1, 12):
        daemon.cycle()
        until(lambda tries=tries: daemon.watch._failures == tries)  # type: ignore[misc]
        pauses.append(round(daemon.watch._not_before - daemon.clock()))
        daemon.later(pauses[-1] - 1)
        daemon.cycle()
        daemon.settle()
        assert gmail.connections == tries
        daemon.later(2)
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert told.events == ["idle_unavailable"]
    assert told.reasons == ["[UNAVAILABLE] Temporary failure"]


def test_after_some_tries_only_the_interval_leads_to_another(gmail: FakeGmail, watch: Watch) -> None:
    gmail.misbehave(on("AUTHENTICATE"), Close(), FOREVER)
    daemon = watch()
    for tries in range(1, EAGER_TRIES + 1):
        daemon.cycle()
        until(lambda tries=tries: daemon.watch._failures == tries)  # type: ignore[misc]
        daemon.later(LONGEST_PAUSE_SECONDS + 1)
        if tries < EAGER_TRIES:
            until(lambda tries=tries: daemon.wakes == tries)  # type: ignore[misc]
    daemon.later(LONGEST_PAUSE_SECONDS + 1)
    daemon.settle()
    assert daemon.wakes == EAGER_TRIES - 1


@pytest.mark.parametrize(
    ("deed", "seconds"),
    [
        pytest.param(TOO_MANY_CONNECTIONS, 600, id="too many connections"),
        pytest.param(OVER_QUOTA, 7200, id="over quota"),
        pytest.param(Reply("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)"), 300, id="refused"),
    ],
)
def test_a_provider_that_wants_peace_has_it(gmail: FakeGmail, watch: Watch, deed: Action, seconds: int) -> None:
    gmail.misbehave(on("AUTHENTICATE"), deed)
    daemon = watch()
    daemon.cycle()
    until(lambda: daemon.watch._failures == 1)
    daemon.later(seconds - 10)
    daemon.cycle()
    daemon.settle()
    assert (gmail.connections, daemon.wakes) == (1, 0)
    daemon.later(11)
    daemon.cycle()
    until(lambda: gmail.connections_in_idle == 1)


def test_a_server_that_does_not_offer_idle_is_told_of_once_and_left(gmail: FakeGmail, watch: Watch, told: Told) -> None:
    gmail.capabilities_after = gmail.capabilities_after.replace(" IDLE", "")
    daemon = watch()
    daemon.cycle()
    until(lambda: not daemon.watch._thread.is_alive())
    daemon.cycle()
    assert told.events == ["idle_unavailable"]
    assert told.reasons == ["the server does not offer IDLE"]
    assert (gmail.connections, gmail.verbs()[-1]) == (1, "LOGOUT")


@pytest.mark.parametrize("outcome", [Outcome.STATE_UNAVAILABLE, Outcome.THROTTLED, Outcome.AUTH_FAILED])
def test_it_is_closed_while_the_records_or_a_provider_cannot_be_used(
    gmail: FakeGmail, standing: Daemon, told: Told, outcome: Outcome
) -> None:
    standing.cycle(outcome)
    until(lambda: gmail.open_connections == 0)
    assert gmail.verbs()[-2:] == ["DONE", "LOGOUT"]
    assert told.reasons == [f"closed: {outcome}"]
    standing.later(REISSUE_SECONDS)
    standing.settle()
    assert (gmail.connections, standing.wakes) == (1, 0)
    standing.cycle(last_uid=2)
    until(lambda: gmail.connections_in_idle == 1)


@pytest.mark.parametrize(
    "outcome", [Outcome.LEASE_HELD, Outcome.SOURCE_UNAVAILABLE, Outcome.DESTINATION_UNAVAILABLE, Outcome.DEADLINE]
)
def test_it_stands_through_other_bad_cycles_but_wakes_nobody_until_one_ends_well(
    gmail: FakeGmail, standing: Daemon, outcome: Outcome
) -> None:
    standing.cycle(outcome)
    gmail.deliver(MAIL)
    standing.later(REISSUE_SECONDS)
    until(lambda: gmail.verbs().count("IDLE") == 2)
    assert (gmail.connections, standing.wakes) == (1, 0)
    standing.cycle(listed=1, last_uid=3)
    assert standing.wakes == 1  # for what that cycle may not have seen
    standing.cycle(last_uid=3)
    gmail.deliver(MAIL)
    until(lambda: standing.wakes == 2)


def test_a_bug_in_a_cycle_closes_nothing(gmail: FakeGmail, standing: Daemon) -> None:
    standing.watch.ended(None)
    standing.later(REISSUE_SECONDS)
    until(lambda: gmail.verbs().count("IDLE") == 2)


def test_the_end_says_done_and_logout(gmail: FakeGmail, standing: Daemon) -> None:
    standing.watch.__exit__()
    until(lambda: gmail.open_connections == 0)
    assert gmail.verbs()[-3:] == ["IDLE", "DONE", "LOGOUT"]
    assert not standing.watch._thread.is_alive()


# A real server.


@pytest.mark.dovecot
def test_mail_at_a_real_server_wakes_the_daemon(
    dovecot: Dovecot, dovecot_authority: Authority, watch: Watch, told: Told
) -> None:
    user = "idle@mail.example"
    dovecot.deliver(user, MAIL, ARRIVED)
    token = dovecot_authority.issue_access_token(dovecot_authority.add_account(SOURCE, user))
    daemon = watch(dovecot.port, user=user, token=token)
    daemon.cycle(last_uid=1)
    until(lambda: told.events == ["idle_started"])
    for arrivals in (1, 2):
        dovecot.deliver(user, MAIL, ARRIVED)
        until(lambda arrivals=arrivals: daemon.wakes == arrivals)  # type: ignore[misc]
        daemon.cycle(listed=1, last_uid=1 + arrivals)
        daemon.later(REISSUE_SECONDS)
    dovecot.delete(user, 2)
    daemon.settle()
    daemon.watch.__exit__()
    assert told.events == ["idle_started"]
    assert daemon.wakes == 2
