"""Both mailboxes, over the connection a cycle makes: sign-in, what the server can do, the folder.

Gmail's is opened by EXAMINE; of Outlook.com's, the state is asked for. Nothing is fetched, made,
subscribed to or stored. The connections go through ``imap_session`` like every other, so the list of
what each side may be sent holds here too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Final

from syncer import forecast
from syncer.config import Config
from syncer.diagnosis import Check, Found, fail, ok, warn
from syncer.doctor.network import Network
from syncer.doctor.records import WATERMARK_CHECK, Records
from syncer.doctor.sign_in import SignIn
from syncer.errors import AuthError, ConfigError, SideError, SignInRefused, StateUnavailable, Throttled
from syncer.gmail_imap import GmailDialect
from syncer.imap_session import Dialect, ImapSession, MailboxMissing, Selected
from syncer.model import EXIT_CONFIG, EXIT_SIGN_IN, Side
from syncer.outlook_imap import NotConnected, OutlookDialect
from syncer.sync_plan import how_to_decide

FOLDER_LIMITS: Final = frozenset({1_000, 2_000, 5_000, 10_000})
"""What Gmail's setting for the folder size limit can be (PROVIDERS 1.1)."""
RESERVED: Final = frozenset({"files"})
OUTLOOKS_OWN: Final = frozenset(
    {"inbox", "sent", "drafts", "deleted", "junk", "archive", "outbox", "notes", "sent items", "deleted items"}
)
SWITCH_IMAP_ON: Final = (
    'in Outlook.com: Settings > Mail > Forwarding and IMAP > "Let devices and apps use IMAP" on, Save'
)
_PAUSE: Final = 2.0
"""Seconds before the one new sign-in after "not connected" (PROVIDERS 4.2)."""


