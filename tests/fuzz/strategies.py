"""What a bad server may say: fragments of IMAP, and ways to spoil a good answer with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hypothesis import strategies as st

from tests.fuzz.player import Twist

_NUMBERS: Final = (b"0", b"-1", b"1", b"2", b"3", b"4", b"007", b"4294967295", b"4294967296", b"9" * 19, b"9" * 400)
_ATOMS: Final = (
    *(b"UID", b"FLAGS", b"RFC822.SIZE", b"INTERNALDATE", b"X-GM-MSGID", b"BODY[]", b"BODY[]<0>", b"BODY[HEADER]"),
    *(
        b"BODY[HEADER.FIELDS (MESSAGE-ID DATE FROM SUBJECT)]",
        b"NIL",
        b"\\Seen",
        b"OK",
        b"NO",
        b"BAD",
        b"BYE",
        b"PREAUTH",
    ),
    *(b"FETCH", b"SEARCH", b"STATUS", b"LIST", b"EXISTS", b"EXPUNGE", b"CAPABILITY", b"UIDVALIDITY", b"UIDNEXT", b"+"),
    *(b"[UIDVALIDITY 0]", b"[UIDNEXT]", b"[APPENDUID 1 2]", b"[APPENDUID 0 0]", b"[TRYCREATE]", b"[THROTTLED]"),
    *(b"{0}", b"{1}", b"{3}", b"{2000}", b"{1073741824}", b"{9999999999}", b"{-1}", b"{3+}", b"~{3}"),
    *(b'"', b'""', b"\\", b"(", b")", b"[", b"]", b"{", b"}", b"*", b"%", b"\0", b"\r", b"\xff", b"\x1b", b"  ", b"\t"),
    b'"17-Jul-2026 02:44:25 +0000"',
    b'"99-Zzz-0000 99:99:99 +9999"',
)
_LINES: Final = (
    b"* BYE going down",
    b"* BYE Session expired, please login again",
    b"BYE",
    b"* 1 EXPUNGE",
    b"* OK [ALERT] mara@gmail.example",
    b"\0TAG OK done",
    b"\0TAG NO not now",
    b"\0TAG BAD Request is throttled. Suggested Backoff Time: 9999999999 milliseconds",
    b"\0TAG MAYBE",
    b"\0TAG",
    b"ZZZ1 OK done",
    b"Server Unavailable. 15",
    b"+",
    b"+ eyJzdGF0dXMiOiI0MDAifQ==",
    b"",
    b"* ",
    b"*",
    b"* SEARCH 1 2 4294967296",
    b"* SEARCH 0",
    b"* STATUS Gmail (UIDVALIDITY 0 UIDNEXT 99999999999)",
    b"* STATUS Gmail (UIDNEXT 9223372036854775807 UIDVALIDITY 9223372036854775807)",
    b"* OK [UIDVALIDITY 0] zero",
    b"* OK [UIDNEXT 0] zero",
    b"* OK [UIDNEXT 4294967296] more than there can be",
    b'* LIST () "\\"" "' + b"a" * 3000 + b'"',
    b"* 2 FETCH (UID 2 BODY[] NIL)",
    b"* 2 FETCH (UID 2 BODY[] {5}\r\nwrong)",
    b"* 1 FETCH (UID 1 UID 2 BODY[] {5}\r\nwhose)",
    b"* 1 FETCH (UID -1 BODY[] {5}\r\nwrong)",
    b'* 2 FETCH (BODY[] "nobody\'s")',
    b"* 9 FETCH (UID 9 RFC822.SIZE 3)",
    b"* 1 FETCH (FLAGS " + b"(" * 10_000 + b")" * 10_000 + b")",
    b"* 1 FETCH " + b"(" * 10_000,
    b"* 1 FETCH (UID 1 BODY[] {1073741824}",
)

_Change = Callable[[bytes], bytes]


def words() -> st.SearchStrategy[bytes]:
    """A line of words that each could stand in an answer."""
    word = st.sampled_from(_ATOMS + _NUMBERS) | st.binary(max_size=8)
    return st.lists(word, max_size=8).map(b" ".join)


def responses() -> st.SearchStrategy[bytes]:
    """Untagged responses by the grammar, sense aside."""
    value = st.deferred(lambda: simple | st.lists(value, max_size=4).map(lambda vs: b"(" + b" ".join(vs) + b")"))
    simple = st.sampled_from(_ATOMS + _NUMBERS) | st.binary(max_size=12).map(
        lambda raw: b"{%d}\r\n%s" % (len(raw), raw)
    )
    items = st.lists(st.tuples(st.sampled_from(_ATOMS[:9]), value), max_size=5)
    fetch = st.tuples(st.sampled_from(_NUMBERS), items).map(
        lambda drawn: b"* %s FETCH (%s)" % (drawn[0], b" ".join(b"%s %s" % pair for pair in drawn[1]))
    )
    return fetch | words().map(lambda line: b"* " + line)


def fragments() -> st.SearchStrategy[bytes]:
    """What is put into an answer, or in its place."""
    line = st.sampled_from(_LINES) | responses() | words()
    return st.lists(line, min_size=1, max_size=3).map(lambda lines: b"\r\n".join(lines) + b"\r\n") | words()


def changes() -> st.SearchStrategy[_Change]:
    """Cut, duplicate, swap, flip, delete, splice; at the start of a line as often as anywhere."""
    place = st.integers(0, 4000)
    return st.one_of(
        st.builds(_cut, place),
        st.builds(_duplicate, place, st.integers(1, 200)),
        st.builds(_swap_lines, st.integers(0, 20), st.integers(0, 20)),
        st.builds(_flip, place, st.integers(0, 7)),
        st.builds(_delete, place, st.integers(1, 200)),
        st.builds(_splice, place, fragments()),
        st.builds(_splice_line, st.integers(0, 20), fragments()),
        st.builds(_splice_line, st.integers(0, 20), fragments()),
        st.builds(_replace, fragments()),
        st.builds(_renumber, st.integers(0, 20), st.sampled_from(_NUMBERS)),
    )


def twists() -> st.SearchStrategy[Twist]:
    """One spoilt answer."""
    changed = st.lists(changes(), min_size=1, max_size=3).map(_all)
    return st.one_of(
        *[st.builds(Twist, changed)] * 5,
        st.builds(Twist, changed, ends=st.just(True)),
        st.builds(Twist, changed, stalls=st.just(True)),
        st.builds(Twist, changed, chunk=st.integers(1, 40)),
        st.builds(Twist, changed, chunk=st.integers(40, 100), pause=st.just(0.01)),
        st.builds(Twist, changed, early=st.just(True)),
    )


def plays() -> st.SearchStrategy[dict[int, Twist]]:
    """Which of the answers are spoilt, and how."""
    return st.dictionaries(st.integers(0, 9), twists(), min_size=1, max_size=3)


def _all(several: list[_Change]) -> _Change:
    def change(said: bytes) -> bytes:
        for one in several:
            said = one(said)
        return said

    return change


def _cut(at: int) -> _Change:
    return lambda said: said[: at % (len(said) + 1)]


def _duplicate(at: int, octets: int) -> _Change:
    def change(said: bytes) -> bytes:
        first = at % (len(said) + 1)
        return said[: first + octets] + said[first:]

    return change


def _swap_lines(one: int, other: int) -> _Change:
    def change(said: bytes) -> bytes:
        lines = said.splitlines(keepends=True)
        if lines:
            a, b = one % len(lines), other % len(lines)
            lines[a], lines[b] = lines[b], lines[a]
        return b"".join(lines)

    return change


def _flip(at: int, bit: int) -> _Change:
    def change(said: bytes) -> bytes:
        if not said:
            return said
        spoilt = bytearray(said)
        spoilt[at % len(spoilt)] ^= 1 << bit
        return bytes(spoilt)

    return change


def _delete(at: int, octets: int) -> _Change:
    def change(said: bytes) -> bytes:
        first = at % (len(said) + 1)
        return said[:first] + said[first + octets :]

    return change


def _splice(at: int, fragment: bytes) -> _Change:
    def change(said: bytes) -> bytes:
        first = at % (len(said) + 1)
        return said[:first] + fragment + said[first:]

    return change


def _splice_line(at: int, fragment: bytes) -> _Change:
    def change(said: bytes) -> bytes:
        lines = said.splitlines(keepends=True)
        lines.insert(at % (len(lines) + 1), fragment)
        return b"".join(lines)

    return change


def _replace(fragment: bytes) -> _Change:
    return lambda said: fragment


def _renumber(which: int, number: bytes) -> _Change:
    """Put another number in the place of one: a UID, a size, a literal's length."""

    def change(said: bytes) -> bytes:
        found = [at for at in range(len(said)) if said[at : at + 1].isdigit() and not said[at - 1 : at].isdigit()]
        if not found:
            return said
        at = found[which % len(found)]
        end = at
        while said[end : end + 1].isdigit():
            end += 1
        return said[:at] + number + said[end:]

    return change
