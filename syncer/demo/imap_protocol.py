"""What the embedded IMAP servers say on the wire: pymap's connection, given the manners of Gmail or Outlook.com.

pymap knows IMAP, TLS and mailboxes. Added here, for each server by itself (no class of pymap is
changed, so that servers with different faces live in one process):

- XOAUTH2, with an initial response (RFC 4959) and without, and the refusals of both providers
  (PROVIDERS 3): Gmail's JSON challenge that wants an empty line, Outlook.com's plain NO;
- X-GM-MSGID in FETCH and SEARCH, for Gmail's face only;
- the capability lines and greetings, with nothing in them that is not served;
- LITERAL- or LITERAL+, as the face has it (RFC 7888);
- a record of the commands of every connection, and a hook through which each response passes.

Everything in here runs in the event loop of its server.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from argparse import Namespace
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from io import BytesIO
from typing import Final

from proxyprotocol.sock import SocketInfoLocal
from pymap.backend.dict import Config, Login, Session
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import Message
from pymap.bytes import MaybeBytes
from pymap.concurrent import Subsystem
from pymap.context import current_command
from pymap.exceptions import ResponseError
from pymap.fetch import DynamicFetchValue, MessageAttributes
from pymap.imap import IMAPConnection
from pymap.imap.state import ConnectionState
from pymap.parsing import EndLine, Params, Space
from pymap.parsing.command import Command
from pymap.parsing.command.any import CapabilityCommand
from pymap.parsing.command.nonauth import AuthenticateCommand, LoginCommand
from pymap.parsing.command.select import FetchCommand, SearchCommand, UidFetchCommand, UidSearchCommand
from pymap.parsing.commands import Commands, InvalidCommand
from pymap.parsing.primitives import Atom, List, Number
from pymap.parsing.response import (
    CommandResponse,
    Response,
    ResponseBye,
    ResponseCode,
    ResponseContinuation,
    ResponseNo,
    ResponseOk,
    UntaggedResponse,
)
from pymap.parsing.response.code import Capability
from pymap.parsing.response.specials import FetchResponse
from pymap.parsing.specials import FetchAttribute, SearchKey, SequenceSet
from pymap.selected import SelectedMailbox
from pysasl.creds.external import ExternalCredentials
from pysasl.creds.server import ServerCredentials
from pysasl.hashing import BuiltinHash

from syncer.demo.imap_store import Letter, Mailboxes

X_GM_MSGID: Final = b"X-GM-MSGID"
_LITERAL: Final = re.compile(rb"\{(\d+)\+\}\r?\n$")
_SECRET_VERBS: Final = ("AUTHENTICATE", "LOGIN")

CheckToken = Callable[[str, str], bool]
OnResponse = Callable[[bytes], bytes | None]


class Face(StrEnum):
    """Which provider a server passes for."""

    GMAIL = "gmail"
    OUTLOOK = "outlook"


@dataclass(frozen=True, slots=True)
class _Manners:
    """What differs between the faces."""

    greeting: bytes
    before_sign_in: bytes
    after_sign_in: bytes
    identity: dict[bytes, bytes]
    signed_in: bytes
    refusal: bytes
    refusal_code: bytes | None
    challenge: bytes | None
    """Sent before the refusal; the client has to answer it with an empty line."""
    no_passwords: bytes
    longest_unasked_literal: int | None
    """RFC 7888: 4096 octets for LITERAL-, no limit for LITERAL+."""


MANNERS: Final = {
    Face.GMAIL: _Manners(
        greeting=b"Gimap ready for requests from 127.0.0.1",
        before_sign_in=b"IDLE ID CHILDREN X-GM-EXT-1 SASL-IR AUTH=XOAUTH2",
        after_sign_in=b"IDLE ID CHILDREN X-GM-EXT-1 UIDPLUS MOVE LITERAL-",
        identity={b"name": b"GImap", b"vendor": b"Google, Inc."},
        signed_in=b"authenticated (Success)",
        refusal=b"Invalid credentials (Failure)",
        refusal_code=b"AUTHENTICATIONFAILED",
        challenge=json.dumps({"status": "400", "schemes": "Bearer", "scope": "https://mail.google.com/"}).encode(),
        no_passwords=b"Application-specific password required (Failure)",
        longest_unasked_literal=4096,
    ),
    Face.OUTLOOK: _Manners(
        greeting=b"The Microsoft Exchange IMAP4 service is ready.",
        before_sign_in=b"AUTH=XOAUTH2 LOGINDISABLED SASL-IR UIDPLUS ID CHILDREN IDLE LITERAL+",
        after_sign_in=b"AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID CHILDREN IDLE LITERAL+",
        identity={b"name": b"Microsoft.Exchange.Imap4.Imap4Server", b"version": b"15.20"},
        signed_in=b"AUTHENTICATE completed.",
        refusal=b"AUTHENTICATE failed.",
        refusal_code=None,
        challenge=None,
        no_passwords=b"Basic authentication is disabled.",
        longest_unasked_literal=None,
    ),
}


@dataclass(slots=True)
class Heard:
    """What one connection was asked."""

    verbs: list[str] = field(default_factory=list)
    """``UID FETCH``, ``APPEND``, in the order received."""
    lines: list[str] = field(default_factory=list)
    """The same with their arguments, without tags and literals; nothing that may hold a secret."""


@dataclass(slots=True)
class Household:
    """What the connections of one server share."""

    face: Face
    check_token: CheckToken
    mailboxes_of: Callable[[str], Mailboxes]
    max_message_bytes: int
    on_response: OnResponse | None

    @property
    def manners(self) -> _Manners:
        """How this server behaves."""
        return MANNERS[self.face]


class _Refused(ResponseError):
    """The sign-in is refused, in the words of the provider."""

    def __init__(self, manners: _Manners) -> None:
        super().__init__("sign-in refused")
        self._manners = manners

    def get_response(self, tag: bytes) -> ResponseNo:
        return ResponseNo(tag, self._manners.refusal, ResponseCode.of(self._manners.refusal_code))


class _Authenticate(AuthenticateCommand):
    """AUTHENTICATE with an initial response, which pymap takes for a syntax error."""

    initial_response: bytes | None = None

    @classmethod
    def parse(cls, buf: memoryview, params: Params) -> tuple[_Authenticate, memoryview]:
        _, buf = Space.parse(buf, params)
        mechanism, buf = Atom.parse(buf, params)
        command = cls(params.tag, mechanism.value.upper())
        given = re.match(rb" ([A-Za-z0-9+/=]+)", buf)
        if given is not None:
            command.initial_response = b"" if given[1] == b"=" else given[1]
            buf = buf[given.end() :]
        _, buf = EndLine.parse(buf, params)
        return command, buf


class _GmailAttribute(FetchAttribute):
    """What may be asked for in Gmail's FETCH."""

    @classmethod
    def parse(cls, buf: memoryview, params: Params) -> tuple[FetchAttribute, memoryview]:
        asked = re.match(rb" *X-GM-MSGID(?=[ )\r\n])", buf, re.IGNORECASE)
        return (cls(X_GM_MSGID), buf[asked.end() :]) if asked else super().parse(buf, params)


