"""DynamoDB and Secrets Manager inside this process: moto's server, for the demo and the tests.

``EmbeddedAws`` listens on a free loopback port and prints nothing. What differs from running
moto's own ``ThreadedMotoServer``:

- Each instance is an AWS account of its own, empty at first and gone at the end. moto's memory
  belongs to the process, and two instances would share it.
- Requests are served one at a time. moto takes no lock between the check of a condition and the
  write, and the promises of this system rest on that step being one.
- Requests are counted by operation.
- ``stop`` ends the connections that clients keep open, and the threads that serve them.
"""

from __future__ import annotations

import contextlib
import copy
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from types import TracebackType
from typing import Any, Final, Self

from moto.backends import get_backend
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from syncer.demo.place import LOOPBACK

REGION: Final = "eu-west-1"
_PATIENCE_SECONDS: Final = 10.0
_SERVICES: Final = ("dynamodb", "secretsmanager")
_accounts = count(100_000_000_001)  # twelve digits, as AWS has them

_Environ = dict[str, Any]
_StartResponse = Callable[..., Any]


class EmbeddedAws:
    """The two AWS services at ``endpoint``, from ``start`` (or ``with``) to ``stop``."""

    def __init__(self, address: str = LOOPBACK.address) -> None:
        """``address`` is what it will listen on."""
        self.address = address
        self.requests: Counter[str] = Counter()
        """How often each operation was called: ``{"PutItem": 2}``. What was refused counts too."""
        self.account = str(next(_accounts))
        self._application = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen. Raises RuntimeError: it was started before."""
        if self._server is not None:
            raise RuntimeError("a server is started once")
        connections = self._connections

        class Handler(MotoRequestHandler):
            """Says nothing, and lets itself be found."""

            disable_nagle_algorithm = True  # headers and body go in two writes: 40 ms, if one waits for the other

            def setup(self) -> None:
                super().setup()
                connections[threading.current_thread()] = self.connection

            def finish(self) -> None:
                super().finish()
                connections.pop(threading.current_thread(), None)

            def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name werkzeug gives it
                """Drop it: the process has one log, which is not this server's."""

        self._server = make_server(self.address, 0, self._answer, threaded=True, request_handler=Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="aws", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End, with every connection. May be called again, and before ``start``."""
        if self._server is None or self._thread is None or not self._thread.is_alive():
            return
        self._server.shutdown()
        for thread, connection in list(self._connections.items()):
            with contextlib.suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(_PATIENCE_SECONDS)
        self._thread.join(_PATIENCE_SECONDS)
        for service in _SERVICES:
            get_backend(service).pop(self.account, None)

    @property
    def endpoint(self) -> str:
        """The URL of both services. Raises RuntimeError: not started."""
        if self._server is None:
            raise RuntimeError("the embedded AWS is not running")
        return f"http://{self.address}:{self._server.port}"

    def environment(self) -> dict[str, str]:
        """Return the variables with which any AWS SDK, and this system, uses these services."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "embedded",
            "AWS_SECRET_ACCESS_KEY": "embedded",
        }

    def _answer(self, environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
        """Count a request, and have moto answer it for this instance's account."""
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self.account
        with self._one_at_a_time:
            target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
            if target:
                self.requests[target.rpartition(".")[2]] += 1
            return list(self._application(environ, start_response))


def _transact(backend: DynamoDBBackend, actions: list[dict[str, Any]]) -> None:
    """Write all or nothing, as moto does, but keep only the items that are written for the way back.

    moto copies the whole table, once for every action, before each transaction: with a thousand messages
    in it, one transaction would take longer than any client waits.
    """
    kept = []
    for action in actions:
        for request in action.values():
            table = backend.tables.get(request.get("TableName"))
            key = request.get("Key") or request.get("Item") or {}
            if table is not None and key.keys() >= {table.hash_key_attr, table.range_key_attr}:
                partition = table.items[DynamoType(key[table.hash_key_attr])]
                sort = DynamoType(key[table.range_key_attr])
                kept.append((partition, sort, copy.deepcopy(partition.get(sort))))
    try:
        _transact_of_moto(backend, actions)
    except Exception:
        for partition, sort, item in kept:
            if item is None:
                partition.pop(sort, None)
            else:
                partition[sort] = item
        raise


def _itself(table: Table, _: object) -> Table:
    return table


_transact_of_moto = DynamoDBBackend.transact_write_items
# mypy knows these as what they were defined as; the process has no other use for moto than this module's.
setattr(DynamoDBBackend, "transact_write_items", _transact)  # noqa: B010
setattr(Table, "__deepcopy__", _itself)  # noqa: B010
