"""The bill that the documentation quotes against what the function uses now, and against what we promise."""

from __future__ import annotations

import re

import pytest

from bench import cost
from tests.deploy.templates import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (
    (ROOT / "docs" / "aws.md")
    .read_text(encoding="utf-8")
    .split("<!-- cost: begin -->")[1]
    .split("<!-- cost: end -->")[0]
)


@pytest.fixture(scope="module")
def counted() -> cost.Counted:
    return cost.count()


def quoted() -> dict[str, list[float]]:
    """Return the quoted bill: by item, the two sums of money."""
    rows = re.findall(r"(?m)^\| ([^|]+) \| [^|]* \| \**([\d.]+)\** \| \**([\d.]+)\** \|$", PAGE)
    return {name.strip("*"): [float(free), float(full)] for name, free, full in rows}


def test_the_bill_is_quoted_within_a_tenth(counted: cost.Counted) -> None:
    lines = {name: [free, full] for name, _, free, full in cost.bill(counted, 100)}
    expected = {**lines, "Sum": [*cost.totals(counted, 100)], "Watching: CloudWatch": [0.0, cost.watching(counted)]}
    assert quoted() == {name: pytest.approx(values, rel=0.1, abs=0.0015) for name, values in expected.items()}


def test_what_is_used_is_quoted_within_a_tenth(counted: cost.Counted) -> None:
    rows = re.findall(r"(?m)^\| (DynamoDB \w+ units|log bytes|round trips[^|]*) \| ([\d,]+) \| ([\d,]+) \|$", PAGE)
    shown = {name: [float(value.replace(",", "")) for value in values] for name, *values in rows}
    names = {
        "DynamoDB write units": "write_units",
        "DynamoDB read units": "read_units",
        "log bytes": "log_bytes",
        "round trips to mail servers": "round_trips",
    }
    assert shown == {
        # A whole number of round trips: one more or less is no drift of money.
        title: pytest.approx([getattr(counted.idle, name), getattr(counted.message, name)], rel=0.1, abs=1)
        for title, name in names.items()
    }


def test_the_readme_names_both_sums(counted: cost.Counted) -> None:
    (sums,) = re.findall(r"(\d\.\d\d) USD a month at 100\s+messages a day[^.]*?(\d\.\d\d) USD", README)
    assert [float(value) for value in sums] == pytest.approx([*cost.totals(counted, 100)], rel=0.1)


def test_a_hundred_messages_a_day_cost_less_than_promised(counted: cost.Counted) -> None:
    with_free, without = cost.totals(counted, 100)
    assert with_free < 0.60
    assert without < 1.00


def test_an_idle_tick_needs_two_writes_and_no_read(counted: cost.Counted) -> None:
    assert (counted.idle.write_units, counted.idle.read_units) == (2, 0)
