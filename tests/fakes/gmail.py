"""Gmail as a source: PROVIDERS sections 1 and 3. It is only read; whatever else is tried is a violation."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, tzinfo
from typing import ClassVar, Final

from tests.fakes.answers import Answer
from tests.fakes.faults import Fault, WithoutUid, on
from tests.fakes.imap_server import CheckToken, ImapServer
from tests.fakes.mailboxes import FakeMessage, Mailbox, Mailboxes

ALL_MAIL: Final = "[Gmail]/All Mail"
FIRST_MSGID: Final = 1_278_455_344_230_334_865
"""Above 2**53: whoever puts an X-GM-MSGID into a float loses it."""


class FakeGmail(ImapServer):
    """A Gmail account with an INBOX and All Mail."""

    gmail = True
    greeting = "OK Gimap ready for requests from 127.0.0.1 d9443c01a7336-2a8mb77181265ad"
    farewell = "LOGOUT Requested"
    continuation = "go ahead"
    idling = "idling"
    unknown = "BAD Unknown command d9443c01a7336-2a8mb77181265ad"
    misread = "BAD Could not parse command"
    identity: ClassVar = {
        "name": "GImap",
        "vendor": "Google, Inc.",
        "support-url": "https://support.google.com/mail",
        "version": "gmail_imap_261103.00_p0",
        "remote-host": "127.0.0.1",
    }
    status_items = frozenset({"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ"})
    allowed = frozenset(
        {
            *("CAPABILITY", "ID", "AUTHENTICATE", "EXAMINE", "STATUS", "UID SEARCH", "UID FETCH"),
            *("NOOP", "IDLE", "DONE", "LOGOUT"),
        }
    )
    capabilities_before = (
        "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 XYZZY SASL-IR AUTH=XOAUTH2 AUTH=PLAIN "
        "AUTH=PLAIN-CLIENTTOKEN AUTH=OAUTHBEARER"
    )
    capabilities_after = (
        "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 UIDPLUS COMPRESS=DEFLATE ENABLE MOVE "
        "CONDSTORE ESEARCH UTF8=ACCEPT LIST-EXTENDED LIST-STATUS LITERAL- SPECIAL-USE APPENDLIMIT=35651584"
    )

    def __init__(
        self,
        check_token: CheckToken,
        tls: ssl.SSLContext | None = None,
        *,
        uidvalidity: int = 1,
        zone: tzinfo = UTC,
        settle: float = 0.0,
    ) -> None:
        mailboxes = Mailboxes(uidvalidity=uidvalidity)
        self.inbox: Mailbox = mailboxes.create("INBOX", uidvalidity)
        self.all_mail: Mailbox = mailboxes.create(ALL_MAIL)
        self.zone = zone
        self.free_literal = 4096  # LITERAL-
        self.challenge_status = "400"
        self._next_msgid = FIRST_MSGID
        self._by_msgid: dict[int, FakeMessage] = {}
        super().__init__(check_token, tls, mailboxes, settle=settle)

    # What happens to the account.

    def deliver(
        self,
        raw: bytes,
        received_at: datetime | float | None = None,
        msgid: int | None = None,
        *,
        flags: tuple[str, ...] = (),
    ) -> int:
        """Let a message arrive in the INBOX; return its UID."""
        with self.mailboxes.lock:
            if msgid is None:
                msgid, self._next_msgid = self._next_msgid, self._next_msgid + 1
            self.all_mail.add(raw, received_at, flags, msgid)
            message = self.inbox.add(raw, received_at, flags, msgid)
            self._by_msgid[msgid] = message
            return message.uid

    def archive(self, uid: int) -> int:
        """Take the INBOX label off a message; return its X-GM-MSGID."""
        message = self.inbox.remove(uid)
        if message.msgid is None:
            raise ValueError("a message without X-GM-MSGID cannot come back")
        self._by_msgid[message.msgid] = message
        return message.msgid

    def restore(self, msgid: int) -> int:
        """Put an archived or snoozed message back: the same X-GM-MSGID under a new UID, which is returned."""
        message = self._by_msgid[msgid]
        return self.inbox.add(message.raw, message.internaldate, message.flags, msgid).uid

    def set_uidvalidity(self, uidvalidity: int, *, renumber: bool = True) -> None:
        """Give the INBOX another UIDVALIDITY; with ``renumber`` its messages get new UIDs from 1 on."""
        self.inbox.set_uidvalidity(uidvalidity, renumber=renumber)

    def omit_once(self, uid: int) -> Fault:
        """Leave a live UID out of the next answer that should hold it (PROVIDERS 1.3)."""
        return self.misbehave(on("UID FETCH", "UID SEARCH", uid=uid), WithoutUid(uid))

    def uid_of(self, msgid: int) -> int:
        """Return the UID that a message has in the INBOX now. Raises KeyError: it is not there."""
        for message in self.inbox.messages:
            if message.msgid == msgid:
                return message.uid
        raise KeyError(msgid)

    # What it says.

    def ok(self, verb: str) -> str:
        texts = {
            "CAPABILITY": "OK Thats all she wrote! d9443c01a7336-2a8mb77181265ad",
            "LOGOUT": "OK 73 good day (Success)",
            "SEARCH": "OK SEARCH completed (Success)",
            "IDLE": "OK IDLE terminated (Success)",
            "CLOSE": "OK Returned to authenticated state. (Success)",
        }
        return texts.get(verb, "OK Success")

    def capabilities(self, *, signed_in: bool) -> str:
        return self.capabilities_after if signed_in else self.capabilities_before

    def welcome(self, user: str) -> Answer:
        """Answer with the capabilities inside the exchange: they are said nowhere else (PROVIDERS 1.1)."""
        return Answer.lines(f"OK {user} authenticated (Success)", f"CAPABILITY {self.capabilities(signed_in=True)}")

    def challenge(self) -> str:
        return json.dumps(
            {"status": self.challenge_status, "schemes": "Bearer", "scope": "https://mail.google.com/"},
            separators=(",", ":"),
        )

    def refused(self) -> Answer:
        return Answer("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)")

    def login_answer(self) -> Answer:
        return Answer(
            "NO [ALERT] Application-specific password required: https://support.google.com/accounts (Failure)"
        )

    def no_mailbox(self, name: str) -> str:
        return "NO [NONEXISTENT] Unknown Mailbox: " + name.encode("ascii", "replace").decode() + " (Failure)"

    def open_answer(self, mailbox: Mailbox, *, readonly: bool) -> Answer:
        """Answer without UNSEEN, as Gmail does (PROVIDERS 1.3)."""
        access = "READ-ONLY" if readonly else "READ-WRITE"
        return Answer.lines(
            f"OK [{access}] {mailbox.name} selected. (Success)",
            "FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen $NotPhishing $Phishing)",
            "OK [PERMANENTFLAGS ()] Flags permitted.",
            f"OK [UIDVALIDITY {mailbox.uidvalidity}] UIDs valid.",
            f"{len(mailbox.uids)} EXISTS",
            "0 RECENT",
            f"OK [UIDNEXT {mailbox.uidnext}] Predicted next UID.",
            f"OK [HIGHESTMODSEQ {mailbox.modseq}]",
        )

    def list_flags(self, name: str, mailboxes: Mailboxes) -> str:
        return super().list_flags(name, mailboxes) + (" \\All" if name == ALL_MAIL else "")

    def create(self, mailboxes: Mailboxes, name: str) -> Answer:
        """Refuse: it is a violation anyway, and the account stays as it is."""
        return Answer("NO [CANNOT] Not here (Failure)")

    def append(
        self, mailboxes: Mailboxes, name: str, raw: bytes, flags: tuple[str, ...], when: datetime | None
    ) -> Answer:
        """Refuse likewise."""
        return Answer("NO [CANNOT] Not here (Failure)")
