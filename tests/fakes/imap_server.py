"""A threaded IMAP4rev1 server on loopback, and what a test may ask it afterwards.

One thread accepts, one serves each connection. ``close()`` ends and joins them all. The mailboxes
outlive every connection.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.fakes.answers import Answer
from tests.fakes.commands import Command
from tests.fakes.face import Face
from tests.fakes.faults import Action, Fault, FaultBook, When
from tests.fakes.mailboxes import Mailbox, Mailboxes
from tests.fakes.session import Session
from tests.fakes.verbs import Context
from tests.fakes.wire import Hangup, Wire

CheckToken = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class MalformedCommand:
    command: Command
    reason: str


class ImapServer(Face):
    """The engine under both faces. Use as a context manager, or call ``close()``."""

    def __init__(
        self, check_token: CheckToken, tls: ssl.SSLContext | None, mailboxes: Mailboxes, *, settle: float = 0.0
    ) -> None:
        self.mailboxes = mailboxes
        self.faults = FaultBook()
        self.commands: list[Command] = []
        self.violations: list[Command] = []
        """Commands the product must never send to this side."""
        self.malformed: list[MalformedCommand] = []
        """Commands that got BAD because they are unknown, broken, or came in the wrong state."""
        self.handshake_failures: list[str] = []
        self.connections = 0
        """How many were accepted."""
        self.announces = True
        """A connection in IDLE is told of what arrives."""
        self.announced: list[bytes] = []
        """What connections in IDLE were told besides; see ``announce``."""
        self._check_token = check_token
        self._tls = tls
        self._settle = settle
        self._lock = threading.Lock()
        self._releases = 0
        self._stopping = False
        self._wires: dict[int, Wire] = {}
        self._dropping: dict[int, str | None] = {}
        self._past_round_trips = 0
        self._threads: list[threading.Thread] = []
        self._timers: list[threading.Timer] = []
        self._late: list[Callable[[], Answer]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop_in, self._stop_out = socket.socketpair()
        self.host = "127.0.0.1"
        self.port: int = self._listener.getsockname()[1]
        mailboxes.listen(self._wake_all)
        self._accepting = threading.Thread(target=self._accept, name=f"{type(self).__name__} accepts")
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def misbehave(self, when: When, do: Action, times: int = 1) -> Fault:
        """Add a fault. What it returns counts how often it ``fired``."""
        return self.faults.add(Fault(when, do, times))

    def announce(self, octets: bytes) -> None:
        """Say this to every connection that is in IDLE now."""
        self.announced.append(octets)
        self._wake_all()

    def mailbox(self, name: str) -> Mailbox:
        """Return a mailbox. Raises KeyError: there is none."""
        found = self.mailboxes.get(name)
        if found is None:
            raise KeyError(name)
        return found

    @property
    def connections_in_idle(self) -> int:
        """Return how many of the connections that are open now are in IDLE."""
        with self._lock:
            open_now = set(self._wires)
        last = {one.connection: one.verb for one in list(self.commands)}
        return sum(last.get(number) == "IDLE" for number in open_now)

    def verbs(self, connection: int | None = None) -> list[str]:
        """Return the verbs received, in order, of one connection or of all."""
        return [one.verb for one in self.commands if connection in (None, one.connection)]

    @property
    def round_trips(self) -> int:
        """How often a client waited for this server, over all connections; see ``wire``."""
        with self._lock:
            return self._past_round_trips + sum(wire.round_trips for wire in self._wires.values())

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._wires)

    def release(self) -> None:
        """Let everything go on that stalls now."""
        with self._lock:
            self._releases += 1
        self._wake_all()

    def commit_late(self) -> int:
        """Execute now what was left for later; return how many commands that were."""
        with self._lock:
            work, self._late = self._late, []
        for execute in work:
            execute()
        return len(work)

    def drop_connections(self, bye: str | None = None) -> None:
        """End every connection that is open now, whatever it does; without a word, or with this one."""
        with self._lock:
            self._dropping.update((number, bye) for number in self._wires)
        self._wake_all()

    def close(self) -> None:
        """End all connections and threads; what was left for later never happens."""
        with self._lock:
            self._stopping = True
            timers, threads = list(self._timers), list(self._threads)
            self._late.clear()
        self._stop_out.close()
        self._wake_all()
        for timer in timers:
            timer.cancel()
        for thread in (self._accepting, *timers, *threads):
            thread.join(10)
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} does not end")
        with self._lock:
            late, self._threads = self._threads, []
        for thread in late:
            thread.join(10)
        self._listener.close()
        self._stop_in.close()

    # What a session asks for.

    def token_is_good(self, user: str, token: str) -> bool:
        return self._check_token(user, token)

    def record(self, connection: int, verb: str, line: str) -> None:
        command = Command(connection, verb, line)
        with self._lock:
            self.commands.append(command)
            if verb not in self.allowed or (verb == "UID FETCH" and "BODY[" in line.upper()):
                self.violations.append(command)

    def record_malformed(self, connection: int, verb: str, line: str, reason: str) -> None:
        with self._lock:
            self.malformed.append(MalformedCommand(Command(connection, verb, line), reason))

    def release_count(self) -> int:
        return self._releases

    def later(self, work: Callable[[], Answer], delay: float | None) -> None:
        with self._lock:
            self._late.append(work)
        if delay is None:
            return

        def commit() -> None:
            with self._lock:
                if work not in self._late:
                    return
                self._late.remove(work)
            work()

        timer = threading.Timer(delay, commit)
        with self._lock:
            self._timers.append(timer)
        timer.start()

    def signed_in(self, context: Context) -> None:
        """Take note of a token that was accepted, before it is answered."""

    def early_refusal(self, context: Context, verb: str, literal: int | None) -> Answer | None:
        """Return an answer that needs no more of the command than its verb and an announced literal's size."""
        return None

    def last_word(self, context: Context, answer: Answer) -> Answer:
        """Have a look at an answer before it is sent."""
        return answer

    # Threads.

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._stop_in], [], [])
            if self._stop_in in ready:
                return
            sock, _ = self._listener.accept()
            with self._lock:
                self.connections += 1
                number = self.connections
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                wire = Wire(sock, self._ending(number), self._settle)
                self._wires[number] = wire
                thread = threading.Thread(
                    target=self._serve, args=(wire, number), name=f"{type(self).__name__} connection {number}"
                )
                self._threads.append(thread)
                thread.start()

    def _ending(self, number: int) -> Callable[[], bool]:
        return lambda: self._stopping or number in self._dropping

    def _serve(self, wire: Wire, number: int) -> None:
        reset = False
        try:
            if self._tls is not None:
                wire.secure(self._tls)
            Session(self, wire, Context(number, self, self.mailboxes)).run()
        except Hangup as end:
            reset = end.reset
            if (bye := self._dropping.get(number)) is not None:
                with contextlib.suppress(Hangup):
                    wire.write(f"* BYE {bye}\r\n".encode())
                    wire.flush()
        except OSError as error:  # ssl.SSLError is one: the client did not like the handshake
            with self._lock:
                self.handshake_failures.append(str(error))
        finally:
            with self._lock:
                self._past_round_trips += wire.round_trips
                wire.round_trips = 0
            with contextlib.suppress(Hangup):
                wire.close(reset=reset)
            with self._lock:
                del self._wires[number]

    def _wake_all(self) -> None:
        with self._lock:
            wires = list(self._wires.values())
        for wire in wires:
            wire.wake()
