"""The form of the records: what other people's tools read."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.dynamodb_records import (
    fail_item,
    fail_record_of,
    holder_of,
    moment,
    number,
    partition_key,
    text,
    uid_item,
    uid_record_of,
    watermark_item,
    watermark_of,
)
from syncer.dynamodb_writes import Action, Partition
from syncer.errors import StateUnavailable
from syncer.model import (
    Claim,
    Confirmation,
    CopyUid,
    Decided,
    Decision,
    Duplicate,
    FailRecord,
    Fence,
    Fingerprint,
    Forecast,
    Identity,
    LookBack,
    MessageKey,
    Side,
    Status,
    UidRecord,
    Watermark,
)
from syncer.uid_set import UidSet

NOW = 1_795_345_849.125
KEY = MessageKey(7, 11)
PARTITION = Partition("table", "ACCOUNT#a#DEST#b", uid_ttl_days=400, fail_ttl_days=90)
RECORD = UidRecord(
    key=KEY,
    status=Status.DONE,
    identity=Identity("18446744073709551615"),
    attempt="t",
    run_id="r",
    claimed_at=NOW,
    fence=Fence(3, 42),
    fingerprint=Fingerprint("<a@b>", 1_795_000_000, "dd", "ss", "jj"),
    internaldate="17-Jul-1996 02:44:25 -0700",
    rfc822_sha256="ee",
    not_found_at=NOW + 1,
    unclear="why",
    decision=Decision.NOT_COPIED,
    decided_at=NOW + 3,
    copied_at=NOW + 2,
    copy=CopyUid(3, 50),
    duplicate_of=MessageKey(6, 5),
)
UID_ITEM = {
    "status": {"S": "DONE"},
    "identity": {"S": "18446744073709551615"},
    "attempt": {"S": "t"},
    "run_id": {"S": "r"},
    "claimed_at": {"S": "2026-11-22T11:10:49.125Z"},
    "fence_uidvalidity": {"N": "3"},
    "fence_uidnext": {"N": "42"},
    "message_id_header": {"S": "<a@b>"},
    "fp_received_at": {"N": "1795000000"},
    "fp_date": {"S": "dd"},
    "fp_sender": {"S": "ss"},
    "fp_subject": {"S": "jj"},
    "internaldate": {"S": "17-Jul-1996 02:44:25 -0700"},
    "rfc822_sha256": {"S": "ee"},
    "not_found_at": {"S": "2026-11-22T11:10:50.125Z"},
    "unclear": {"S": "why"},
    "decision": {"S": "not_copied"},
    "decided_at": {"S": "2026-11-22T11:10:52.125Z"},
    "copied_at": {"S": "2026-11-22T11:10:51.125Z"},
    "destination_uidvalidity": {"N": "3"},
    "destination_uid": {"N": "50"},
    "duplicate_of": {"S": "6#5"},
    "ttl": {"N": "1829905851"},
}
UID_SK = {"SK": {"S": "UID#7#11"}}


def test_letter_case_of_an_address_starts_no_new_history() -> None:
    assert partition_key("Me@Gmail.com", "ME@Outlook.com") == "ACCOUNT#me@gmail.com#DEST#me@outlook.com"


def test_a_uid_record_in_full() -> None:
    assert uid_item(RECORD, 1_829_905_851) == UID_ITEM
    assert uid_record_of({**UID_ITEM, **UID_SK}) == RECORD


def test_a_uid_record_of_little_has_no_empty_attributes() -> None:
    record = UidRecord(KEY, Status.PENDING, Identity("5"))
    assert uid_item(record) == {"status": {"S": "PENDING"}, "identity": {"S": "5"}}
    assert uid_record_of({**uid_item(record), **UID_SK, "of a later version": {"NULL": True}}) == record


def test_a_watermark_in_full() -> None:
    watermark = Watermark(
        uidvalidity=7,
        last_uid=10,
        horizon=12,
        open={7: UidSet([11, 12]), 6: UidSet()},
        next_try_at=NOW,
        not_before={Side.SOURCE: NOW},
        completed_at=NOW - 0.125,
        look_back=LookBack(NOW - 0.125, twice=2, once=9, reached=5),
        tokens={
            Side.SOURCE: Forecast(Side.SOURCE),
            Side.DESTINATION: Forecast(Side.DESTINATION, signed_in_at=NOW - 1, renewed_at=NOW, ends_at=NOW + 1),
        },
        token_warned_at={Side.DESTINATION: NOW},
    )
    item: dict[str, dict[str, Any]] = {
        "uidvalidity": {"N": "7"},
        "last_uid": {"N": "10"},
        "horizon": {"N": "12"},
        "open": {"M": {"7": {"S": "11:12"}}},
        "next_try_at": {"N": "1795345849.125"},
        "window_since": {"N": "0"},
        "window_upto": {"N": "0"},
        "not_before": {"M": {"source": {"N": "1795345849.125"}}},
        "completed_at": {"S": "2026-11-22T11:10:49Z"},
        "outages": {"N": "0"},
        "lookback_at": {"S": "2026-11-22T11:10:49Z"},
        "lookback_twice": {"N": "2"},
        "lookback_once": {"N": "9"},
        "lookback_reached": {"N": "5"},
        "tokens": {
            "M": {
                "source": {"M": {}},
                "destination": {
                    "M": {
                        "signed_in_at": {"S": "2026-11-22T11:10:48.125Z"},
                        "renewed_at": {"S": "2026-11-22T11:10:49.125Z"},
                        "ends_at": {"S": "2026-11-22T11:10:50.125Z"},
                    }
                },
            }
        },
        "token_warned_at": {"M": {"destination": {"S": "2026-11-22T11:10:49.125Z"}}},
    }
    assert watermark_item(watermark) == item
    assert watermark_of(item).tokens == watermark.tokens
    assert watermark_of(item).token_warned_at == watermark.token_warned_at
    assert watermark_of(item).open == {7: UidSet([11, 12])}
    assert watermark_of(item).look_back == watermark.look_back


def test_a_fail_record_in_full() -> None:
    record = FailRecord(KEY, "x" * 2000, 3, NOW, NOW + 600, True, 1_795_000_000.0)
    item = fail_item(record, 1_803_121_849)
    assert item == {
        "last_error": {"S": "x" * 1000},
        "retry_count": {"N": "3"},
        "updated_at": {"S": "2026-11-22T11:10:49.125Z"},
        "next_try_at": {"N": "1795346449.125"},
        "given_up": {"BOOL": True},
        "received_at": {"N": "1795000000"},
        "ttl": {"N": "1803121849"},
    }
    assert fail_record_of({**item, "SK": {"S": "FAIL#7#11"}}).received_at == 1_795_000_000.0
    least = {"retry_count": {"N": "1"}, "SK": {"S": "FAIL#7#11"}}
    assert fail_record_of(least) == FailRecord(KEY, "", 1, 0.0, 0.0)


@pytest.mark.parametrize("value", [0, 1, 4294967295, NOW, 0.1, 1e-7, 2**53, -62135596800.0])
def test_a_number_reads_back_as_the_same(value: float) -> None:
    assert float(number(value)["N"]) == value


@pytest.mark.parametrize(
    ("seconds", "iso"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (1_795_345_849.0, "2026-11-22T11:10:49Z"),
        (1_795_345_849.001, "2026-11-22T11:10:49.001Z"),
        (1_795_345_849.9996, "2026-11-22T11:10:50Z"),
    ],
)
def test_a_moment_is_text_that_people_read(seconds: float, iso: str) -> None:
    assert moment(seconds) == {"S": iso}


def test_what_utf_8_cannot_carry_is_replaced() -> None:
    assert text("a\udcffz") == {"S": "a?z"}


@pytest.mark.parametrize(
    ("item", "name"),
    [
        pytest.param({**UID_ITEM, **UID_SK, "status": {"S": "HALF"}}, "UID#7#11", id="unknown status"),
        pytest.param({**UID_SK, "status": {"S": "DONE"}}, "UID#7#11", id="no identity"),
        pytest.param({**UID_ITEM, **UID_SK, "copied_at": {"S": "yesterday"}}, "UID#7#11", id="no moment"),
        pytest.param({**UID_ITEM, **UID_SK, "copied_at": {"S": "2026-11-22T11:10:49"}}, "UID#7#11", id="no zone"),
        pytest.param({**UID_ITEM, **UID_SK, "fence_uidnext": {"S": "1"}}, "UID#7#11", id="wrong type"),
        pytest.param({**UID_ITEM, **UID_SK, "fence_uidvalidity": {"N": "x"}}, "UID#7#11", id="no number"),
        pytest.param({**UID_ITEM, "SK": {"S": "UID#7"}}, "UID#7", id="half a key"),
    ],
)
def test_a_damaged_record_is_named(item: dict[str, dict[str, str]], name: str) -> None:
    with pytest.raises(StateUnavailable, match=f"record {name} in DynamoDB is damaged"):
        uid_record_of(item)


def test_a_damaged_watermark_or_holder_is_named() -> None:
    with pytest.raises(StateUnavailable, match="record WATERMARK"):
        watermark_of({"SK": {"S": "WATERMARK"}, "open": {"M": {"7": {"S": "9:*"}}}})
    with pytest.raises(StateUnavailable, match="record MSG#5"):
        holder_of({"SK": {"S": "MSG#5"}, "uid": {"N": "5"}})


def test_only_what_is_settled_expires() -> None:
    def items(actions: list[Action]) -> list[dict[str, Any]]:
        return [action["Put"]["Item"] for action in actions]

    pending = UidRecord(KEY, Status.PENDING, Identity("5"), "t", "r", NOW)
    uid, identity = items(PARTITION.actions(Claim(pending)))
    assert "ttl" not in uid
    assert "ttl" not in identity
    (duplicate,) = items(PARTITION.actions(Duplicate(KEY, Identity("5"), MessageKey(7, 1), NOW)))
    assert duplicate["ttl"] == {"N": str(int(NOW) + 400 * 86400)}
    (confirmed,) = PARTITION.confirmation(Confirmation(KEY, "t", NOW, None))
    assert confirmed["Update"]["ExpressionAttributeValues"][":ttl"] == {"N": str(int(NOW) + 400 * 86400)}
    (there,) = PARTITION.actions(Decided(KEY, "t", Decision.COPIED, NOW))
    assert there["Update"]["ExpressionAttributeValues"][":ttl"] == {"N": str(int(NOW) + 400 * 86400)}
    (nowhere,) = PARTITION.actions(Decided(KEY, "t", Decision.NOT_COPIED, NOW, had_failed=True))
    assert ":ttl" not in nowhere["Update"]["ExpressionAttributeValues"]