class Mailboxes:
    """The two connections, made by the checks and closed by ``close``."""

    def __init__(
        self,
        config: Config,
        sign_in: SignIn,
        records: Records,
        network: Network,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._sign_in = sign_in
        self._records = records
        self._network = network
        self._pause = pause
        self._sessions: dict[Side, ImapSession] = {}
        self._selected: Selected | None = None
        self._status: Mapping[str, int] | None = None

    def close(self) -> None:
        """Log out."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def checks(self) -> list[Check]:
        """Return the checks, Gmail's first."""
        seen, source = (WATERMARK_CHECK, "gmail.mailbox"), ("GMAIL_EMAIL", "GMAIL_SOURCE_FOLDER")
        there, target = (WATERMARK_CHECK, "outlook.folder"), ("OUTLOOK_TARGET_FOLDER",)
        return [
            *self._sign_ins(Side.SOURCE, "gmail", "Gmail", ("GMAIL_EMAIL",)),
            Check("gmail.capabilities", "Gmail's IMAP extensions", self._gmail_can, ("gmail.sign_in",)),
            Check("gmail.mailbox", "mailbox that is copied", self._examine, ("gmail.sign_in",), source),
            Check("gmail.size_limit", "Gmail's folder size limit", self._size_limit, ("gmail.mailbox",)),
            Check("gmail.uidvalidity", "Gmail's UIDVALIDITY", self._gmail_numbers, seen),
            *self._sign_ins(Side.DESTINATION, "outlook", "Outlook.com", ("OUTLOOK_EMAIL",)),
            Check("outlook.reach", "mailbox behind the sign-in", self._reach, ("outlook.sign_in",)),
            Check("outlook.capabilities", "Outlook.com's extensions", self._outlook_can, ("outlook.reach",)),
            Check("outlook.append_limit", "largest message it takes", self._append_limit, ("outlook.reach",)),
            Check("outlook.folder", "folder for the copies", self._folder, ("outlook.reach",), target),
            Check("outlook.uidvalidity", "UIDVALIDITY of the folder", self._outlook_numbers, there),
        ]

    def _sign_ins(self, side: Side, name: str, title: str, settings: tuple[str, ...]) -> list[Check]:
        needs = (f"tls.{name}_imap", f"{name}.hold", "records.folders", f"{name}.scope")
        return [Check(f"{name}.sign_in", f"sign-in at {title}", lambda: self._connect(side), needs, settings)]

    # -- both

    def _connect(self, side: Side) -> Found:
        token = self._sign_in.access_token(side)
        try:
            try:
                self._sessions[side] = self._session(side, token)
            except SignInRefused:
                fresh = self._sign_in.another(side, token)
                if fresh is None:
                    raise
                self._sessions[side] = self._session(side, fresh)
        except NotConnected as error:
            return self._not_connected(error)
        except SideError as error:
            return _meaning(error)
        return ok("accepted")

    def _session(self, side: Side, token: str) -> ImapSession:
        config = self._config
        user = config.gmail_email if side is Side.SOURCE else config.outlook_email
        return ImapSession.connect(config.endpoint(side), _DIALECTS[side], user, token, pause=self._pause)

    # -- Gmail

    def _gmail_can(self) -> Found:
        can = self._sessions[Side.SOURCE].capabilities
        if "X-GM-EXT-1" not in can:
            return warn(
                "no X-GM-EXT-1: messages are known by a hash of their bytes, each fetched before it is known",
                "check GMAIL_IMAP_HOST: this is not Gmail",
            )
        return ok(_listed(can, "X-GM-EXT-1", "CONDSTORE", "IDLE", "LITERAL-"))

    def _examine(self) -> Found:
        folder = self._config.gmail_source_folder
        try:
            self._selected = self._sessions[Side.SOURCE].examine(folder).result()
        except MailboxMissing:
            return fail(
                f"there is no label {folder!r} in Gmail that IMAP shows",
                "correct GMAIL_SOURCE_FOLDER, or in Gmail: Settings > Labels > Show in IMAP",
                EXIT_CONFIG,
            )
        except SideError as error:
            return _meaning(error)
        return ok(f"there, {self._selected.exists:,} in it; opened for reading only")

    def _size_limit(self) -> Found:
        exists = self._selected.exists if self._selected is not None else 0
        if exists in FOLDER_LIMITS:
            return warn(
                f"exactly {exists:,} messages: Gmail may hide older mail from IMAP",
                "in Gmail: Settings > Forwarding and POP/IMAP > Folder size limits > Do not limit",
            )
        return ok("no sign of a folder size limit")

    def _gmail_numbers(self) -> Found:
        known = self._records.watermark.uidvalidity
        now = self._selected.uidvalidity if self._selected is not None else None
        if known is None:
            return ok("nothing is recorded yet")
        if known != now:
            return warn(
                "the mailbox was numbered anew (UIDVALIDITY changed)",
                "nothing: the next cycle compares message by message, and copies nothing twice",
            )
        return ok("same UIDVALIDITY as in the records")

    # -- Outlook.com

    def _reach(self) -> Found:
        try:
            try:
                self._status = self._sessions[Side.DESTINATION].status(self._config.outlook_target_folder)
            except NotConnected:
                # At most one new sign-in, after a short pause.
                self._sessions.pop(Side.DESTINATION).close()
                self._pause(_PAUSE)
                token = self._sign_in.access_token(Side.DESTINATION)
                self._sessions[Side.DESTINATION] = self._session(Side.DESTINATION, token)
                self._status = self._sessions[Side.DESTINATION].status(self._config.outlook_target_folder)
        except NotConnected as error:
            return self._not_connected(error)
        except SideError as error:
            return _meaning(error)
        return ok("it answers")

    def _not_connected(self, _error: NotConnected) -> Found:
        remedy = f"{SWITCH_IMAP_ON}; OUTLOOK_EMAIL has to be the primary address; else wait: Microsoft's fault"
        if not self._network.has_ipv4("outlook_imap"):
            remedy = f"connect over IPv4; {remedy}"
        return fail("signed in, but the mailbox is not connected ('authenticated but not connected')", remedy)

    def _outlook_can(self) -> Found:
        can = self._sessions[Side.DESTINATION].capabilities
        if "UIDPLUS" not in can:
            return warn("no UIDPLUS: it does not tell where a copy is", "check OUTLOOK_IMAP_HOST: is it Outlook.com's?")
        return ok(_listed(can, "UIDPLUS", "LITERAL+", "SASL-IR", "MOVE"))

    def _append_limit(self) -> Found:
        wanted = self._config.max_message_bytes
        for word in self._sessions[Side.DESTINATION].capabilities:
            limit = re.fullmatch(r"APPENDLIMIT=([0-9]{1,18})", word)
            if limit and int(limit[1]) < wanted:
                return warn(
                    f"{int(limit[1]):,} bytes, less than MAX_MESSAGE_BYTES ({wanted:,})",
                    f"MAX_MESSAGE_BYTES={limit[1]}",
                )
            if limit:
                return ok(f"{int(limit[1]):,} bytes; MAX_MESSAGE_BYTES is {wanted:,}")
        return ok(f"it does not say; MAX_MESSAGE_BYTES is {wanted:,}")

    def _folder(self) -> Found:
        wanted, may_create = self._config.outlook_target_folder, self._config.outlook_create_folder
        session = self._sessions[Side.DESTINATION]
        if self._status is not None:
            return ok("there")
        try:
            delimiter = next((found for _, found in session.list_mailboxes("") if found), "/")
            name = wanted.replace("/", delimiter)
            listed = [found for found, _ in session.list_mailboxes("*") if found.casefold() == name.casefold()]
            self._status = session.status(listed[0]) if listed else None
        except SideError as error:
            return _meaning(error)
        if self._status is not None:
            return ok("there, written another way")
        root = wanted.split("/")[0].casefold()
        if root in RESERVED:
            remedy = "OUTLOOK_TARGET_FOLDER=Gmail"
            return fail(f"Outlook.com keeps the name {wanted.split('/')[0]!r} for itself", remedy, EXIT_CONFIG)
        if not may_create:
            remedy = "OUTLOOK_CREATE_FOLDER=true, or make the folder in Outlook.com"
            return fail("it is not there, and OUTLOOK_CREATE_FOLDER is false", remedy, EXIT_CONFIG)
        if root in OUTLOOKS_OWN:
            return warn("not there, and Outlook.com may keep its name for itself", "OUTLOOK_TARGET_FOLDER=Gmail")
        if delimiter != "/" and delimiter in wanted:
            return warn(
                f"its name holds {delimiter!r}, which makes levels here", "take it out of OUTLOOK_TARGET_FOLDER"
            )
        return ok("not there yet: the first copy makes it")

    def _outlook_numbers(self) -> Found:
        if self._status is None:
            return ok("there is none yet")
        now = self._status["UIDVALIDITY"]
        try:
            pending = self._records.pending()
        except StateUnavailable as error:
            return fail(str(error), "try again in a minute")
        lost = [r.key.uid for r in pending if r.fence is not None and r.fence.uidvalidity != now and r.decision is None]
        if lost:
            return warn(
                f"it was made anew since {len(lost)} of the messages in doubt were sent: they cannot be looked for",
                how_to_decide(lost),
            )
        return ok("nothing in doubt hangs on it" if not pending else "as it was for what is in doubt")


_DIALECTS: Final[Mapping[Side, Dialect]] = {Side.SOURCE: GmailDialect(), Side.DESTINATION: OutlookDialect()}


def _meaning(error: SideError | ConfigError) -> Found:
    """Return what an error of one side is to a person."""
    if isinstance(error, ConfigError):
        return fail(error.faults[0], "correct the setting", EXIT_CONFIG)
    if isinstance(error, SignInRefused):
        return fail(f"the server refuses the token: {error.reason}", _OTHER_ACCOUNT[error.side], EXIT_SIGN_IN)
    if isinstance(error, AuthError):
        return fail(error.reason, error.remedy, EXIT_SIGN_IN)
    if isinstance(error, Throttled):
        minutes = max(round(error.seconds / 60), 1)
        return fail(f"it wants to be left alone: {error.reason}", f"wait {minutes} min; nothing is lost meanwhile")
    return fail(error.reason, "try again in a few minutes")


_OTHER_ACCOUNT: Final = {
    Side.SOURCE: f"set GMAIL_EMAIL to the account that signed in, or sign in with the right one: "
    f"{forecast.SIGN_IN[Side.SOURCE]}",
    Side.DESTINATION: f"set OUTLOOK_EMAIL to the primary address of the account that signed in, or sign in with the "
    f"right one: {forecast.SIGN_IN[Side.DESTINATION]}; {SWITCH_IMAP_ON}",
}


def _listed(can: frozenset[str], *wanted: str) -> str:
    return ", ".join([word for word in wanted if word in can]) or "nothing beyond IMAP4rev1"
