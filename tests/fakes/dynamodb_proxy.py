"""An HTTP proxy before moto, which does to requests what networks and AWS do; see ``dynamodb_faults``.

Requests reach moto one at a time: DynamoDB applies each one as a whole, moto does not.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from tests.fakes.dynamodb_faults import Answer, Delay, FaultPlan, Hang, Late, LostReply, Page, ReadOnly, Reset


class DynamoDBProxy(FaultPlan):
    """The proxy; a context manager.

    With ``honours_tokens``, a transaction whose ClientRequestToken was applied before is answered
    from memory, as AWS does; without, it is applied again, as moto does.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._upstream = (host, port)
        self.honours_tokens = False
        self._applied: dict[str, bytes] = {}
        self._closing = threading.Event()
        self._late: list[tuple[str, bytes, dict[str, str]]] = []
        self._one_at_a_time = threading.Lock()
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

    def let_late_ones_in(self) -> list[int]:
        """Apply the requests that were held back; return the status of each answer."""
        late, self._late = self._late, []
        return [self._forward(*request)[0] for request in late]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        operation = handler.headers.get("X-Amz-Target", "").rpartition(".")[2]
        fault = self.next_fault(operation, json.loads(body))
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
        with self._one_at_a_time:
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
