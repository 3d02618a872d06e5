"""The records: who works now, what a provider asked for, what failed, what is in doubt, the last good cycle.

Everything is read, strongly consistent, with the permissions a cycle has (BatchGetItem); only messages
that were given up are in no list, and take a Query. Nothing is written, and no lease is taken.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from syncer.config import Config
from syncer.diagnosis import Check, Found, fail, not_tried, ok, warn
from syncer.doctor.state import USABLE, State, split
from syncer.doctor.words import span
from syncer.dynamodb_client import call, code_of, translated
from syncer.dynamodb_records import WATERMARK, fail_record_of, partition_key, watermark_of
from syncer.dynamodb_state import DynamoDBState
from syncer.errors import StateUnavailable
from syncer.imap_utils import safe_text
from syncer.model import EXIT_CONFIG, FailRecord, MessageKey, Side, Status, UidRecord, Watermark
from syncer.sync_plan import how_to_decide

SETTINGS: Final = ("GMAIL_EMAIL", "OUTLOOK_EMAIL")
WATERMARK_CHECK: Final = "records.watermark"
MAX_RECORDS: Final = 1000
"""How many open messages are looked at one by one."""
MAX_PAGES: Final = 20
_HOUR: Final = 3600.0
_DAY: Final = 86_400.0


class Records:
    """What the table says about the two accounts."""

    def __init__(self, config: Config, state: State, now: Callable[[], float] = time.time) -> None:
        self._config = config
        self._state = state
        self._now = now
        self._partition = partition_key(config.gmail_email, config.outlook_email)
        self._item: Mapping[str, Any] = {}
        self.watermark = Watermark()
        self._open: list[UidRecord] | None = None

    def first_checks(self) -> list[Check]:
        """Return the checks of what is in the way of a cycle."""
        record, source, destination = (WATERMARK_CHECK,), Side.SOURCE, Side.DESTINATION
        return [
            Check(WATERMARK_CHECK, "record of progress", self._read, (*USABLE,), SETTINGS),
            Check("records.lease", "lease", self._lease, record, SETTINGS),
            Check("records.folders", "folders of the records", self._folders, record, SETTINGS),
            Check("gmail.hold", "wait asked for by Gmail", lambda: self._hold(source), record, SETTINGS),
            Check(
                "outlook.hold",
                "wait asked for by Outlook.com",
                lambda: self._hold(destination),
                record,
                SETTINGS,
            ),
        ]

    def last_checks(self) -> list[Check]:
        """Return the checks of how the cycles went so far."""
        record = (WATERMARK_CHECK,)
        return [
            Check("records.outages", "refusals by Outlook.com", self._outages, record, SETTINGS),
            Check("records.failing", "failed messages", self._failing, record, SETTINGS),
            Check("records.given_up", "messages given up", self._given_up, record, SETTINGS),
            Check("records.in_doubt", "messages in doubt", self._in_doubt, record, SETTINGS),
            Check("records.last_cycle", "last good cycle", self._last_cycle, record, SETTINGS),
        ]

    def pending(self) -> list[UidRecord]:
        """Return the messages that are claimed and not confirmed. Raises StateUnavailable."""
        if self._open is None:
            keys = [MessageKey(validity, uid) for validity, uids in self.watermark.open.items() for uid in uids]
            loaded = self._store().load(keys[:MAX_RECORDS], ())
            self._open = [record for record in loaded.records.values() if record.status is Status.PENDING]
        return self._open

    def _read(self) -> Found:
        table = self._config.dynamodb_table
        key = {"PK": {"S": self._partition}, "SK": {"S": WATERMARK}}
        request = {"RequestItems": {table: {"Keys": [key], "ConsistentRead": True}}}
        try:
            answer = call(self._state.client, "batch_get_item", request, table=table)
            self._item = next(iter(answer["Responses"].get(table, ())), {})
            self.watermark = watermark_of(self._item)
        except StateUnavailable as error:
            return split(error)
        if self.watermark.uidvalidity is None:
            return ok("none yet: no cycle has run for these two accounts")
        return ok(f"all up to UID {self.watermark.last_uid} is dealt with")

    def _lease(self) -> Found:
        left = self._lease_left()
        if left is None:
            return ok("free")
        if left > 2 * self._config.lease_seconds + 60:
            return warn(
                f"held for another {span(left)}, far longer than LEASE_SECONDS",
                "find the other runner: its clock is ahead, or its LEASE_SECONDS is another",
            )
        if left > 0:
            return ok(f"held by a run at work, for {span(left)} unless renewed")
        if left < -_HOUR:
            return ok(f"a run ended without letting go {span(-left)} ago; the next one takes over")
        return ok("free: the run that had it is over")

    def _lease_left(self) -> float | None:
        if "lease_owner" not in self._item or "lease_until" not in self._item:
            return None
        return float(self._item["lease_until"]["N"]) - self._now()

    def _folders(self) -> Found:
        was = self.watermark
        source, destination = self._config.gmail_source_folder, self._config.outlook_target_folder
        if was.source_mailbox and was.source_mailbox != source:
            remedy = "set GMAIL_SOURCE_FOLDER back, or give the new one a DYNAMODB_TABLE of its own"
            return fail("the records are of another GMAIL_SOURCE_FOLDER", remedy, EXIT_CONFIG)
        if was.destination_mailbox and was.destination_mailbox != destination:
            if any(was.open.values()):
                remedy = (
                    "set OUTLOOK_TARGET_FOLDER back until no message is in doubt, or decide about them yourself: "
                    "syncer status lists them, syncer settle --help says how"
                )
                return fail("messages may be in doubt in another OUTLOOK_TARGET_FOLDER", remedy, EXIT_CONFIG)
            return ok("OUTLOOK_TARGET_FOLDER is another: copies go there from now on")
        return ok("as before")

    def _hold(self, side: Side) -> Found:
        left = self.watermark.not_before.get(side, 0.0) - self._now()
        if left <= 0:
            return ok("none")
        until = datetime.fromtimestamp(self._now() + left, UTC)
        return fail(
            f"it asked to be left alone until {until:%H:%M} UTC, {span(left)} more",
            "wait: cycles go on by themselves then; close other mail programs on the account if this comes often",
        )

    def _outages(self) -> Found:
        count = self.watermark.outages
        if not count:
            return ok("none")
        return warn(
            f"in the last {count} cycles it refused every message",
            "look in Outlook.com whether mailbox or storage is full",
        )

    def _failing(self) -> Found:
        keys = [MessageKey(validity, uid) for validity, uids in self.watermark.failing.items() for uid in uids]
        if not keys:
            return ok("none")
        try:
            failures = self._store().load(keys[:MAX_RECORDS], ()).failures.values()
        except StateUnavailable as error:
            return split(error)
        next_try = min((failure.next_try_at for failure in failures), default=0.0) - self._now()
        when = f"in {span(next_try)}" if next_try > 0 else "with the next cycle"
        return warn(
            f"{_messages(len(keys))} failed; next try {when}{_commonest(failures)}",
            "nothing: they are tried again by themselves, for two days",
        )

    def _given_up(self) -> Found:
        from botocore.exceptions import ClientError

        config, found = self._config, []
        request: dict[str, Any] = {
            "TableName": config.dynamodb_table,
            "KeyConditionExpression": "#PK = :pk AND begins_with(#SK, :fail)",
            "FilterExpression": "#given_up = :yes",
            "ExpressionAttributeNames": {"#PK": "PK", "#SK": "SK", "#given_up": "given_up"},
            "ExpressionAttributeValues": {
                ":pk": {"S": self._partition},
                ":fail": {"S": "FAIL#"},
                ":yes": {"BOOL": True},
            },
        }
        try:
            with translated(config.dynamodb_table, self._state.client.meta.region_name):
                for _ in range(MAX_PAGES):
                    try:
                        page = self._state.client.query(**request)
                    except ClientError as error:
                        if code_of(error) not in ("AccessDeniedException", "AccessDenied"):
                            raise
                        return not_tried("AWS denies dynamodb:Query here; a cycle does not need it")
                    found += [fail_record_of(item) for item in page.get("Items", ())]
                    if "LastEvaluatedKey" not in page:
                        break
                    request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        except StateUnavailable as error:
            return split(error)
        if not found:
            return ok("none")
        uids = ", ".join(str(failure.key.uid) for failure in found[:5]) + (", ..." if len(found) > 5 else "")
        return warn(
            f"{_messages(len(found))} given up (UID {uids}){_commonest(found)}",
            "they stay in Gmail: read them there; what Outlook.com refuses it refuses again",
        )

    def _in_doubt(self) -> Found:
        try:
            pending = self.pending()
        except StateUnavailable as error:
            return split(error)
        if not pending:
            return ok("none")
        if (self._lease_left() or 0.0) > 0:
            return ok(f"{_messages(len(pending))} under way in the run at work")
        oldest = self._now() - min(record.claimed_at for record in pending)
        looked = sum(record.not_found_at is not None for record in pending)
        words = f"{_messages(len(pending))} in doubt, the oldest for {span(oldest)}; {looked} looked for once"
        if undecided := [r for r in pending if r.unclear and r.decision is None]:
            more = f"; of {len(undecided)} no look can tell"
            return warn(words + more, how_to_decide([record.key.uid for record in undecided]))
        return warn(words, "nothing: cycles look for each twice, then send it again")

    def _last_cycle(self) -> Found:
        at = self.watermark.completed_at
        if at is None:
            return ok("none yet; the first: syncer run-once")
        age = self._now() - at
        words = f"{span(age)} ago"
        if age > _DAY:
            return fail(words, "see that a runner is up: syncer daemon, the container, or the schedule")
        if age > max(_HOUR, 3 * self._config.sync_interval_seconds):
            return warn(words, "see that a runner is up: syncer daemon, the container, or the schedule")
        return ok(words)

    def _store(self) -> DynamoDBState:
        config = self._config
        return DynamoDBState(
            self._state.client,
            config.dynamodb_table,
            self._partition,
            lease_seconds=config.lease_seconds,
            uid_ttl_days=config.uid_ttl_days,
            fail_ttl_days=config.fail_ttl_days,
        )


def _commonest(failures: Collection[FailRecord]) -> str:
    """Return the reason that most of them have."""
    reasons = Counter(safe_text(failure.last_error, 60) for failure in failures)
    return f': "{reasons.most_common(1)[0][0]}"' if reasons else ""


def _messages(count: int) -> str:
    return f"{count} message" if count == 1 else f"{count} messages"