class _GmailFetch(FetchCommand):
    @classmethod
    def parse(cls, buf: memoryview, params: Params) -> tuple[FetchCommand, memoryview]:
        if X_GM_MSGID not in bytes(buf).upper():
            return super().parse(buf, params)
        _, buf = Space.parse(buf, params)
        sequence_set, buf = SequenceSet.parse(buf, params)
        _, buf = Space.parse(buf, params)
        if bytes(buf[:1]) == b"(":
            listed, buf = List.parse(buf, params.copy(expected=[_GmailAttribute]))
            asked: list[FetchAttribute] = list(listed.get_as(_GmailAttribute))
        else:
            attribute, buf = _GmailAttribute.parse(buf, params)
            asked = [attribute]
        _, buf = EndLine.parse(buf, params)
        if params.uid:
            asked.append(FetchAttribute(b"UID"))
        return cls(params.tag, sequence_set, asked), buf


class _GmailUidFetch(UidFetchCommand, _GmailFetch):
    pass


class _GmailSearch(SearchCommand):
    @classmethod
    def parse(cls, buf: memoryview, params: Params) -> tuple[SearchCommand, memoryview]:
        asked = re.match(rb" +X-GM-MSGID +(\d{1,20}) *\r?\n", buf, re.IGNORECASE)
        if asked is None:
            return super().parse(buf, params)
        return cls(params.tag, [SearchKey(X_GM_MSGID, int(asked[1]))], None), buf[asked.end() :]


class _GmailUidSearch(UidSearchCommand, _GmailSearch):
    pass


class _MsgidValue(DynamicFetchValue):
    def get_value(self) -> MaybeBytes:
        return Number(self.message.gmail_msgid if isinstance(self.message, Letter) else 0)


