"""What networks and AWS do to DynamoDB requests: a vocabulary, and the plan of which request gets what.

Faults are planned per operation, and each serves one request::

    server.plan("UpdateItem", LOST_REPLY)               # the next one is applied, its reply is not seen
    server.plan("TransactWriteItems", None, THROTTLED)  # the next passes, the one after is throttled
    server.plan_always("GetItem", DENIED)
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Answer:
    """Answer with an error instead of applying the request."""

    status: int
    code: str
    message: str = "injected"
    more: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        kind = f"com.amazonaws.dynamodb.v20120810#{self.code}"
        return json.dumps({"__type": kind, "message": self.message, **self.more}).encode()


@dataclass(frozen=True)
class Page:
    """Answer 200 with ``body``, as a captive portal does."""

    body: bytes


@dataclass(frozen=True)
class Reset:
    """Cut the connection before the request is applied."""


@dataclass(frozen=True)
class LostReply:
    """Apply the request, then cut the connection."""


@dataclass(frozen=True)
class Hang:
    """Say nothing until the server closes."""


@dataclass(frozen=True)
class Delay:
    """Apply the request after ``seconds``."""

    seconds: float


@dataclass(frozen=True)
class Late:
    """Cut the connection now, and apply the request only when ``let_late_ones_in`` is called."""


@dataclass(frozen=True)
class ReadOnly:
    """Of a BatchGetItem, read the first ``keys`` only and hand the others back as unprocessed."""

    keys: int


Fault = Answer | Page | Reset | LostReply | Hang | Delay | Late | ReadOnly | None

THROTTLED: Final = Answer(400, "ProvisionedThroughputExceededException")
SERVER_ERROR: Final = Answer(500, "InternalServerError")
CONFLICT: Final = Answer(400, "TransactionConflictException")
IN_PROGRESS: Final = Answer(400, "TransactionInProgressException")
DENIED: Final = Answer(
    400,
    "AccessDeniedException",
    "User: arn:aws:iam::123456789012:user/canary-user is not authorized to perform: dynamodb:PutItem on resource: x",
)


def cancelled(*codes: str) -> Answer:
    """Return the answer that cancels a transaction, with one code for each action."""
    reasons = [{"Code": code} for code in codes]
    return Answer(400, "TransactionCanceledException", more={"CancellationReasons": reasons})


class FaultPlan:
    """Which request gets which fault, and what was asked; ``calls`` are the operations that arrived, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self._plans: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self._lock = threading.Lock()

    def plan(self, operation: str, *faults: Fault) -> None:
        """Give the next requests of ``operation`` these faults, one each; None lets one pass."""
        with self._lock:
            self._plans[operation].extend(faults)

    def plan_always(self, operation: str, fault: Fault) -> None:
        """Give every request of ``operation`` that has no fault of its own this one."""
        self._always[operation] = fault

    def heal(self) -> None:
        """Forget every planned fault and what was counted."""
        with self._lock:
            self._plans.clear()
            self._always.clear()
            self.calls.clear()
            self.bodies.clear()

    def next_fault(self, operation: str, request: dict[str, Any]) -> Fault:
        """Count a request, and return what is to be done to it."""
        with self._lock:
            self.calls.append(operation)
            self.bodies.append(request)
            planned = self._plans[operation]
            return planned.popleft() if planned else self._always.get(operation)
