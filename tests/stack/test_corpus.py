"""Six hundred real messages, byte for byte: through Dovecot on both sides, and through the embedded servers."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncer.demo.authority import Authority
from syncer.demo.certificates import Certificates
from syncer.demo.world import GMAIL as DEMO_GMAIL
from syncer.demo.world import OUTLOOK as DEMO_OUTLOOK
from syncer.demo.world import DemoWorld
from syncer.imap_utils import format_internaldate, parse_internaldate
from tests.conftest import missing
from tests.imap.dovecot import Dovecot
from tests.stack.pair import GMAIL, OUTLOOK, Stack, parsed, stack_between

pytestmark = [pytest.mark.corpus, pytest.mark.thorough]
FIRST = datetime(2024, 2, 29, 23, 59, 1, tzinfo=UTC)


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def arrival(number: int) -> datetime:
    return FIRST + timedelta(hours=7 * number, seconds=number)


@pytest.fixture
def dovecots(certificates: Certificates, tmp_path: Path) -> Iterator[tuple[Dovecot, Dovecot, Stack]]:
    """Two Dovecots that trust the authority of the program between them."""
    if reason := Dovecot.missing():
        missing(reason)
    servers: list[Dovecot] = []

    def dovecot(authority: Authority) -> int:
        server = Dovecot(certificates.server, certificates.key, authority.introspection_url).__enter__()
        servers.append(server)
        return server.port

    try:
        with stack_between(certificates, tmp_path, dovecot, dovecot, INITIAL_SYNC="all") as stack:
            yield servers[0], servers[1], stack
    finally:
        for server in servers:
            server.__exit__(None, None, None)


@pytest.mark.dovecot
def test_through_two_dovecots(dovecots: tuple[Dovecot, Dovecot, Stack], corpus: list[Path]) -> None:
    source, destination, stack = dovecots
    mail = [(file.read_bytes(), format_internaldate(arrival(n).timestamp())) for n, file in enumerate(corpus)]
    source.deliver_all(GMAIL, mail)
    # Dovecot keeps CRLF and no NUL: what it serves is what has to arrive (not what was delivered to it).
    served = source.messages(GMAIL)
    assert len(served) == len(corpus)

    first = stack.run()
    assert (first.exit_code, first.finished["outcome"]) == (0, "ok")
    there = destination.messages(OUTLOOK, "Gmail")
    # A CR that no LF follows may get lost with every APPEND to a Dovecot, at the end of a mail or
    # before a CRLF: for the few mails that have one, the log's hash tells what was sent.
    stable = {m.raw for m in served if not re.search(rb"\r(?!\n)", m.raw)}
    assert len(stable) > 580
    assert Counter(map(digest, stable)) == Counter(digest(m.raw) for m in there if m.raw in stable)
    assert len(there) == len({m.raw for m in served})
    assert first.finished["copied"] + first.finished["duplicates"] == len(corpus)
    dates = {(digest(m.raw), parse_internaldate(m.internaldate)) for m in served}
    assert {(digest(m.raw), parse_internaldate(m.internaldate)) for m in there if m.raw in stable} <= dates
    assert not any("\\Seen" in message.flags for message in there)
    assert not any("\\Seen" in message.flags for message in source.messages(GMAIL))
    logged = {event["uid"]: event["rfc822_sha256"] for event in first.named("message_copied")}
    assert len(logged) == len(there)
    assert all(logged[m.uid] == digest(m.raw) for m in served if m.uid in logged)

    second = stack.run()
    assert second.finished["copied"] == second.finished["listed"] == 0
    assert second.requests == {"UpdateItem": 2}


def test_through_the_embedded_servers_not_a_byte_is_touched(corpus: list[Path]) -> None:
    with DemoWorld(INITIAL_SYNC="all", OUTLOOK_MAX_MESSAGES_PER_SECOND="0") as world:
        assert world.program.run("table", "create")[0] == 0
        letters = [file.read_bytes() for file in corpus]
        for number, raw in enumerate(letters):
            world.gmail.deliver(DEMO_GMAIL, raw, arrival(number))
        code, log = world.program.run("run-once")
        assert code == 0
        assert parsed(log)[-1]["copied"] == len(letters)
        there = world.outlook.messages(DEMO_OUTLOOK, "Gmail")
        wanted = Counter((digest(raw), arrival(number).timestamp()) for number, raw in enumerate(letters))
        assert wanted == Counter((digest(m.raw), parse_internaldate(m.internaldate)) for m in there)
        assert not any("\\Seen" in message.flags for message in there)
        records = [record for record in world.records() if record["SK"]["S"].startswith("UID#")]
        assert Counter(r["rfc822_sha256"]["S"] for r in records) == Counter(map(digest, letters))
