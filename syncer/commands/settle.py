"""``settle``: a person who has looked decides about messages in doubt."""

from __future__ import annotations

import logging
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from syncer import config as settings
from syncer.commands.auth_screens import Screen
from syncer.commands.common import ended, load, running, settings_help, tell
from syncer.config import Config
from syncer.cycle import Runner, retry_exit_code
from syncer.daemon import Stopper
from syncer.errors import LeaseHeld
from syncer.logging_utils import log_event
from syncer.model import EXIT_FINDINGS, EXIT_NOT_NOW, Decision, Outcome, UidRecord
from syncer.status_words import span

if TYPE_CHECKING:
    from syncer.decision import Doubts

logger = logging.getLogger(__name__)

_READS: Final = (*settings.RECORDS_SETTINGS, "LEASE_SECONDS", "UID_TTL_DAYS")
_UID: Final = click.IntRange(1, 2**32 - 1)


@click.command(epilog=settings_help(*_READS))
@click.argument("uids", metavar="UID...", nargs=-1, required=True, type=_UID)
@click.option("--copied", is_flag=True, help="The copy is in Outlook.com: record that, and look no more.")
@click.option("--not-copied", is_flag=True, help="It is nowhere in Outlook.com: the next cycle copies it again.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where nobody can be asked.")
@click.option("--now", "at_once", is_flag=True, help="With --not-copied: run a cycle at once.")
@click.option("--uidvalidity", type=click.INT, metavar="NUMBER", help="Which one, where two in doubt have one UID.")
def settle(
    uids: tuple[int, ...], copied: bool, not_copied: bool, yes: bool, at_once: bool, uidvalidity: int | None
) -> None:
    """Decide about messages in doubt, of which no look can tell whether their copy is there.

    Look for them in Outlook.com first, in every folder: a wrong --copied loses a mail, a wrong --not-copied makes a
    second copy. What cycles can find out, they decide without you: syncer status says which wait for you.
    Reads the settings below only; with --now all of them. Exit code 1: a UID is not in doubt, or you answered no.

    \b
    Example:
      syncer settle 307 --copied
    """
    if copied == not_copied:
        raise click.UsageError("say what you found: --copied or --not-copied, one of them")
    if not yes and not _can_ask():
        raise click.UsageError("nobody can be asked here: look for the message yourself, then add --yes")
    decision = Decision.COPIED if copied else Decision.NOT_COPIED
    config = load() if at_once else load(*_READS)
    doubts = _look_up(config, uids, uidvalidity)
    _show(doubts, decision)
    if doubts.messages and not yes and not click.confirm(_question(doubts, decision), err=True):
        tell("settle: nothing was changed")
        sys.exit(EXIT_FINDINGS)
    with running(config, Stopper()) as runner:
        report = runner.settle(doubts, decision)
        to_copy = decision is Decision.NOT_COPIED and report.outcome is Outcome.OK and report.decided
        tried = runner.run() if at_once and to_copy else None
    what = f"{report.decided} {'recorded as copied' if copied else 'to be copied again'}"
    left = f"; not decided: UID {', '.join(map(str, report.unknown))}" if report.unknown else ""
    tell(f"settle: {ended(report.outcome)}; {what if report.decided else 'nothing was changed'}{left}")
    sys.exit(retry_exit_code(report, tried))


def _can_ask() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _look_up(config: Config, uids: tuple[int, ...], uidvalidity: int | None) -> Doubts:
    """Read what is known of them; leave the process if a run is at work. Raises StateUnavailable."""
    with Runner(config) as runner:
        try:
            return runner.doubts(uids, uidvalidity=uidvalidity)
        except LeaseHeld as held:
            log_event(logger, logging.INFO, "lease_held", until=held.until)
            tell(f"settle: {ended(Outcome.LEASE_HELD)}")
            sys.exit(EXIT_NOT_NOW)


def _show(doubts: Doubts, decision: Decision) -> None:
    """Show a person what is known of the messages, and what will happen; the log has the rest."""
    if not sys.stderr.isatty():
        return
    screen = Screen()
    for record in doubts.messages:
        _show_message(screen, record)
    for uid, reason in doubts.refused.items():
        screen.bad(f"UID {uid}: {reason}")
    if not doubts.messages:
        return
    if decision is Decision.COPIED:
        screen.warn("recorded as copied, it is never sent again: if its copy is not there, it is in Gmail only")
    else:
        screen.warn(
            "the next cycle copies it again, unless it finds the copy in the folder: if a copy is in another "
            "folder, there will be two"
        )


def _show_message(screen: Screen, record: UidRecord) -> None:
    screen.title(f"UID {record.key.uid}, in doubt")
    if record.fingerprint is not None:
        screen.say(f"Arrived in Gmail: {_local(record.fingerprint.received_at)}. A copy has the same date and time.")
    screen.say(f"Sent: {_local(record.claimed_at)}, {span(time.time() - record.claimed_at)} ago. No answer came.")
    if record.decision is Decision.NOT_COPIED:
        screen.say("You said that it is not there: the next cycle copies it again.")
    elif record.unclear:
        screen.say(f"Why no look can tell: {record.unclear}.")
    else:
        screen.warn("cycles look for its copy and will decide by themselves", "better wait for that")
    screen.say()


def _question(doubts: Doubts, decision: Decision) -> str:
    them = "it" if len(doubts.messages) == 1 else f"these {len(doubts.messages)}"
    return f"Record {them} as copied?" if decision is Decision.COPIED else f"Copy {them} again?"


def _local(at: float) -> str:
    """Return a time as mail programs on this machine show it."""
    return datetime.fromtimestamp(at).astimezone().strftime("%a %d %b %Y, %H:%M:%S (%z)")
