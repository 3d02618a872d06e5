"""What ``syncer demo`` shows: three cycles of the real program on real mail, and then the proof.

Every cycle is the real command in a process of its own, as a schedule would start it. The proof
compares what lies in the two mailboxes, octet by octet; it believes no log line.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from syncer.demo.imap_server import StoredMessage
from syncer.demo.samples import Sample, from_path, newcomers, samples
from syncer.demo.world import GMAIL, OUTLOOK, DemoWorld
from syncer.imap_utils import parse_internaldate

FOLDER: Final = "Gmail"
SETTINGS: Final = {"INITIAL_SYNC": "all", "OUTLOOK_MAX_MESSAGES_PER_SECOND": "0", "OUTLOOK_TARGET_FOLDER": FOLDER}
_SHOWN: Final = 25
"""Messages listed one by one; of a larger mailbox only the counts."""


@dataclass(frozen=True, slots=True)
class _Cycle:
    """What a cycle of the real program said and did."""

    exit_code: int
    events: list[dict[str, Any]]
    dynamodb: Counter[str]
    token_calls: int
    destination_connections: int

    def finished(self, field: str) -> Any:
        return next((event.get(field) for event in self.events if event.get("event") == "cycle_finished"), None)


def tell(mail: Path | None, keep_logs: Path | None, console: Console | None = None) -> int:
    """Run the demo; return 0 if everything it claims was seen to be true.

    ``mail`` is a folder or file with the user's own mail, instead of the samples. ``keep_logs`` is a
    folder for the log lines of each cycle.
    """
    out = console or Console(highlight=False)
    now = datetime.now(UTC)
    try:
        letters = list(from_path(mail)) if mail is not None else samples(now)
    except ValueError as error:
        out.print(f"[red]{error}[/red]")
        return 2
    with DemoWorld(**SETTINGS) as world:
        out.rule("A Gmail, an Outlook.com, their sign-in and a DynamoDB, all on this machine")
        out.print(
            f"Gmail-like IMAP on {world.gmail.host}:{world.gmail.port}, Outlook-like on port {world.outlook.port}"
            f" (TLS, XOAUTH2), OAuth on {world.authority.base_url}, DynamoDB on {world.aws.endpoint}"
        )
        code, log = world.program.run("table", "create")
        _keep(keep_logs, "table-create", log)
        story = _Story(world, out, keep_logs)
        if code:
            out.print(f"[red]syncer table create failed with exit code {code}[/red]\n{log}")
            return 1
        return story.tell(letters, own_mail=mail is not None, now=now)


class _Story:
    def __init__(self, world: DemoWorld, out: Console, keep_logs: Path | None) -> None:
        self._world = world
        self._out = out
        self._keep_logs = keep_logs
        self._claims: list[tuple[str, bool]] = []
        self._cycles = 0

    def tell(self, letters: Sequence[Sample], *, own_mail: bool, now: datetime) -> int:
        for letter in letters:
            self._world.gmail.deliver(GMAIL, letter.raw, letter.received_at)
        first = self._cycle(f"{len(letters)} messages wait in the INBOX; first cycle")
        self._claim("the first cycle ended well", first.exit_code == 0 and first.finished("outcome") == "ok")

        second = self._cycle("nothing new; second cycle")
        self._claim("the second cycle copied nothing", second.finished("copied") == 0)
        self._claim("it made two DynamoDB requests", second.dynamodb.total() == 2)
        self._claim("it asked nobody for a token", second.token_calls == 0)
        self._claim("it did not contact the destination", second.destination_connections == 0)

        arrived = newcomers(now)
        for letter in arrived:
            self._world.gmail.deliver(GMAIL, letter.raw, letter.received_at)
        oldest = self._world.gmail.messages(GMAIL)[0]
        self._world.gmail.restore(GMAIL, self._world.gmail.archive(GMAIL, oldest.uid))
        third = self._cycle(f"{len(arrived)} messages arrive, an old one is archived and brought back; third cycle")
        self._claim("the third cycle copied only the new ones", third.finished("copied") == len(arrived))
        self._claim("it knew the old one again under its new UID", third.finished("duplicates") == 1)

        self._out.rule("What lies in the two mailboxes now")
        notes = {hashlib.sha256(letter.raw).hexdigest(): letter for letter in [*letters, *arrived]}
        self._compare({digest: letter.name if own_mail else letter.note for digest, letter in notes.items()})
        self._out.rule("What DynamoDB remembers")
        self._show_records()
        self._out.rule("Seen to be true")
        for claim, holds in self._claims:
            self._out.print(f"[green]yes[/green]  {claim}" if holds else f"[red]NO[/red]   {claim}")
        return 0 if all(holds for _, holds in self._claims) else 1

    # -- cycles

    def _cycle(self, title: str) -> _Cycle:
        world = self._world
        self._cycles += 1
        self._out.rule(title)
        world.aws.requests.clear()
        tokens, connections = world.authority.token_calls(), world.outlook.connections
        # A progress bar may be drawn on the terminal; the log goes through the pipe.
        code, log = world.program.run("run-once", stderr=sys.stderr if os.isatty(2) else None)
        _keep(self._keep_logs, f"cycle-{self._cycles}", log)
        cycle = _Cycle(
            code,
            [json.loads(line) for line in log.splitlines()],
            Counter(world.aws.requests),
            world.authority.token_calls() - tokens,
            world.outlook.connections - connections,
        )
        for event in cycle.events:
            if event["level"] in ("ERROR", "CRITICAL") or event["event"] == "message_failed":
                self._out.print(f"  [yellow]{event['event']}[/yellow] uid {event.get('uid')}: {event.get('reason')}")
        counts = ("listed", "copied", "duplicates", "failed", "in_doubt", "backlog")
        said = ", ".join(f"{name} {cycle.finished(name)}" for name in counts)
        requests = ", ".join(f"{count} {name}" for name, count in sorted(cycle.dynamodb.items()))
        self._out.print(f"exit code {code}, outcome [bold]{cycle.finished('outcome')}[/bold]: {said}")
        self._out.print(
            f"{cycle.finished('duration_ms')} ms; DynamoDB: {requests}; token calls: {cycle.token_calls};"
            f" connections to the destination: {cycle.destination_connections}"
        )
        return cycle

    # -- proofs

    def _claim(self, claim: str, holds: bool) -> None:
        self._claims.append((claim, holds))

    def _compare(self, notes: Mapping[str, str]) -> None:
        gmail = {message.gmail_msgid: message for message in self._world.gmail.messages(GMAIL)}
        failed = {record["SK"]["S"].rsplit("#", 1)[-1] for record in self._world.records() if _kind(record) == "FAIL"}
        wanted = [gmail[msgid] for msgid in sorted(gmail) if str(gmail[msgid].uid) not in failed]
        there = self._world.outlook.messages(OUTLOOK, FOLDER)
        self._claim(
            f"each of {len(wanted)} messages lies in the folder exactly once, octet for octet",
            Counter(map(_digest, wanted)) == Counter(map(_digest, there)),
        )
        dates = Counter((_digest(m), parse_internaldate(m.internaldate)) for m in wanted)
        self._claim(
            "each has the arrival date it had in Gmail",
            dates == Counter((_digest(m), parse_internaldate(m.internaldate)) for m in there),
        )
        self._claim("each is unread", not any("\\Seen" in message.flags for message in there))
        self._claim(
            "Gmail's own messages are untouched", not any(message.flags - {"\\Recent"} for message in gmail.values())
        )
        verbs = sorted({verb for connection in self._world.gmail.transcript for verb in connection})
        self._claim(
            f"Gmail was only read: {', '.join(verbs)}", not {"SELECT", "APPEND", "UID STORE", "EXPUNGE"} & {*verbs}
        )
        if failed:
            self._out.print(f"{len(failed)} messages were recorded as failed (see above) and are not in the folder.")
        if len(there) <= _SHOWN:
            self._show_messages(notes, there)
        else:
            octets = sum(len(message.raw) for message in there)
            self._out.print(f"{len(there)} messages, {octets:,} octets in the folder {FOLDER!r}.")

    def _show_messages(self, notes: Mapping[str, str], there: Sequence[StoredMessage]) -> None:
        table = Table(box=None, pad_edge=False)
        for heading in ("UID", "arrived", "octets", "SHA-256"):
            table.add_column(heading, justify="right" if heading == "octets" else "left", no_wrap=True)
        table.add_column("what it is")
        for message in there:
            digest = _digest(message)
            arrived = message.internaldate.rpartition(" ")[0].strip()
            table.add_row(str(message.uid), arrived, f"{len(message.raw):,}", digest[:12], notes.get(digest, ""))
        self._out.print(table)

    def _show_records(self) -> None:
        records = self._world.records()
        kinds = Counter(_kind(record) for record in records)
        self._out.print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) + ". One of each kind:")
        for kind in sorted(kinds):
            record = next(record for record in records if _kind(record) == kind)
            self._out.print(f"[bold]{record['SK']['S']}[/bold]")
            for name, value in sorted(record.items()):
                if name not in ("PK", "SK"):
                    self._out.print(f"    {name:24} {_plain(value)}", soft_wrap=True)


def _kind(record: dict[str, Any]) -> str:
    return str(record["SK"]["S"]).split("#", 1)[0]


def _plain(value: dict[str, Any]) -> Any:
    """Return a DynamoDB attribute value without its type."""
    kind, content = next(iter(value.items()))
    return {name: _plain(inner) for name, inner in content.items()} if kind == "M" else content


def _digest(message: StoredMessage) -> str:
    return hashlib.sha256(message.raw).hexdigest()


def _keep(folder: Path | None, name: str, log: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_text(log)
