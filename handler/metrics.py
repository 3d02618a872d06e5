"""The metrics of one tick: one line in CloudWatch's embedded metric format, beside the log lines.

Ten names with one dimension, ``service``: so many custom metrics are always free (PROVIDERS 14). What a
cycle did not get to know is left out rather than told as 0: an alarm must not be calmed by ignorance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from syncer.cycle import exit_code
from syncer.cycle_state import Summary
from syncer.model import EXIT_OK, EXIT_SIGN_IN, Outcome

NAMESPACE: Final = "GmailOutlookSyncer"

Metric = tuple[str, MetricUnit, float | None]


def publish(summary: Summary | None) -> None:
    """Print the metrics of a tick; None: its cycle did not come to an end, or did not begin."""
    # The service's name comes from POWERTOOLS_SERVICE_NAME, which the template sets to the stack's.
    metrics = EphemeralMetrics(namespace=NAMESPACE)
    for name, unit, value in _of(summary):
        if value is not None:
            metrics.add_metric(name, unit, value)
    metrics.flush_metrics()


def _of(summary: Summary | None) -> Iterator[Metric]:
    yield "CyclesCompleted", MetricUnit.Count, int(summary is not None and _is_good(summary))
    if summary is None:
        return
    yield "SignInRequired", MetricUnit.Count, int(exit_code(summary) == EXIT_SIGN_IN)
    yield "MessagesCopied", MetricUnit.Count, summary.copied
    yield "MessagesFailed", MetricUnit.Count, summary.failed
    yield "MessagesGivenUp", MetricUnit.Count, summary.given_up
    yield "InDoubtOldestSeconds", MetricUnit.Seconds, summary.in_doubt_oldest_seconds
    # Without the records, nobody knows what is left to do.
    has_state = summary.outcome not in (Outcome.STATE_UNAVAILABLE, Outcome.LEASE_HELD)
    # What is in doubt has a metric of its own.
    yield "Backlog", MetricUnit.Count, max(0, summary.backlog - summary.in_doubt) if has_state else None
    yield "DeliveryLagSeconds", MetricUnit.Seconds, summary.lag_seconds
    yield "CycleDurationMilliseconds", MetricUnit.Milliseconds, summary.duration_ms
    yield "TokenDaysLeft", MetricUnit.Count, _token_days_left(summary)


def _is_good(summary: Summary) -> bool:
    """Tell whether the tick needs nobody's care; but a deadline reached without a message moved is no progress."""
    if summary.outcome is Outcome.DEADLINE:
        return bool(summary.copied or summary.duplicates or summary.failed)
    return exit_code(summary) == EXIT_OK


def _token_days_left(summary: Summary) -> float | None:
    """Return for how long both sides' refresh tokens will do, as far as that is known."""
    known = [days for days in (summary.gmail_token_days_left, summary.outlook_token_days_left) if days is not None]
    return min(known, default=None)