class _Attributes(MessageAttributes):
    _simple_attrs = {**MessageAttributes._simple_attrs, X_GM_MSGID: _MsgidValue}  # noqa: RUF012, SLF001 - extends the parent's


class _Session(Session):
    """The mailboxes of a signed-in user."""

    async def fetch_messages(
        self, selected: SelectedMailbox, sequence_set: SequenceSet, set_seen: bool
    ) -> tuple[Iterable[tuple[int, Message]], SelectedMailbox]:
        """Leave out what was removed since, as servers do; pymap would serve it empty."""
        found, updates = await super().fetch_messages(selected, sequence_set, set_seen)
        return [(seq, message) for seq, message in found if not message.expunged], updates

    async def search_mailbox(
        self, selected: SelectedMailbox, keys: frozenset[SearchKey]
    ) -> tuple[Iterable[tuple[int, Message]], SelectedMailbox]:
        """Answer SEARCH, X-GM-MSGID included."""
        wanted = {key.filter_int for key in keys if key.value == X_GM_MSGID}
        if not wanted:
            return await super().search_mailbox(selected, keys)
        found, updates = await super().search_mailbox(selected, frozenset({SearchKey(b"ALL")}))
        letters = [(seq, letter) for seq, letter in found if isinstance(letter, Letter)]
        return [(seq, letter) for seq, letter in letters if letter.gmail_msgid in wanted], updates


class _State(ConnectionState):
    """What a connection may do, and what it is answered."""

    def __init__(self, household: Household, config: ServerConfig) -> None:
        super().__init__(Login(config), config)
        self._household = household
        self._manners = household.manners
        self._served = config

    @property
    def capability(self) -> Capability:
        return Capability((self._manners.after_sign_in if self._session else self._manners.before_sign_in).split())

    async def do_greeting(self) -> CommandResponse:
        return ResponseOk(b"*", self._manners.greeting)

    async def do_authenticate(
        self, cmd: AuthenticateCommand | LoginCommand, creds: ServerCredentials | None
    ) -> CommandResponse:
        if creds is None:
            return ResponseNo(cmd.tag, b"Unsupported authentication mechanism.")
        mailboxes = self._household.mailboxes_of(creds.authzid)
        self._session = _Session(creds.authzid, self._served, mailboxes, FilterSet())
        answer = ResponseOk(cmd.tag, self._manners.signed_in)
        if self._household.face is Face.GMAIL:
            answer.add_untagged(UntaggedResponse(self.capability.string))
        return answer

    async def do_login(self, cmd: LoginCommand) -> tuple[CommandResponse, None]:
        return ResponseNo(cmd.tag, self._manners.no_passwords), None

    async def do_capability(self, cmd: CapabilityCommand) -> tuple[CommandResponse, None]:
        answer = ResponseOk(cmd.tag, b"CAPABILITY completed.")
        answer.add_untagged(UntaggedResponse(self.capability.string))
        return answer, None

    async def do_fetch(self, cmd: FetchCommand) -> tuple[CommandResponse, SelectedMailbox | None]:
        self.selected.hide_expunged = not cmd.uid
        seen = not self.selected.readonly and any(attribute.set_seen for attribute in cmd.attributes)
        found, updates = await self.session.fetch_messages(self.selected, cmd.sequence_set, seen)
        answer = ResponseOk(cmd.tag, cmd.command + b" completed.")
        for seq, message in found:
            values = _Attributes(message, self.selected, cmd.attributes)
            answer.add_untagged(FetchResponse(seq, values, writing_hook=values.load_hook()))
        return answer, updates


class ServerConfig(Config):
    """pymap's settings for one server."""

    def __init__(self, household: Household) -> None:
        # Everything pymap would look for by itself is given: it would start a thread pool with an
        # event loop of its own, and read certificates from the environment.
        asyncio_only = Subsystem.for_asyncio()
        super().__init__(
            Namespace(passlib_cfg=None, proxy_protocol=None),
            demo_data=False,
            demo_user="",
            demo_password="",
            host="127.0.0.1",
            port=0,
            tls_enabled=False,
            subsystem=asyncio_only,
            cpu_subsystem=asyncio_only,
            hash_context=BuiltinHash(),
            max_append_len=household.max_message_bytes,
            bad_command_limit=10,
        )
        self._household = household

    @property
    def commands(self) -> Commands:
        commands = Commands()
        commands.deregister(b"STARTTLS")
        commands.register(_Authenticate)
        if self._household.face is Face.GMAIL:
            for command in (_GmailFetch, _GmailUidFetch, _GmailSearch, _GmailUidSearch):
                commands.register(command)
        return commands

    @property
    def id_response(self) -> dict[bytes, bytes]:
        return self._household.manners.identity


