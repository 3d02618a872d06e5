"""An IMAP server inside this process, which passes for Gmail or for Outlook.com: for the demo and the tests.

``EmbeddedImap`` is pymap in a thread with its own event loop, on a free loopback port, over TLS.
Mail is kept in memory, every octet of it. Besides IMAP there is a way in by Python: to deliver,
to look, to archive a mail as its owner would, to change UIDVALIDITY. It may be used from any
thread, and what it does is seen by the next command of every connection, and at once by IDLE.

A server made is a server gone: after ``stop`` no thread, no socket and no mail is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import sys
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from pymap.parsing.message import AppendMessage
from pymap.parsing.specials import DateTime
from pymap.parsing.specials.flag import Flag

from syncer.demo.imap_protocol import CheckToken, Connection, Face, Heard, Household, OnResponse, ServerConfig
from syncer.demo.imap_store import Letter, Mailboxes, Numbers
from syncer.demo.place import LOOPBACK, Place

__all__ = ["CheckToken", "EmbeddedImap", "Face", "OnResponse", "StoredMessage"]

INBOX: Final = "INBOX"
_PATIENCE_SECONDS: Final = 30.0
_LINE_LIMIT: Final = 1 << 20

_T = TypeVar("_T")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in a mailbox."""

    uid: int
    raw: bytes
    internaldate: str
    """As the server serves it: ``22-Nov-2026 09:15:00 +0100``."""
    flags: frozenset[str]
    """``\\Seen`` and the like."""
    gmail_msgid: int
    """X-GM-MSGID, whether the face shows it or not."""


