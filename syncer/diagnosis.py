"""Checks in an order, what each found, and which of it is the first cause. No I/O beyond what the checks do.

A check names the checks it builds on. Where one of those failed, it is not tried, and says which: so a
fault has one row that names it, and the rows after it do not blame something else. The order of the
checks is the order of causes: the first that failed is the first cause, and only where nothing failed,
the first warning.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from syncer.model import EXIT_BUG, EXIT_CONFIG, EXIT_NOT_NOW, EXIT_OK, EXIT_SIGN_IN

_WORST_FIRST: Final = (EXIT_BUG, EXIT_CONFIG, EXIT_SIGN_IN, EXIT_NOT_NOW)
"""What only a person can mend comes before what may pass."""


class Verdict(StrEnum):
    """What became of a check."""

    OK = "ok"
    WARN = "warn"
    """It works, and a person should know something."""
    FAIL = "fail"
    SKIPPED = "skipped"
    """Not tried: something it builds on failed, or it does not apply here."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found: in words, and if something is wrong, the one thing that mends it."""

    verdict: Verdict
    words: str
    remedy: str = ""
    exit_code: int = EXIT_OK
    """Of a failure: the exit code with which a cycle that meets it ends."""


def ok(words: str) -> Found:
    """Return that all is well."""
    return Found(Verdict.OK, words)


def warn(words: str, remedy: str = "") -> Found:
    """Return that it works, but."""
    return Found(Verdict.WARN, words, remedy)


def fail(words: str, remedy: str, exit_code: int = EXIT_NOT_NOW) -> Found:
    """Return that it does not work."""
    return Found(Verdict.FAIL, words, remedy, exit_code)


def not_tried(words: str) -> Found:
    """Return that there was nothing to check here, and why."""
    return Found(Verdict.SKIPPED, words)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is found out by doing it."""

    name: str
    """Stable: programs rely on it. ``area.what``."""
    title: str
    do: Callable[[], Found]
    needs: tuple[str, ...] = ()
    """Names of earlier checks without which this one cannot be done, or must not."""
    settings: tuple[str, ...] = ()
    """Names of the settings it reads."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A check with what it found."""

    check: str
    title: str
    found: Found
    because: str = ""
    """Of a check that was not tried: the check, or the setting, that stands in its way."""

    @property
    def verdict(self) -> Verdict:
        """What became of the check."""
        return self.found.verdict


def examine(checks: Sequence[Check], wrong_settings: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Do the checks one after the other, and yield what each found.

    ``wrong_settings`` are the names of those that have no usable value: what reads them is not tried.
    """
    causes: dict[str, str] = {}
    """By check that failed or was blocked: the check that is to blame."""
    titles = {check.name: check.title for check in checks}
    for check in checks:
        setting = next((name for name in check.settings if name in wrong_settings), "")
        needed = next((name for name in check.needs if name in causes), "")
        if setting or needed:
            cause = "settings" if setting else causes[needed]
            # A setting of one's own says more than what else is in the way.
            words = f"not tried: {setting} is missing or wrong" if setting else f'not tried: "{titles[cause]}" failed'
            causes[check.name] = cause
            yield Finding(check.name, check.title, not_tried(words), because=cause)
            continue
        found = _done(check)
        if found.verdict is Verdict.FAIL:
            causes[check.name] = check.name
        yield Finding(check.name, check.title, found)


def _done(check: Check) -> Found:
    """Return what a check found; a bug in one check does not hide what the others find."""
    try:
        return check.do()
    except Exception as error:  # noqa: BLE001 - named by its kind and place, never by its text, which may hold data
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
        return fail(f"a bug: {type(error).__name__} at {where}", "report it with this line", EXIT_BUG)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What all checks found, in their order."""

    findings: tuple[Finding, ...]

    @property
    def first_cause(self) -> Finding | None:
        """The first failure; if there is none, the first warning; None if all is well."""
        for verdict in (Verdict.FAIL, Verdict.WARN):
            for finding in self.findings:
                if finding.verdict is verdict:
                    return finding
        return None

    @property
    def verdict(self) -> Verdict:
        """The worst of all: FAIL, WARN or OK."""
        cause = self.first_cause
        return cause.verdict if cause is not None else Verdict.OK

    @property
    def exit_code(self) -> int:
        """The worst exit code of the failures, those first that only a person mends; warnings leave it 0."""
        codes = {finding.found.exit_code for finding in self.findings if finding.verdict is Verdict.FAIL}
        return next((code for code in _WORST_FIRST if code in codes), EXIT_OK)

    def count(self, verdict: Verdict) -> int:
        """Return how many checks ended so."""
        return sum(finding.verdict is verdict for finding in self.findings)

    def as_json(self) -> Mapping[str, Any]:
        """Return it as the object that ``--json`` prints."""
        cause = self.first_cause
        return {
            "outcome": self.verdict.value,
            "exit_code": self.exit_code,
            "first_cause": cause and _as_json(cause),
            "counts": {verdict.value: self.count(verdict) for verdict in Verdict},
            "checks": [_as_json(finding) for finding in self.findings],
        }


def _as_json(finding: Finding) -> Mapping[str, str]:
    return {
        "check": finding.check,
        "title": finding.title,
        "outcome": finding.verdict.value,
        "found": finding.found.words,
        "remedy": finding.found.remedy,
        "because": finding.because,
    }
