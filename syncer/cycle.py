"""The one place where the parts are put together: a ``Runner`` runs cycles with what ``Config`` says.

The command line, the daemon and the Lambda handler all run the same ``Runner``. It keeps between
cycles what is expensive to make or to learn (the DynamoDB client, access tokens, what the mail servers
offer), and makes nothing that a cycle does not use: mailboxes are connected by the engine, when it needs them.
"""

from __future__ import annotations

import gc
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Final

from syncer import logging_utils
from syncer.access_tokens import AccessTokens
from syncer.clocks import elapsed
from syncer.config import Config
from syncer.cycle_state import EngineSettings, Summary, World
from syncer.dynamodb_client import make_client
from syncer.dynamodb_records import partition_key
from syncer.dynamodb_state import DynamoDBState
from syncer.errors import SignInRefused
from syncer.gmail_imap import GmailDialect, GmailMailbox
from syncer.imap_session import ADVERTISED, Acquaintance, Dialect, ImapSession
from syncer.model import (
    EXIT_CONFIG,
    EXIT_FINDINGS,
    EXIT_NOT_NOW,
    EXIT_OK,
    EXIT_SIGN_IN,
    Decision,
    Endpoint,
    Outcome,
    Side,
)
from syncer.outlook_imap import OutlookDialect, OutlookMailbox
from syncer.ports import Clock, StopSignal
from syncer.sync_engine import SyncEngine
from syncer.token_store import store_of

if TYPE_CHECKING:  # a schedule starts cycles all day long: it does not pay for what people run by hand
    from syncer.adopt import AdoptReport
    from syncer.audit import AuditReport
    from syncer.backfill import BackfillReport
    from syncer.decision import Doubts, SettleReport
    from syncer.retry import RetryReport
    from syncer.status import Status

_CLOCK: Final = Clock(now=time.time, elapsed=elapsed)
_EXIT_CODES: Final = {
    Outcome.OK: EXIT_OK,
    Outcome.LEASE_HELD: EXIT_OK,
    Outcome.DEADLINE: EXIT_OK,
    Outcome.STOPPED: EXIT_OK,
    Outcome.AUTH_FAILED: EXIT_SIGN_IN,
}


def exit_code(summary: Summary) -> int:
    """Return the exit code that tells how a cycle ended (see the README)."""
    return EXIT_CONFIG if summary.faults else _EXIT_CODES.get(summary.outcome, EXIT_NOT_NOW)


def work_exit_code(report: AuditReport | AdoptReport | BackfillReport | RetryReport | SettleReport) -> int:
    """Return the exit code of work that a person asked for: that another run holds the lease is no success of it."""
    if report.faults:
        return EXIT_CONFIG
    if report.outcome is Outcome.OK:
        return EXIT_OK
    return EXIT_SIGN_IN if report.outcome is Outcome.AUTH_FAILED else EXIT_NOT_NOW


def retry_exit_code(report: RetryReport | SettleReport, tried: Summary | None = None) -> int:
    """Return the exit code of work about UIDs that a person named, and of the cycle that followed, if one was run."""
    if report.outcome is not Outcome.OK:
        return work_exit_code(report)
    if report.unknown:
        return EXIT_FINDINGS
    return EXIT_OK if tried is None else exit_code(tried)


def audit_exit_code(report: AuditReport, repair: Summary | None = None) -> int:
    """Return the exit code of an audit, and of the cycle that repaired what it found, if one was run."""
    if report.outcome is not Outcome.OK:
        return work_exit_code(report)
    if repair is None:
        return EXIT_OK if report.is_clean else EXIT_FINDINGS
    if repair.outcome is not Outcome.OK or repair.faults:
        return exit_code(repair) or EXIT_NOT_NOW
    is_mended = not (repair.failed or repair.in_doubt or repair.backlog)
    return EXIT_OK if is_mended and report.is_clean_but_for_missing else EXIT_FINDINGS