class Connection(IMAPConnection):
    """One client at the door."""

    __slots__ = ["_first_line", "_heard", "_household", "_hung_up"]

    def __init__(
        self, household: Household, config: ServerConfig, heard: Heard, reader: StreamReader, writer: StreamWriter
    ) -> None:
        super().__init__(config.commands, config, reader, writer, SocketInfoLocal(writer, unique_id=b""))
        self._household = household
        self._heard = heard
        self._first_line = b""
        self._hung_up = False

    async def serve(self, config: ServerConfig) -> None:
        """Talk to the client until one of both leaves."""
        await self.run(_State(self._household, config))

    async def readline(self) -> memoryview:
        """Read a line with the literals in it that come unasked, as far as the face takes them."""
        limit = self._household.manners.longest_unasked_literal
        buffer = bytearray()
        while True:
            line = await self.reader.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            self._first_line = self._first_line or line
            buffer += line
            unasked = _LITERAL.search(line)
            if unasked is None:
                return memoryview(buffer)
            length = int(unasked[1])
            if length > (self._household.max_message_bytes if limit is None else limit):
                # There is no way to refuse the octets, which are on their way (RFC 7888 section 4).
                await self.write_response(ResponseBye(b"Literal too big.", ResponseCode.of(b"TOOBIG")))
                raise EOFError
            buffer += await self.reader.readexactly(length)

    async def read_command(self, state: ConnectionState) -> Command:
        """Read a command, and note it down."""
        self._first_line = b""
        command = await super().read_command(state)
        name = command.command_name if isinstance(command, InvalidCommand) else command.command
        verb = (name or b"?").decode("ascii", "replace")
        words = self._first_line.decode("ascii", "replace").split(None, 1)
        self._heard.verbs.append(verb)
        self._heard.lines.append(verb if verb in _SECRET_VERBS else words[-1].strip() if words else "")
        return command

    async def authenticate(
        self,
        state: ConnectionState,  # noqa: ARG002 - pymap's signature
        mech_name: bytes,
    ) -> ServerCredentials | None:
        """Let a user in who has a token that holds."""
        command = current_command.get()
        if mech_name != b"XOAUTH2" or not isinstance(command, _Authenticate):
            return None
        response = command.initial_response
        if response is None:
            await self.write_response(ResponseContinuation(b""))
            response = bytes(await self.read_continuation(0)).strip()
        user, token = _read_xoauth2(response)
        if user and token and self._household.check_token(user, token):
            return ExternalCredentials(user)
        challenge = self._household.manners.challenge
        if challenge is not None:
            await self.write_response(ResponseContinuation(base64.b64encode(challenge)))
            await self.read_continuation(0)
        raise _Refused(self._household.manners)

    async def write_response(self, resp: Response) -> None:
        """Send a response, and wait after each of its lines until the client took most of it.

        pymap would hand everything a FETCH of a whole mailbox answers to the socket at once, and
        hold it in memory.
        """
        parts = [resp]
        if isinstance(resp, CommandResponse):
            parts = [*resp._untagged, Response(resp.tag, resp.text)]  # noqa: SLF001 - there is no public way
        for part in parts:
            try:
                await self._send(part)
                await self.writer.drain()
            except ConnectionError:
                return  # the next read finds the client gone

    async def _send(self, resp: Response) -> None:
        """Send one response, or what the hook makes of it. Raises EOFError: the hook hangs up."""
        if self._hung_up:
            raise EOFError
        if self.writer.transport.is_closing():
            raise ConnectionAbortedError
        if self._household.on_response is None:
            await resp.async_write(self.writer)
            return
        whole = BytesIO()
        await resp.async_write(whole)
        changed = self._household.on_response(whole.getvalue())
        if changed is None:
            self._hung_up = True
            self.writer.transport.abort()
            raise EOFError
        self.writer.write(changed)


def _read_xoauth2(response: bytes) -> tuple[str, str]:
    """Return user and token of ``user=...^Aauth=Bearer ...^A^A`` in base64; both empty if it is not that."""
    try:
        text = base64.b64decode(response, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    read = re.fullmatch(r"user=([^\x01]+)\x01auth=Bearer ([^\x01]+)\x01\x01", text, re.IGNORECASE)
    return (read[1], read[2]) if read else ("", "")