class EmbeddedImap:
    """An IMAP server on ``host`` and ``port``, from ``start`` (or ``with``) to ``stop``.

    ``check_token(user, token)`` decides who may sign in; who signs in has a mailbox from then on.
    ``on_response`` sees each response (an untagged one with its literals, a tagged line, a ``+``)
    before it is sent, and returns what to send instead: ``b""`` for nothing, None to hang up. Both
    are called in the server's thread, and must not call the methods of this class.
    """

    def __init__(
        self,
        face: Face,
        certificate: Path,
        key: Path,
        check_token: CheckToken,
        *,
        on_response: OnResponse | None = None,
        max_message_bytes: int = 64 << 20,
        place: Place = LOOPBACK,
    ) -> None:
        self.face = face
        self.host = place.name
        self._address = place.address
        self.failures: list[BaseException] = []
        """What a connection ended with that it should not have: a fault of this server."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_cert_chain(certificate, key)
        self._household = Household(face, check_token, self._mailboxes_of, max_message_bytes, on_response)
        self._config = ServerConfig(self._household)
        self._numbers = Numbers()
        self._users: dict[str, Mailboxes] = {}
        self._archive: dict[tuple[str, int], Letter] = {}
        self._heard: list[Heard] = []
        self._talks: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave: asyncio.Event | None = None
        self._port = 0

    # -- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; returns when connections are taken. Raises RuntimeError: it was started before."""
        if self._thread is not None:
            raise RuntimeError("a server is started once")
        ready: Future[int] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name=f"imap-{self.face}", daemon=True
        )
        self._thread.start()
        self._port = ready.result(_PATIENCE_SECONDS)

    def stop(self) -> None:
        """Cut every connection and end. May be called again, and before ``start``."""
        if self._thread is None or not self._thread.is_alive():
            return
        if self._loop is not None and self._leave is not None:
            self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(_PATIENCE_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError("the embedded IMAP server does not end")

    @property
    def port(self) -> int:
        """Where it listens; 0 before ``start``."""
        return self._port

    async def _serve(self, ready: Future[int]) -> None:
        try:
            self._loop = asyncio.get_running_loop()
            self._leave = asyncio.Event()
            server = await asyncio.start_server(
                self._connected, self._address, 0, ssl=self._context, limit=_LINE_LIMIT, ssl_shutdown_timeout=1.0
            )
        except BaseException as error:
            ready.set_exception(error)
            raise
        ready.set_result(server.sockets[0].getsockname()[1])
        await self._leave.wait()
        await self._close(server)

    async def _close(self, server: asyncio.Server) -> None:
        """Let nobody in any more, and cut every line, so that nothing is left for the collector to complain of."""
        loop = asyncio.get_running_loop()
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
        # Who was let in just now has a transport in the next round of the loop: asyncio loses the
        # socket if the server is closed by then.
        await asyncio.sleep(0)
        server.close()
        # Not through the writers: who never began the TLS handshake has none.
        if sys.version_info >= (3, 13):
            server.abort_clients()
        else:
            for transport in list(loop._transports.values()):  # type: ignore[attr-defined]  # noqa: SLF001 - abort_clients is new in 3.13
                transport.abort()
        await asyncio.sleep(0)
        await asyncio.gather(*self._talks, return_exceptions=True)
        await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = Heard()
        self._heard.append(heard)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in one
        self._talks.add(task)
        try:
            await Connection(self._household, self._config, heard, reader, writer).serve(self._config)
        except (ConnectionError, EOFError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - one connection's fault must not take the server along
            self.failures.append(error)
            _logger.warning("an embedded server's connection failed: %s", type(error).__name__)
        finally:
            writer.close()
            with contextlib.suppress(OSError):  # the client left without a word
                await writer.wait_closed()
            self._talks.discard(task)

    @property
    def on_response(self) -> OnResponse | None:
        """The hook; it may be changed at any time, and holds from the next response on."""
        return self._household.on_response

    @on_response.setter
    def on_response(self, hook: OnResponse | None) -> None:
        self._household.on_response = hook

    # -- what was asked --------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many clients were here, TLS handshake done."""
        return len(self._heard)

    @property
    def transcript(self) -> list[list[str]]:
        """The verbs each connection sent, in order: ``[["AUTHENTICATE", "EXAMINE", "UID FETCH"]]``."""
        return [list(heard.verbs) for heard in self._heard]

    @property
    def command_lines(self) -> list[list[str]]:
        """The same with arguments, without tags and literals, and of AUTHENTICATE and LOGIN the verb only."""
        return [list(heard.lines) for heard in self._heard]

    # -- mail, from Python -----------------------------------------------------------------------

    def deliver(
        self, user: str, raw: bytes, received_at: datetime, mailbox: str = INBOX, flags: Iterable[str] = ()
    ) -> int:
        """Put a message into a mailbox, which is made if missing, and return its UID.

        Raises ValueError: ``received_at`` has no time zone.
        """
        if received_at.tzinfo is None:
            raise ValueError("received_at needs a time zone")
        message = AppendMessage(raw, received_at, frozenset(Flag(flag) for flag in flags))

        async def deliver() -> int:
            box = await self._mailboxes_of(user).mailbox(mailbox, create=True)
            return (await box.append(message, recent=True)).uid

        return self._call(deliver())

    def messages(self, user: str, mailbox: str = INBOX) -> list[StoredMessage]:
        """Return what is in a mailbox, in UID order. Raises KeyError: no such mailbox."""

        async def messages() -> list[StoredMessage]:
            return [_stored(letter) for letter in (await self._mailboxes_of(user).mailbox(mailbox)).letters()]

        return self._call(messages())

    def remove(self, user: str, mailbox: str, uid: int) -> None:
        """Expunge a message. Raises KeyError: no such mailbox or UID."""

        async def remove() -> None:
            await (await self._mailboxes_of(user).mailbox(mailbox)).take(uid)

        self._call(remove())

    def archive(self, user: str, uid: int, mailbox: str = INBOX) -> int:
        """Take a message out of a mailbox as its owner archives or snoozes it; return its X-GM-MSGID.

        Raises KeyError: no such mailbox or UID.
        """

        async def archive() -> int:
            letter = await (await self._mailboxes_of(user).mailbox(mailbox)).take(uid)
            self._archive[user.casefold(), letter.gmail_msgid] = letter
            return letter.gmail_msgid

        return self._call(archive())

    def restore(self, user: str, gmail_msgid: int, mailbox: str = INBOX) -> int:
        """Bring an archived message back: the same X-GM-MSGID and INTERNALDATE, a new UID, which is returned.

        Raises KeyError: nothing archived has this X-GM-MSGID.
        """

        async def restore() -> int:
            box = await self._mailboxes_of(user).mailbox(mailbox)
            return (await box.add(self._archive.pop((user.casefold(), gmail_msgid)))).uid

        return self._call(restore())

    def mailboxes(self, user: str) -> list[str]:
        """Return the names of a user's mailboxes, INBOX first."""

        async def names() -> list[str]:
            return await self._mailboxes_of(user).names()

        return self._call(names())

    def subscribed(self, user: str) -> list[str]:
        """Return the names of the mailboxes a user subscribed to, INBOX first."""

        async def names() -> list[str]:
            return await self._mailboxes_of(user).subscribed_names()

        return self._call(names())

    def create_mailbox(self, user: str, name: str) -> None:
        """Make a mailbox. Raises ValueError: it is there already."""

        async def create() -> None:
            await self._mailboxes_of(user).add_mailbox(name)

        self._call(create())

    def delete_mailbox(self, user: str, name: str) -> None:
        """Delete a mailbox with all its mail. Raises KeyError: no such mailbox."""

        async def delete() -> None:
            await self._mailboxes_of(user).delete_mailbox(name)

        self._call(delete())

    def set_uidvalidity(self, user: str, mailbox: str, value: int) -> None:
        """Declare every UID of a mailbox void. Raises KeyError: no such mailbox."""

        async def change() -> None:
            (await self._mailboxes_of(user).mailbox(mailbox)).set_uidvalidity(value)

        self._call(change())

    # -- inside ----------------------------------------------------------------------------------

    def _mailboxes_of(self, user: str) -> Mailboxes:
        """Return a user's mailboxes; addresses are told apart without regard to case, as providers do."""
        name = user.casefold()
        if name not in self._users:
            self._users[name] = Mailboxes(self._numbers)
        return self._users[name]

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have the server's thread do something, and wait for it."""
        if self._loop is None or self._thread is None or not self._thread.is_alive():
            work.close()
            raise RuntimeError("the embedded IMAP server is not running")
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a hook must not call the server it runs in")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_SECONDS)


def _stored(letter: Letter) -> StoredMessage:
    return StoredMessage(
        uid=letter.uid,
        raw=letter.raw,
        internaldate=bytes(DateTime(letter.internal_date)).decode("ascii").strip('"'),
        flags=frozenset(flag.value.decode("ascii") for flag in letter.permanent_flags),
        gmail_msgid=letter.gmail_msgid,
    )
