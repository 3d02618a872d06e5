"""What one cycle is given, has in hand, and leaves: the values that the engine's parts share."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from syncer.copy_flow import CopyFlow, EventQueue
from syncer.copy_job import Tally
from syncer.lease_keeper import LeaseKeeper
from syncer.ledger import Ledger
from syncer.model import FailRecord, Forecast, MessageKey, Outcome, Side, UidRecord, Watermark
from syncer.ports import Clock, Destination, Source, Spawn, StopSignal, Store
from syncer.progress import Progress

NOT_THERE: Final = "not in the source mailbox any more"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the engine has to know of the configuration; names as in the settings."""

    initial_sync: Literal["window", "new", "all", "since"]
    initial_since: float
    """For ``since``: the start of that day, UTC."""
    resync_window_hours: float
    max_message_bytes: int
    max_attempts: int
    in_doubt_settle_seconds: float
    lease_seconds: float
    messages_per_second: float
    """0 means no limit."""
    daily_bytes: int = 0
    """Fetched from the source; 0 means no limit."""
    source_mailbox: str = "INBOX"
    destination_mailbox: str = "Gmail"


@dataclass(frozen=True, slots=True)
class World:
    """What the engine works with; see ``ports``."""

    store: Store
    open_source: Callable[[], Source]
    """Connects and signs in. Raises Unavailable, Throttled, AuthError, ConfigError."""
    make_destination: Callable[[], Destination]
    """Makes it without connecting."""
    clock: Clock
    new_token: Callable[[], str]
    stop: StopSignal
    spawn_commit: Spawn
    spawn_confirm: Spawn
    on_progress: Callable[[int, int], None] | None = None
    new_queue: Callable[[], EventQueue] = queue.SimpleQueue
    """Makes what a cycle waits at; a simulation lets its own time pass there."""
    forecasts: Callable[[], Mapping[Side, Forecast]] = dict
    """What is foreseen of the refresh tokens, by now; nothing while nobody read them."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a cycle ended: the fields of ``cycle_finished``."""

    outcome: Outcome
    listed: int = 0
    copied: int = 0
    duplicates: int = 0
    failed: int = 0
    given_up: int = 0
    in_doubt: int = 0
    backlog: int = 0
    octets: int = 0
    last_uid: int = 0
    duration_ms: int = 0
    lag_seconds: int | None = None
    """The longest from INTERNALDATE to confirmed copy; None: nothing was copied."""
    in_doubt_oldest_seconds: int | None = None
    """For how long the oldest of what is in doubt has been so, 0 if nothing is; None: the cycle did not get to know."""
    faults: tuple[str, ...] = ()
    """Settings that turned out wrong only now."""
    remedy: str = ""
    """What a person has to do, for ``auth_failed``."""
    gmail_token_days_left: float | None = None
    """In how many days the refresh token ends, if that is known."""
    outlook_token_days_left: float | None = None


@dataclass(slots=True)
class CycleState:
    """What one cycle has in hand."""

    started_at: float
    found: Watermark
    progress: Progress
    keeper: LeaseKeeper
    ledger: Ledger
    tally: Tally
    source: Source | None = None
    destination: Destination | None = None
    flow: CopyFlow | None = None
    pending: dict[MessageKey, UidRecord] = field(default_factory=dict)
    """In doubt, to be looked for."""
    doubts: dict[MessageKey, float] | None = None
    """When each was claimed that an earlier cycle left in doubt and this one has not settled; None: not read yet."""
    failures: dict[MessageKey, FailRecord] = field(default_factory=dict)
    """Failed before, to be tried again now."""
    reopened: set[MessageKey] = field(default_factory=set)
    """Open without a claim: to be copied as if new."""
