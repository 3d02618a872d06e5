"""Order, blame and exit codes of checks: pure, so with checks made up on the spot."""

from __future__ import annotations

import pytest

from syncer.diagnosis import Check, Diagnosis, Found, Verdict, examine, fail, not_tried, ok, warn

GOOD = ok("works")


def check(name: str, found: Found = GOOD, *needs: str, settings: tuple[str, ...] = ()) -> Check:
    return Check(name, f"the {name}", lambda: found, needs, settings)


def diagnosis(*checks: Check, wrong: frozenset[str] = frozenset()) -> Diagnosis:
    return Diagnosis(tuple(examine(checks, wrong)))


def test_the_first_failure_is_the_first_cause_whatever_warned_before() -> None:
    found = diagnosis(check("a", warn("hm")), check("b", fail("no", "mend b")), check("c", fail("no", "mend c")))
    assert found.first_cause is not None
    assert found.first_cause.check == "b"
    assert found.verdict is Verdict.FAIL


def test_without_a_failure_the_first_warning_is_named_and_the_exit_code_is_0() -> None:
    found = diagnosis(check("a"), check("b", warn("hm")), check("c", warn("hm")))
    assert found.first_cause is not None
    assert (found.first_cause.check, found.exit_code, found.verdict) == ("b", 0, Verdict.WARN)


def test_nothing_is_named_where_all_is_well_even_if_something_does_not_apply() -> None:
    found = diagnosis(check("a"), check("b", not_tried("not here")))
    assert (found.first_cause, found.verdict, found.exit_code) == (None, Verdict.OK, 0)


def test_what_hangs_on_a_failure_is_not_tried_and_blames_the_root() -> None:
    found = diagnosis(
        check("a", fail("no", "mend")), check("b", GOOD, "a"), check("c", GOOD, "b"), check("d", GOOD, "x"), check("e")
    )
    verdicts = [(one.check, one.verdict, one.because) for one in found.findings]
    assert verdicts[1:] == [
        ("b", Verdict.SKIPPED, "a"),
        ("c", Verdict.SKIPPED, "a"),
        ("d", Verdict.OK, ""),
        ("e", Verdict.OK, ""),
    ]
    assert found.findings[2].found.words == 'not tried: "the a" failed'


def test_neither_a_warning_nor_what_does_not_apply_stands_in_the_way() -> None:
    found = diagnosis(check("a", warn("hm")), check("b", not_tried("not here")), check("c", GOOD, "a", "b"))
    assert found.findings[2].verdict is Verdict.OK


def test_a_check_whose_setting_is_wrong_is_not_tried_and_neither_is_what_hangs_on_it() -> None:
    found = diagnosis(
        check("settings", fail("no", "mend")),
        check("a", GOOD, settings=("PORT",)),
        check("b", GOOD, "a"),
        check("c", GOOD, settings=("HOST",)),
        wrong=frozenset({"PORT"}),
    )
    assert [(one.verdict, one.because) for one in found.findings[1:]] == [
        (Verdict.SKIPPED, "settings"),
        (Verdict.SKIPPED, "settings"),
        (Verdict.OK, ""),
    ]
    assert found.findings[1].found.words == "not tried: PORT is missing or wrong"


@pytest.mark.parametrize(
    ("codes", "worst"), [((75, 77), 77), ((75, 78, 77), 78), ((78, 70), 70), ((75,), 75), ((), 0)], ids=str
)
def test_the_exit_code_is_the_worst_of_all_failures(codes: tuple[int, ...], worst: int) -> None:
    assert diagnosis(*(check(str(code), fail("no", "mend", code)) for code in codes)).exit_code == worst


def test_a_bug_in_one_check_is_told_by_kind_and_place_and_hides_nothing() -> None:
    def broken() -> Found:
        raise RuntimeError("mara@gmail.example")

    found = diagnosis(Check("a", "the a", broken), check("b"))
    assert found.findings[0].found.words.startswith("a bug: RuntimeError at test_diagnosis.py:")
    assert "mara" not in str(found.as_json())
    assert (found.exit_code, found.findings[1].verdict) == (70, Verdict.OK)


def test_checks_are_done_one_by_one_as_they_are_asked_for() -> None:
    done: list[str] = []

    def note(name: str) -> Check:
        def do() -> Found:
            done.append(name)
            return GOOD

        return Check(name, name, do)

    findings = examine([note("a"), note("b")])
    next(findings)
    assert done == ["a"]


def test_json_has_the_first_cause_as_it_stands_among_the_checks() -> None:
    told = diagnosis(check("a"), check("b", fail("no", "mend", 77))).as_json()
    assert told["first_cause"] == told["checks"][1]
    assert told["first_cause"]["remedy"] == "mend"
    assert (told["outcome"], told["exit_code"]) == ("fail", 77)
    assert told["counts"] == {"ok": 1, "warn": 0, "fail": 1, "skipped": 0}
