"""A TCP relay on loopback that delays, cuts and swallows what passes. TLS passes through untouched.

The order of octets is kept and what is in flight is bounded, so that a fast sender feels the delay and not
the relay's memory. Runs an event loop in a thread of its own; every method may be called from any thread.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self

IN_FLIGHT: Final = 32 << 20
CHUNK: Final = 1 << 18


class Direction(Enum):
    TO_SERVER = "to server"
    TO_CLIENT = "to client"


@dataclass(eq=False)
class _Cut:
    """An order to end a connection once so many more octets have gone one way."""

    octets: int
    direction: Direction
    reset: bool


@dataclass(eq=False)
class _Pair:
    """One relayed connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def end(self, *, reset: bool) -> None:
        for writer in (self.client, self.server):
            sock = writer.get_extra_info("socket")
            if reset and sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Relay:
    """Listens on ``host``:``port`` and passes everything on. Use as a context manager, or call ``close()``."""

    def __init__(self, to_port: int, to_host: str = "127.0.0.1", *, one_way_ms: float = 0.0) -> None:
        self.host = "127.0.0.1"
        self.connections = 0
        self.octets = {Direction.TO_SERVER: 0, Direction.TO_CLIENT: 0}
        """How many were passed on, over all connections."""
        self.one_way_ms = one_way_ms
        self._target = (to_host, to_port)
        self._swallowing = False
        self._cut: _Cut | None = None
        self._pairs: set[_Pair] = set()
        self._handlers: set[asyncio.Task[Any]] = set()
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()
        self._call(self._start())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self, after_bytes: int, direction: Direction = Direction.TO_CLIENT, *, reset: bool = False) -> None:
        """Pass so many more octets that way, counted from now over all connections; then end the one that is due.

        Fires once; connections made later pass.
        """
        self._do(lambda: setattr(self, "_cut", _Cut(after_bytes, direction, reset)))

    def cut_now(self, *, reset: bool = True) -> None:
        """End all connections, with all that is in flight."""
        self._do(lambda: self._end_all(reset=reset))

    def black_hole(self) -> None:
        """From now on swallow everything, in both directions; connections stay open and new ones are accepted."""
        self._do(lambda: setattr(self, "_swallowing", True))

    def heal(self) -> None:
        """Pass again what comes from now on. What was swallowed is lost, so a TLS connection cannot go on."""
        self._do(lambda: setattr(self, "_swallowing", False))

    def close(self) -> None:
        """End everything, the thread too."""
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        if self._thread.is_alive():
            raise RuntimeError("the relay does not end")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _do(self, deed: Callable[[], None]) -> None:
        async def done() -> None:
            deed()

        self._call(done())

    async def _start(self) -> None:
        # Not asyncio's own server: closed while it accepts, it loses the accepted socket.
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            self.connections += 1
            task = self._loop.create_task(self._relay(sock))
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)

    async def _stop(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        await asyncio.sleep(0)  # a handler that was made has begun, and closes its socket when it is cancelled
        self._end_all(reset=False)
        handlers = tuple(self._handlers)
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the loop's next round

    def _end_all(self, *, reset: bool) -> None:
        for pair in tuple(self._pairs):
            pair.end(reset=reset)

    async def _relay(self, sock: socket.socket) -> None:
        from_client, client = await asyncio.open_connection(sock=sock)
        try:
            from_server, server = await asyncio.open_connection(*self._target)
            await self._pass_both(from_client, client, from_server, server)
        except (OSError, asyncio.CancelledError):
            pass  # a side has gone, or is to go: so does the other
        finally:
            client.transport.abort()

    async def _pass_both(
        self,
        from_client: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        for writer in (client, server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            writer.transport.set_write_buffer_limits(high=0)  # drain() then means: handed to the kernel
        pair = _Pair(client, server)
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._pipe(from_client, server, pair, Direction.TO_SERVER),
                self._pipe(from_server, client, pair, Direction.TO_CLIENT),
            )
        finally:
            self._pairs.discard(pair)
            pair.end(reset=False)

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair, direction: Direction
    ) -> None:
        """Hold every chunk for the delay; a reader and a writer, joined by a queue of due times."""
        queue: collections.deque[tuple[float, bytes]] = collections.deque()
        filled, space = asyncio.Event(), asyncio.Event()
        held = 0

        async def read() -> None:
            nonlocal held
            while True:
                octets = await reader.read(CHUNK)
                queue.append((self._loop.time() + self.one_way_ms / 1000, octets))
                filled.set()
                held += len(octets)
                if not octets:
                    return
                while held > IN_FLIGHT:
                    space.clear()
                    await space.wait()

        async def write() -> None:
            nonlocal held
            while True:
                while not queue:
                    filled.clear()
                    await filled.wait()
                due, octets = queue.popleft()
                delay = due - self._loop.time()
                if delay > 0:
                    await asyncio.sleep(delay)
                if not octets:
                    if not self._swallowing:
                        writer.write_eof()
                    return
                await self._pass_on(octets, writer, pair, direction)
                held -= len(octets)
                space.set()

        reading = asyncio.ensure_future(read())
        try:
            await write()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _pass_on(self, octets: bytes, writer: asyncio.StreamWriter, pair: _Pair, direction: Direction) -> None:
        if self._swallowing:
            return
        cut = self._cut
        if cut is not None and cut.direction is direction:
            if cut.octets <= len(octets):
                self._cut = None
                writer.write(octets[: cut.octets])
                await writer.drain()
                self.octets[direction] += cut.octets
                pair.end(reset=cut.reset)
                raise ConnectionResetError("cut")
            cut.octets -= len(octets)
        writer.write(octets)
        await writer.drain()
        self.octets[direction] += len(octets)
