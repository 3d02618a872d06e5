"""Distance and slowness for mail servers on loopback, in a process apart from what is measured.

``python -m bench.distance relay:PORT:ONE_WAY_MS slow:PORT:APPEND_MS ...`` prints a port for each, a line each, and
serves until its standard input ends. ``relay`` passes TLS through and delays it. ``slow`` is a server with
TLS (certificate and key as ``--certificate`` and ``--key``) before a listener without: it lets each
APPEND of a connection be answered only so many milliseconds after the one before it, as a server does
that takes so long to store a message.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from syncer.demo.certificates import Certificates
from tests.fakes.relay import Relay

_APPENDED = re.compile(rb"\S+ (?:OK \[APPENDUID|OK \[TRYCREATE|OK Append)", re.IGNORECASE)
_PIECE = 1 << 16


class SlowAppends:
    """The ``slow`` server; runs an event loop in a thread of its own."""

    def __init__(self, to_port: int, milliseconds: float, certificate: Path, key: Path) -> None:
        self._to_port = to_port
        self._seconds = milliseconds / 1000
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    async def _start(self) -> int:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return int(server.sockets[0].getsockname()[1])

    async def _serve(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            from_server, server = await asyncio.open_connection("127.0.0.1", self._to_port)
            answering = asyncio.ensure_future(self._answer(from_server, client))
            try:
                while octets := await from_client.read(_PIECE):
                    server.write(octets)
                    await server.drain()
            finally:
                server.close()
                await answering

    async def _answer(self, from_server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        free_at = 0.0
        with contextlib.suppress(OSError):
            while line := await from_server.readline():
                if _APPENDED.match(line):
                    # One after the other: the server stores nothing while it stores something else.
                    free_at = max(free_at, self._loop.time()) + self._seconds
                    await asyncio.sleep(free_at - self._loop.time())
                client.write(line)
                await client.drain()
        client.close()


@contextlib.contextmanager
def ports(specifications: Sequence[str], issued: Certificates) -> Iterator[list[int]]:
    """Run the process, and yield its ports."""
    files = [f"--certificate={issued.server}", f"--key={issued.key}"]
    command = [sys.executable, "-m", "bench.distance", *files, *specifications]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield [int(process.stdout.readline()) for _ in specifications]
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("specification", nargs="+")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        for specification in options.specification:
            kind, port, milliseconds = specification.split(":")
            if kind == "relay":
                served = stack.enter_context(Relay(int(port), one_way_ms=float(milliseconds))).port
            else:
                served = SlowAppends(int(port), float(milliseconds), options.certificate, options.key).port
            print(served, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
