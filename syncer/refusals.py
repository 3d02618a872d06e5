"""Refusals of one side, until it is known whose fault they are; ``sync_plan.blame`` decides.

A message is blamed as soon as another one went through, before or after it. While none did, all
of them are under suspicion, and so is the server.
"""

from __future__ import annotations

from syncer.copy_job import Item
from syncer.sync_plan import SUSPICIOUS_REFUSALS, Blame, blame


class Refusals:
    """Of one side, in one cycle."""

    def __init__(self) -> None:
        """Begin with no refusal and no success."""
        self._suspects: list[Item] = []
        self._successes = 0
        self._in_a_row = 0

    def succeed(self) -> list[Item]:
        """Count a message that went through; return those that are to blame for their refusals."""
        self._successes += 1
        self._in_a_row = 0
        return self._blamed()

    def refuse(self, item: Item) -> list[Item]:
        """Count a message that was refused; return those that are to blame for their refusals."""
        self._suspects.append(item)
        self._in_a_row += 1
        return self._blamed()

    def take(self) -> list[Item]:
        """Return those under suspicion, who are so no longer."""
        suspects, self._suspects = self._suspects, []
        return suspects

    @property
    def verdict(self) -> Blame | None:
        """Whose fault the refusals of those under suspicion are; None if there are none."""
        return blame(len(self._suspects), self._successes) if self._suspects else None

    @property
    def look_like_an_outage(self) -> bool:
        """Tell whether one message after the other is refused: going on makes it worse."""
        return self._in_a_row >= SUSPICIOUS_REFUSALS

    def _blamed(self) -> list[Item]:
        return self.take() if self.verdict is Blame.MESSAGES else []
