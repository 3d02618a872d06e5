"""What each command does and what it is answered with, for both faces.

Not here: AUTHENTICATE and IDLE, which are dialogues (session.py), and all that only one provider does,
which are hooks of ``Face``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from tests.fakes import names
from tests.fakes.answers import Answer, Response, check_items, fetch_response, line, parse_date_time, quoted, sets_seen
from tests.fakes.commands import Atom, Group, Malformed, String, Token, text_of, words_of
from tests.fakes.face import Face
from tests.fakes.mailboxes import FakeMessage, Mailbox, Mailboxes
from tests.fakes.search import criteria, uid_ranges, within


@dataclass
class View:
    """A selected mailbox as this connection knows it: it learns of changes by NOOP, IDLE and EXAMINE only."""

    mailbox: Mailbox
    readonly: bool
    uidvalidity: int
    uids: list[int]

    def news(self) -> list[Response]:
        """Return what changed since, and know it from now on."""
        now, lines = self.mailbox.uids, []
        there = set(now)
        for at in reversed(range(len(self.uids))):
            if self.uids[at] not in there:
                lines.append(line(f"{at + 1} EXPUNGE"))
                del self.uids[at]
        if len(now) > len(self.uids):
            lines.append(line(f"{len(now)} EXISTS"))
        self.uids = now
        return lines


@dataclass
class Context:
    """The state of one connection."""

    number: int
    face: Face
    mailboxes: Mailboxes
    user: str | None = None
    view: View | None = None
    errors: int = 0
    connected: bool = True
    """Whether there is a store behind the front end (PROVIDERS 4.2)."""
    unreachable: int = 0
    """Commands refused because there is none."""

    def open_view(self) -> View:
        if self.view is None:
            raise Malformed("no mailbox is selected")
        return self.view

    def mailbox_name(self, token: Token) -> str:
        try:
            return names.decode(text_of(token))
        except ValueError as error:
            raise Malformed(f"mailbox name: {error}") from error


class State(IntEnum):
    """What has to have happened before a command is allowed."""

    ANY = 0
    SIGNED_IN = 1
    SELECTED = 2


Handler = Callable[[Context, tuple[Token, ...]], Answer]


def arguments(args: tuple[Token, ...], least: int, most: int | None = None) -> None:
    """Raises Malformed: the number of arguments is wrong."""
    if not least <= len(args) <= (least if most is None else most):
        raise Malformed("wrong number of arguments")


def capability(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 0)
    face = context.face
    return Answer.lines(face.ok("CAPABILITY"), f"CAPABILITY {face.capabilities(signed_in=context.user is not None)}")


def noop(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 0)
    return Answer(context.face.ok("NOOP"), context.view.news() if context.view else [])


def identify(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 1)
    if not isinstance(args[0], Group) and args != (Atom("NIL"),):
        raise Malformed("ID wants a list or NIL")
    if isinstance(args[0], Group) and len(args[0].items) % 2:
        raise Malformed("ID wants pairs")
    pairs = " ".join(f'"{key}" "{value}"' for key, value in context.face.identity.items())
    return Answer.lines(context.face.ok("ID"), f"ID ({pairs})")


def logout(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 0)
    answer = Answer.lines(context.face.ok("LOGOUT"), f"BYE {context.face.farewell}")
    answer.leave = True
    return answer


def login(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 2)
    return context.face.login_answer()


def namespace(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 0)
    return Answer.lines(context.face.ok("NAMESPACE"), 'NAMESPACE (("" "/")) NIL NIL')


def examine(context: Context, args: tuple[Token, ...]) -> Answer:
    return _open(context, args, readonly=True)


def select(context: Context, args: tuple[Token, ...]) -> Answer:
    return _open(context, args, readonly=False)


def _open(context: Context, args: tuple[Token, ...], *, readonly: bool) -> Answer:
    arguments(args, 1)
    context.view = None
    name = context.mailbox_name(args[0])
    mailbox = context.mailboxes.get(name)
    if mailbox is None:
        return Answer(context.face.no_mailbox(name))
    with mailbox.lock:
        context.view = View(mailbox, readonly, mailbox.uidvalidity, mailbox.uids)
        return context.face.open_answer(mailbox, readonly=readonly)


def close(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 0)
    context.view = None
    return Answer(context.face.ok("CLOSE"))


_STATUS: Final[dict[str, Callable[[Mailbox], int]]] = {
    "MESSAGES": lambda mailbox: len(mailbox.uids),
    "RECENT": lambda mailbox: 0,
    "UIDNEXT": lambda mailbox: mailbox.uidnext,
    "UIDVALIDITY": lambda mailbox: mailbox.uidvalidity,
    "UNSEEN": lambda mailbox: sum("\\Seen" not in message.flags for message in mailbox.messages),
    "HIGHESTMODSEQ": lambda mailbox: mailbox.modseq,
}


def status(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 2)
    if not isinstance(args[1], Group):
        raise Malformed("STATUS wants a list")
    items = [item.upper() for item in words_of(args[1])]
    if not items or any(item not in context.face.status_items for item in items):
        raise Malformed("unknown STATUS item")
    name = context.mailbox_name(args[0])
    mailbox = context.mailboxes.get(name)
    if mailbox is None:
        return Answer(context.face.no_mailbox(name))
    with mailbox.lock:
        values = " ".join(f"{item} {_STATUS[item](mailbox)}" for item in items)
    return Answer.lines(context.face.ok("STATUS"), f"STATUS {quoted(names.encode(mailbox.name))} ({values})")


def list_mailboxes(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 2)
    if not text_of(args[1]):
        return Answer.lines(context.face.ok("LIST"), 'LIST (\\Noselect) "/" ""')
    wanted = context.mailbox_name(args[0]) + context.mailbox_name(args[1])
    parts = (
        ".*" if part == "*" else "[^/]*" if part == "%" else re.escape(part) for part in re.split(r"([*%])", wanted)
    )
    pattern = re.compile("".join(parts), re.IGNORECASE if context.face.ignore_case else 0)
    answer = Answer(context.face.ok("LIST"))
    for name in context.mailboxes.names():
        if pattern.fullmatch(name):
            flags = context.face.list_flags(name, context.mailboxes)
            answer.responses.append(line(f'LIST ({flags}) "/" {quoted(names.encode(name))}'))
    return answer


def create(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 1)
    return context.face.create(context.mailboxes, context.mailbox_name(args[0]))


def subscribe(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 1)
    name = context.mailbox_name(args[0])
    if context.mailboxes.get(name) is None:
        return Answer(context.face.no_mailbox(name))
    with context.mailboxes.lock:
        context.mailboxes.subscribed.append(name)
    return Answer(context.face.ok("SUBSCRIBE"))


def append(context: Context, args: tuple[Token, ...]) -> Answer:
    """Take ``APPEND mailbox [(flags)] ["date-time"] literal`` apart; the face stores."""
    arguments(args, 2, 4)
    *options, message = args[1:]
    if not isinstance(message, String) or not message.literal:
        raise Malformed("APPEND wants a literal")
    flags: tuple[str, ...] = ()
    if options and isinstance(options[0], Group):
        flags = tuple(words_of(options.pop(0)))
    date = None
    if options and isinstance(options[0], String) and not options[0].literal:
        date = text_of(options.pop(0)).decode("latin-1")
    if options:
        raise Malformed("APPEND with something unknown")
    try:
        when = parse_date_time(date) if date is not None else None
    except ValueError:
        return Answer(context.face.bad_date())
    return context.face.append(context.mailboxes, context.mailbox_name(args[0]), message.value, flags, when)


def requested(context: Context, args: tuple[Token, ...]) -> list[tuple[int, FakeMessage]]:
    """Return what a UID FETCH would answer with, by sequence number. Raises Malformed.

    What was expunged, and this connection has not been told, is silently missing.
    """
    view = context.open_view()
    highest = view.uids[-1] if view.uids else 0
    places = within(uid_ranges(text_of(args[0]).decode("latin-1"), highest), view.uids)
    candidates = ((place + 1, view.mailbox.get(view.uids[place])) for place in places)
    return [(sequence, message) for sequence, message in candidates if message]


def found(context: Context, args: tuple[Token, ...]) -> list[int]:
    """Return the UIDs that a UID SEARCH would answer with. Raises Malformed."""
    view, face = context.open_view(), context.face
    highest = view.uids[-1] if view.uids else 0
    tests = criteria(args, highest=highest, zone=face.zone, gmail=face.gmail)
    messages = [message for message in map(view.mailbox.get, view.uids) if message]
    return [] if face.search_blind else [m.uid for m in messages if all(test(m) for test in tests)]


def fetch(context: Context, args: tuple[Token, ...]) -> Answer:
    arguments(args, 2)
    face, view, items = context.face, context.open_view(), words_of(args[1])
    check_items(items, gmail=face.gmail)
    answer, serving = Answer(face.ok("FETCH")), face.serving()
    for sequence, message in requested(context, args):
        if not view.readonly and any(map(sets_seen, items)) and "\\Seen" not in message.flags:
            view.mailbox.set_flags(message.uid, (*message.flags, "\\Seen"))
        answer.responses.append(fetch_response(sequence, message, items, serving))
    return answer


def search(context: Context, args: tuple[Token, ...]) -> Answer:
    return Answer.lines(context.face.ok("SEARCH"), " ".join(["SEARCH", *map(str, found(context, args))]))


HANDLERS: Final[dict[str, tuple[State, Handler]]] = {
    "CAPABILITY": (State.ANY, capability),
    "NOOP": (State.ANY, noop),
    "ID": (State.ANY, identify),
    "LOGOUT": (State.ANY, logout),
    "LOGIN": (State.ANY, login),
    "NAMESPACE": (State.SIGNED_IN, namespace),
    "EXAMINE": (State.SIGNED_IN, examine),
    "SELECT": (State.SIGNED_IN, select),
    "STATUS": (State.SIGNED_IN, status),
    "LIST": (State.SIGNED_IN, list_mailboxes),
    "CREATE": (State.SIGNED_IN, create),
    "SUBSCRIBE": (State.SIGNED_IN, subscribe),
    "APPEND": (State.SIGNED_IN, append),
    "CLOSE": (State.SELECTED, close),
    "UNSELECT": (State.SELECTED, close),
    "CHECK": (State.SELECTED, noop),
    "UID FETCH": (State.SELECTED, fetch),
    "UID SEARCH": (State.SELECTED, search),
}
