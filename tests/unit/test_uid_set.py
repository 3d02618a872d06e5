"""UID sets hold what Python's own sets hold, in the words of RFC 3501."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.uid_set import MAX_UID, UidSet

# Close together, so that ranges meet, overlap and fall apart; and at both ends of what a UID can be.
UIDS = st.frozensets(st.one_of(st.integers(1, 40), st.integers(MAX_UID - 3, MAX_UID)))


@pytest.mark.parametrize(
    ("uids", "text"),
    [
        pytest.param([], "", id="none"),
        pytest.param([7], "7", id="one"),
        pytest.param([7, 5, 6, 9], "5:7,9", id="in any order"),
        pytest.param([3, 3, 3], "3", id="the same one again"),
        pytest.param([1, 2, 4, 5], "1:2,4:5", id="two ranges one apart"),
        pytest.param([MAX_UID - 1, MAX_UID], "4294967294:4294967295", id="the highest there are"),
    ],
)
def test_is_written_as_a_sequence_set(uids: list[int], text: str) -> None:
    assert str(UidSet(uids)) == text
    assert repr(UidSet(uids)) == f"UidSet({text!r})"


@pytest.mark.parametrize(
    ("text", "uids"),
    [
        pytest.param("", [], id="an empty text"),
        pytest.param("5:7,9", [5, 6, 7, 9], id="ranges and numbers"),
        pytest.param("7:5", [5, 6, 7], id="a range the wrong way round (RFC 3501 allows it)"),
        pytest.param("4,2,3", [2, 3, 4], id="out of order"),
        pytest.param("1:3,2:5", [1, 2, 3, 4, 5], id="overlapping"),
        pytest.param("1:2,3:4", [1, 2, 3, 4], id="touching"),
        pytest.param("007", [7], id="with leading zeros"),
    ],
)
def test_reads_a_sequence_set(text: str, uids: list[int]) -> None:
    assert list(UidSet.parse(text)) == uids


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0", id="zero"),
        pytest.param("0:5", id="from zero"),
        pytest.param("4294967296", id="above 32 bits"),
        pytest.param("1:4294967296", id="up to above 32 bits"),
        pytest.param("9" * 5000, id="more digits than Python reads"),
        pytest.param("*", id="a star"),
        pytest.param("5:*", id="up to a star"),
        pytest.param("5:", id="a range without its end"),
        pytest.param(":5", id="a range without its beginning"),
        pytest.param("1:2:3", id="three bounds"),
        pytest.param("1,", id="a comma at the end"),
        pytest.param(",1", id="a comma at the beginning"),
        pytest.param("1,,2", id="two commas"),
        pytest.param("1, 2", id="a space"),
        pytest.param("-1", id="a sign"),
        pytest.param("1\n", id="a line end"),
        pytest.param("\u0663", id="a digit of another script"),
        pytest.param("\u00b2", id="a superscript"),
        pytest.param("one", id="a word"),
    ],
)
def test_refuses_what_is_no_sequence_set(text: str) -> None:
    with pytest.raises(ValueError, match=r"UID"):
        UidSet.parse(text)


@given(UIDS)
def test_what_is_written_can_be_read_again(uids: frozenset[int]) -> None:
    assert UidSet.parse(str(UidSet(uids))) == UidSet(uids)


@given(UIDS)
def test_holds_what_a_set_holds(uids: frozenset[int]) -> None:
    made = UidSet(uids)
    assert list(made) == sorted(uids)
    assert len(made) == len(uids)
    assert bool(made) == bool(uids)
    assert all((uid in made) == (uid in uids) for uid in range(45))


@given(UIDS, UIDS)
def test_joins_cuts_and_meets_as_sets_do(a: frozenset[int], b: frozenset[int]) -> None:
    assert UidSet(a) | UidSet(b) == UidSet(a | b)
    assert UidSet(a) - UidSet(b) == UidSet(a - b)
    assert UidSet(a) & UidSet(b) == UidSet(a & b)


@given(UIDS, UIDS)
def test_equal_sets_are_equal_however_they_were_made(a: frozenset[int], b: frozenset[int]) -> None:
    made = (UidSet(a) | UidSet(b)) - UidSet(b) | UidSet(a & b)
    assert made == UidSet(a)
    assert hash(made) == hash(UidSet(a))


@given(st.integers(1, 50), st.integers(1, 50))
def test_a_range_has_both_its_ends(first: int, last: int) -> None:
    assert list(UidSet.of_range(first, last)) == list(range(first, last + 1))


@given(UIDS.filter(bool))
def test_knows_its_lowest_and_its_highest(uids: frozenset[int]) -> None:
    assert (UidSet(uids).lowest, UidSet(uids).highest) == (min(uids), max(uids))


def test_an_empty_set_has_neither_a_lowest_nor_a_highest() -> None:
    with pytest.raises(ValueError, match="no lowest"):
        _ = UidSet().lowest
    with pytest.raises(ValueError, match="no highest"):
        _ = UidSet().highest


def test_all_uids_there_can_be_cost_as_much_as_one() -> None:
    everything = UidSet.of_range(1, MAX_UID)
    assert len(everything) == MAX_UID
    assert str(everything - UidSet([5])) == f"1:4,6:{MAX_UID}"
    assert MAX_UID in everything
    assert 0 not in everything


def test_is_equal_to_nothing_but_a_uid_set_and_holds_nothing_but_numbers() -> None:
    assert UidSet([1]) != {1}
    assert "1" not in UidSet([1])
