"""An HTTP proxy before a DynamoDB stand-in, which does to requests what networks and AWS do.

Faults are planned per operation, and each serves one request::

    proxy.plan("UpdateItem", LOST_REPLY)               # the next one is applied, its reply is not seen
    proxy.plan("TransactWriteItems", None, THROTTLED)  # the next passes, the one after is throttled
    proxy.plan_always("GetItem", DENIED)

Requests reach the stand-in one at a time: DynamoDB applies each one as a whole, moto does not.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import zlib
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final


@dataclass(frozen=True)
class Answer:
    """Answer with an error instead of passing the request on."""

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
    """Say nothing until the proxy closes."""


@dataclass(frozen=True)
class Delay:
    """Pass the request on after ``seconds``."""

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


class DynamoDBProxy:
    """The proxy; a context manager. ``calls`` are the operations that arrived, in order.

    With ``honours_tokens``, a transaction whose ClientRequestToken was applied before is answered
    from memory, as AWS does; without, it is applied again, as moto does.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self.honours_tokens = False
        self._applied: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self._plans: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self._closing = threading.Event()
        self._late: list[tuple[str, bytes, dict[str, str]]] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one packet: in two, each answer waits 40 ms for an acknowledgement.
            wbufsize = -1
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing."""

            def do_POST(self) -> None:
                proxy._serve(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> DynamoDBProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

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

    def let_late_ones_in(self) -> list[int]:
        """Apply the requests that were held back; return the status of each answer."""
        late, self._late = self._late, []
        return [self._forward(*request)[0] for request in late]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        operation = handler.headers.get("X-Amz-Target", "").rpartition(".")[2]
        with self._lock:
            self.calls.append(operation)
            self.bodies.append(json.loads(body))
            planned = self._plans[operation]
            fault = planned.popleft() if planned else self._always.get(operation)
        dropped = ("host", "content-length", "connection")
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in dropped}
        if isinstance(fault, Hang):
            self._closing.wait()
        elif isinstance(fault, Delay):
            self._closing.wait(fault.seconds)
        elif isinstance(fault, Late):
            self._late.append((handler.path, body, headers))
        elif isinstance(fault, LostReply):
            self._forward(handler.path, body, headers)
        if isinstance(fault, (Hang, Late, LostReply, Reset)):
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif isinstance(fault, Answer):
            _reply(handler, fault.status, fault.body())
        elif isinstance(fault, Page):
            _reply(handler, 200, fault.body)
        elif isinstance(fault, ReadOnly):
            _reply(handler, *self._read_some(handler.path, body, headers, fault.keys))
        else:
            _reply(handler, *self._forward(handler.path, body, headers))

    def _read_some(self, path: str, body: bytes, headers: dict[str, str], keys: int) -> tuple[int, bytes]:
        request = json.loads(body)
        ((table, wanted),) = request["RequestItems"].items()
        left = {**wanted, "Keys": wanted["Keys"][keys:]}
        if keys == 0:
            return 200, json.dumps({"Responses": {table: []}, "UnprocessedKeys": {table: left}}).encode()
        some = json.dumps({"RequestItems": {table: {**wanted, "Keys": wanted["Keys"][:keys]}}}).encode()
        status, answer = self._forward(path, some, headers)
        return status, json.dumps({**json.loads(answer), "UnprocessedKeys": {table: left}}).encode()

    def _forward(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        token = json.loads(body).get("ClientRequestToken", "") if self.honours_tokens else ""
        with self._lock:
            if token in self._applied:
                return 200, self._applied[token]
            upstream = http.client.HTTPConnection(*self._upstream, timeout=30)
            try:
                upstream.request("POST", path, body, headers)
                answer = upstream.getresponse()
                said = answer.read()
                if token and answer.status == 200:
                    self._applied[token] = said
                return answer.status, said
            finally:
                upstream.close()


def _reply(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/x-amz-json-1.0")
    handler.send_header("x-amz-crc32", str(zlib.crc32(body)))
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