class Runner:
    """Runs cycles, one after the other. Close it, or use it as a context manager."""

    def __init__(
        self,
        config: Config,
        *,
        stop: StopSignal = lambda: None,
        on_progress: Callable[[int, int], None] | None = None,
        dry_run: bool = False,
        clock: Clock = _CLOCK,
    ) -> None:
        """Contact nobody yet. ``stop`` is asked before anything new is started; see ``ports``."""
        self._config = config
        self._clock = clock
        self._stop = stop
        self._on_progress = on_progress
        self._dry_run = dry_run
        self._store: DynamoDBState | None = None
        self._store_lock = threading.Lock()
        self._bound: str | None = None
        """The run id that is in every log line now."""
        self._tokens = AccessTokens(config, store_of(config), now=clock.now, read_only=dry_run)
        self._known = {side: Acquaintance(ADVERTISED) for side in Side}
        # One thread each: claims in their order beside confirmations in theirs.
        self._commits = ThreadPoolExecutor(1, "commit")
        self._confirmations = ThreadPoolExecutor(1, "confirm")

    def __enter__(self) -> Runner:
        """Return itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._commits.shutdown()
        self._confirmations.shutdown()

    def prepare(self) -> None:
        """Make what every cycle needs, without contacting anybody, where that is cheaper before the first.

        Raises ConfigError, StateUnavailable: as the first cycle would.
        """
        self._state()

    def run(self) -> Summary:
        """Run one cycle under a run id of its own. Raises nothing that is not a bug."""
        with self._run_id() as run_id:
            engine = SyncEngine(self._world(), _engine_settings(self._config), run_id)
            return engine.dry_run() if self._dry_run else engine.run()

    def audit(self, *, days: float, repair: bool = False) -> AuditReport:
        """Compare mailboxes and records; with ``repair``, have the next cycle copy what is missing."""
        from syncer.audit import Audit

        with self._run_id() as run_id:
            return Audit(self._world(), _engine_settings(self._config), run_id, days=days, repair=repair).run()

    def adopt(self, *, since: date | None = None) -> AdoptReport:
        """Rebuild the records from both mailboxes; what arrived before ``since`` (UTC) is not wanted."""
        from syncer.adopt import Adoption

        moment = _start_of(since) if since is not None else 0.0
        with self._run_id() as run_id:
            return Adoption(self._world(), _engine_settings(self._config), run_id, since=moment).run()

    def backfill(self, *, since: date, until: date | None, pause: Callable[[float], bool]) -> BackfillReport:
        """Copy what arrived from the one day to the other (UTC, both included); ``pause`` as in ``Backfill``."""
        from syncer.backfill import Backfill, OnProgress

        def cycle(on_progress: OnProgress | None) -> Summary:
            with self._run_id() as run_id:
                return SyncEngine(self._world(on_progress), _engine_settings(self._config), run_id).run()

        last = _start_of(until) if until is not None else self._clock.now()
        with self._run_id() as run_id:
            work = Backfill(
                self._world(self._on_progress),
                _engine_settings(self._config),
                run_id,
                since=_start_of(since),
                until=last + 86_400.0,
                cycle=cycle,
                pause=pause,
            )
            return work.dry_run() if self._dry_run else work.run()

    def retry(self, uids: Collection[int] = ()) -> RetryReport:
        """Make failed messages due now: these, or all."""
        from syncer.retry import Retry

        with self._run_id() as run_id:
            return Retry(self._world(), _engine_settings(self._config), run_id, uids=uids).run()

    def doubts(self, uids: Collection[int], *, uidvalidity: int | None = None) -> Doubts:
        """Return what is known of messages in doubt; see ``look_up``. Raises StateUnavailable, LeaseHeld."""
        from syncer.decision import look_up

        return look_up(self._state(), uids, self._clock.now(), uidvalidity=uidvalidity)

    def settle(self, doubts: Doubts, decision: Decision) -> SettleReport:
        """Have what is in doubt decided as a person says who saw ``doubts``."""
        from syncer.decision import Settlement

        with self._run_id() as run_id:
            return Settlement(self._world(), _engine_settings(self._config), run_id, doubts, decision).run()

    def status(self) -> Status:
        """Return how things stand, from the records alone; safe beside a cycle.

        Raises StateUnavailable, ConfigError.
        """
        from syncer.status import gather

        return gather(self._state(), self._clock.now())

    @contextmanager
    def _run_id(self) -> Iterator[str]:
        """Bind a run id of its own to what is logged, and save tokens at the end."""
        run_id, outer = str(uuid.uuid4()), self._bound
        self._bound = run_id
        logging_utils.bind(run_id=run_id)
        try:
            yield run_id
        finally:
            if not self._dry_run and self._stop() is None:
                self._tokens.keep_alive()
            self._tokens.flush()
            self._bound = outer
            logging_utils.bind(run_id=outer)

    def _world(self, on_progress: Callable[[int, int], None] | None = None) -> World:
        return World(
            store=self._state(),
            open_source=self._open_source,
            make_destination=self._make_destination,
            clock=self._clock,
            new_token=lambda: uuid.uuid4().hex,
            stop=self._stop,
            spawn_commit=self._commits.submit,
            spawn_confirm=self._confirmations.submit,
            on_progress=on_progress or self._on_progress,
            forecasts=self._tokens.forecasts,
        )

    def _state(self) -> DynamoDBState:
        with self._store_lock:  # the status page asks from a thread of its own
            if self._store is None:
                config = self._config
                self._store = DynamoDBState(
                    make_client(config.aws_region, config.aws_endpoint_url),
                    config.dynamodb_table,
                    partition_key(config.gmail_email, config.outlook_email),
                    lease_seconds=config.lease_seconds,
                    uid_ttl_days=config.uid_ttl_days,
                    fail_ttl_days=config.fail_ttl_days,
                )
                # What was imported and made up to here stays: the garbage collector need not walk through it again.
                if not gc.get_freeze_count():
                    gc.freeze()
            return self._store

    def sign_in_to_source(self) -> ImapSession:
        """Connect to the source and sign in, with the cycles' own tokens; safe beside a cycle.

        Only for who knows that the records can be used: state comes first.
        Raises Unavailable, Throttled, AuthError, ConfigError.
        """
        return self._sign_in(self._config.endpoint(Side.SOURCE), GmailDialect(), self._config.gmail_email)

    def _open_source(self) -> GmailMailbox:
        return GmailMailbox(self.sign_in_to_source(), self._config.gmail_source_folder, self._config.max_message_bytes)

    def _make_destination(self) -> OutlookMailbox:
        config = self._config
        return OutlookMailbox(
            lambda: self._sign_in(config.endpoint(Side.DESTINATION), OutlookDialect(), config.outlook_email),
            config.outlook_target_folder,
            create=config.outlook_create_folder,
            mark_seen=config.outlook_mark_seen,
            connections=config.outlook_connections,
        )

    def _sign_in(self, where: Endpoint, dialect: Dialect, user: str) -> ImapSession:
        """Connect with the cached access token; if it is refused, once more with a new one."""
        token, known = self._tokens.get(dialect.side), self._known[dialect.side]
        try:
            return ImapSession.connect(where, dialect, user, token, known=known)
        except SignInRefused:
            return ImapSession.connect(where, dialect, user, self._tokens.renew(dialect.side, token), known=known)


def _engine_settings(config: Config) -> EngineSettings:
    since = config.initial_sync.since
    return EngineSettings(
        initial_sync=config.initial_sync.kind,
        initial_since=_start_of(since) if since is not None else 0.0,
        resync_window_hours=config.resync_window_hours,
        max_message_bytes=config.max_message_bytes,
        max_attempts=config.max_attempts,
        in_doubt_settle_seconds=config.in_doubt_settle_seconds,
        lease_seconds=config.lease_seconds,
        messages_per_second=config.outlook_max_messages_per_second,
        daily_bytes=config.gmail_daily_bytes,
        source_mailbox=config.gmail_source_folder,
        destination_mailbox=config.outlook_target_folder,
    )


def _start_of(day: date) -> float:
    """Return when a day begins, UTC."""
    return datetime.combine(day, time_of_day(), UTC).timestamp()
