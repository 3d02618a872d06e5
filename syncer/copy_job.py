"""What travels through a copy flow, and what it is counted by. Values, and nothing that decides."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from syncer.logging_utils import log_event
from syncer.model import CopyUid, FailRecord, MessageKey, SourceMessage, UidRecord, Unclaim

logger = logging.getLogger(__name__)

BROKE_OFF: Final = "the source breaks off when it is to serve it"
"""How the reason of a failure begins by which the connection ended: it is told by that, the record needs no more."""


@dataclass(frozen=True, slots=True)
class Job:
    """One message to copy."""

    message: SourceMessage
    failure: FailRecord | None = None
    """Earlier tries failed."""
    reclaim: UidRecord | None = None
    """Append again under this claim: its copy surely is not there."""

    @property
    def may_break(self) -> bool:
        """Tell whether the connection to the source ended when it was last fetched: it may do so again."""
        return self.failure is not None and self.failure.last_error.startswith(BROKE_OFF)


@dataclass(slots=True)
class Tally:
    """What happened in a cycle so far."""

    listed: int = 0
    copied: int = 0
    duplicates: int = 0
    failed: int = 0
    given_up: int = 0
    in_doubt: int = 0
    backlog: int = 0
    octets: int = 0
    unlisted: int = 0
    """UIDs of the source that were not listed yet."""
    lag_seconds: float | None = None
    """The longest from arrival to confirmed copy; None if nothing was copied."""


@dataclass(slots=True, eq=False)
class Item:
    """A message on its way."""

    job: Job
    started: float
    """By the elapsed clock."""
    body: bytes | bytearray = b""
    """Held from the fetch to the end of the APPEND."""
    octets: int = 0
    sha256: str = ""
    record: UidRecord | None = None
    """The claim, once there is one; before that, what it is going to be."""
    copy: CopyUid | None = None
    reason: str = ""
    """Why it was refused."""

    @property
    def key(self) -> MessageKey:
        """The message."""
        return self.job.message.key

    @property
    def claim(self) -> Unclaim | None:
        """What gives back the claim that the message has in the store; None if it has none."""
        held = self.record if self.record is not None and self.record.attempt else self.job.reclaim
        return None if held is None else Unclaim(held.key, held.attempt, held.identity)


def log_item(item: Item, level: int, event: str, elapsed: float, **fields: object) -> None:
    """Log what became of a message; ``elapsed`` is that clock now."""
    log_event(
        logger,
        level,
        event,
        uidvalidity=item.key.uidvalidity,
        uid=item.key.uid,
        bytes=item.octets or item.job.message.size,
        rfc822_sha256=item.sha256 or None,
        ms=round((elapsed - item.started) * 1000),
        **fields,
    )
