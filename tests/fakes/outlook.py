"""Outlook.com as a destination: PROVIDERS sections 3, 4 and 5.

What was appended is kept twice: as it came, in ``appended``, for a test to compare; and as a message that
FETCH serves rewritten, as Exchange does, so that nobody compares sizes or hashes of copies.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Final

from tests.fakes.answers import Answer, date_time
from tests.fakes.faults import ERROR_11, EXCHANGE_BYE
from tests.fakes.imap_server import CheckToken, ImapServer
from tests.fakes.mailboxes import FakeMessage, Mailbox, Mailboxes, moment
from tests.fakes.rewriting import rewrite_mime
from tests.fakes.verbs import Context

NOT_CONNECTED: Final = "BAD User is authenticated but not connected."
RESERVED: Final = frozenset({"files"})
_KNOWN_FLAGS: Final = {"\\seen", "\\answered", "\\flagged", "\\draft", "\\deleted"}
_FRONT_END_VERBS: Final = {"CAPABILITY", "NOOP", "ID", "LOGOUT", "AUTHENTICATE", "LOGIN"}
_CAPABILITIES: Final = "CHILDREN IDLE NAMESPACE LITERAL+"


@dataclass(frozen=True, slots=True)
class Appended:
    """A message as the client sent it."""

    mailbox: str
    raw: bytes
    internaldate: datetime | None
    flags: tuple[str, ...]
    uid: int


class FakeOutlook(ImapServer):
    """An Outlook.com account with an INBOX; case does not matter in mailbox names."""

    ignore_case = True
    greeting = (
        "OK The Microsoft Exchange IMAP4 service is ready. "
        "[RgBBAEsARQAwADAAMAAxAC4AZQB4AGEAbQBwAGwAZQAuAG8AdQB0AGwAbwBvAGsALgBjAG8AbQA=]"
    )
    farewell = "Microsoft Exchange Server IMAP4 server signing off."
    continuation = "Ready for additional command text."
    idling = "IDLE accepted, awaiting DONE command."
    unknown = "BAD Command Error. 10"
    misread = "BAD Command Argument Error. 12"
    identity: ClassVar = {"name": "Microsoft.Exchange.Imap4.Imap4Server", "version": "15.20"}
    status_items = frozenset({"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"})
    allowed = frozenset(
        {
            *("CAPABILITY", "ID", "AUTHENTICATE", "LIST", "STATUS", "EXAMINE", "UID FETCH", "CREATE", "SUBSCRIBE"),
            *("APPEND", "NOOP", "LOGOUT"),
        }
    )

    def __init__(
        self,
        check_token: CheckToken,
        tls: ssl.SSLContext | None = None,
        *,
        folders: tuple[str, ...] = (),
        uidvalidity: int = 14,
        settle: float = 0.0,
    ) -> None:
        mailboxes = Mailboxes(ignore_case=True, uidvalidity=uidvalidity)
        for name in ("INBOX", *folders):
            mailboxes.create(name)
        self.appended: list[Appended] = []
        self.free_literal = 1 << 26  # LITERAL+
        self.append_uid = True
        """Whether APPENDUID is in the answer to APPEND (RFC 4315's UIDNOTSTICKY case: it is not)."""
        self.append_limit: int | None = None
        self.max_errors: int | None = 10
        """After so many NO and BAD the server closes the connection, PROVIDERS 4.3."""
        self.challenge_text: str | None = None
        self.rewrite: Callable[[bytes], bytes] = rewrite_mime
        """What FETCH makes of the octets that were appended."""
        self._unreachable_sign_ins = 0
        super().__init__(check_token, tls, mailboxes, settle=settle)

    # What happens to the account.

    def lose_backend(self, sign_ins: int = 1 << 30) -> None:
        """Let the next sign-ins work without a store behind them: "authenticated but not connected"."""
        self._unreachable_sign_ins = sign_ins

    def regain_backend(self) -> None:
        """Let sign-ins work again."""
        self._unreachable_sign_ins = 0

    def appended_to(self, name: str) -> list[bytes]:
        """Return the octets appended to a mailbox, in order."""
        return [one.raw for one in self.appended if one.mailbox.casefold() == name.casefold()]

    def move_away(self, name: str, uid: int, to: str = "INBOX") -> None:
        """Move a message, as its owner would in another client."""
        message = self.mailbox(name).remove(uid)
        self.mailbox(to).add(message.raw, message.internaldate, message.flags)

    # What it says.

    def ok(self, verb: str) -> str:
        return f"OK {verb} completed."

    def capabilities(self, *, signed_in: bool) -> str:
        """Return the newer forms of 2025, PROVIDERS 4.1."""
        if not signed_in:
            text = f"IMAP4 IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED SASL-IR UIDPLUS ID UNSELECT {_CAPABILITIES}"
        else:
            text = (
                "IMAP4 IMAP4rev1 AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CLIENTACCESSRULES "
                f"CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE {_CAPABILITIES}"
            )
        return text if self.free_literal is not None else text.removesuffix(" LITERAL+")

    def welcome(self, user: str) -> Answer:
        return Answer("OK AUTHENTICATE completed.")

    def challenge(self) -> str | None:
        return self.challenge_text

    def refused(self) -> Answer:
        return Answer("NO AUTHENTICATE failed.")

    def login_answer(self) -> Answer:
        return Answer("NO Basic authentication is disabled.", bye=self.farewell)

    def no_mailbox(self, name: str) -> str:
        return f"NO {name.encode('ascii', 'replace').decode()} doesn't exist."

    def bad_date(self) -> str:
        return ERROR_11.text

    def open_answer(self, mailbox: Mailbox, *, readonly: bool) -> Answer:
        unseen = [at for at, one in enumerate(mailbox.messages, 1) if "\\Seen" not in one.flags]
        flags = "\\Seen \\Answered \\Flagged \\Deleted \\Draft $MDNSent"
        verb = "[READ-ONLY] EXAMINE" if readonly else "[READ-WRITE] SELECT"
        return Answer.lines(
            f"OK {verb} completed.",
            f"{len(mailbox.uids)} EXISTS",
            "0 RECENT",
            f"FLAGS ({flags})",
            f"OK [PERMANENTFLAGS ({'' if readonly else flags})] Permanent flags",
            *(f"OK [UNSEEN {at}] Is the first unseen message" for at in unseen[:1]),
            f"OK [UIDVALIDITY {mailbox.uidvalidity}] UIDVALIDITY value",
            f"OK [UIDNEXT {mailbox.uidnext}] The next unique identifier value",
        )

    def create(self, mailboxes: Mailboxes, name: str) -> Answer:
        """Make a mailbox with all levels above it; case does not make a name another one."""
        levels = name.removesuffix("/").split("/")
        if levels[0].casefold() in RESERVED:
            return Answer("NO Folder name is reserved")
        if "" in levels:
            return Answer("NO Folder name is invalid.")
        with mailboxes.lock:
            if mailboxes.get("/".join(levels)):
                return Answer("NO Mailbox already exists")
            for depth in range(1, len(levels) + 1):
                if not mailboxes.get("/".join(levels[:depth])):
                    mailboxes.create("/".join(levels[:depth]))
        return Answer(self.ok("CREATE"))

    def append(
        self, mailboxes: Mailboxes, name: str, raw: bytes, flags: tuple[str, ...], when: datetime | None
    ) -> Answer:
        """Store a message, or refuse it as PROVIDERS 5.1 and 5.3 say."""
        if "\\recent" in (flag.lower() for flag in flags):
            return Answer(ERROR_11.text)
        with mailboxes.lock:
            mailbox = mailboxes.get(name)
            if mailbox is None:
                return Answer("NO [TRYCREATE] Folder is not found.")
            kept = tuple(flag for flag in flags if flag.lower() in _KNOWN_FLAGS)
            message = mailbox.add(raw, moment(when), kept)
            self.appended.append(Appended(mailbox.name, raw, when, flags, message.uid))
            code = f"[APPENDUID {mailbox.uidvalidity} {message.uid}] " if self.append_uid else ""
        answer = Answer(f"OK {code}APPEND completed.")
        return answer if kept == flags else Answer.lines(answer.tagged, "NO Keywords are not supported!")

    def body(self, message: FakeMessage) -> bytes:
        return self.rewrite(message.raw)

    def size(self, message: FakeMessage) -> int:
        """Estimate, as Exchange does by default: neither what was appended nor what FETCH serves."""
        return len(message.raw) + 1024

    def date(self, when: datetime) -> str:
        """Serve the moment in UTC whatever the offset was, and the day padded with a space."""
        return date_time(when.astimezone(UTC), pad=" ")

    # What goes wrong without being asked for.

    def signed_in(self, context: Context) -> None:
        if self._unreachable_sign_ins > 0:
            self._unreachable_sign_ins -= 1
            context.connected = False

    def early_refusal(self, context: Context, verb: str, literal: int | None) -> Answer | None:
        if not context.connected and verb not in _FRONT_END_VERBS:
            context.unreachable += 1
            return Answer(NOT_CONNECTED, bye=EXCHANGE_BYE if context.unreachable >= 3 else None)
        if literal == 0:
            return Answer(ERROR_11.text)
        if literal is not None and self.append_limit is not None and verb == "APPEND" and literal > self.append_limit:
            return Answer("NO Maximum size of appendable message has been exceeded")
        return None

    def last_word(self, context: Context, answer: Answer) -> Answer:
        """Close the connection of a client that collects errors."""
        if answer.tagged.startswith(("NO ", "BAD ")):
            context.errors += 1
        if self.max_errors is not None and context.errors >= self.max_errors and answer.bye is None:
            answer.bye = EXCHANGE_BYE
        return answer
