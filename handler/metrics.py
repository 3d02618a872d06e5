"""The metrics of one tick: one line in CloudWatch's embedded metric format, beside the log lines.

Ten names with one dimension, ``service``: so many custom metrics are always free (PROVIDERS 14). What a
cycle did not get to know is left out rather than told as 0: an alarm must not be calmed by ignorance.
"""

from __future__ import annotations

from typing import Final

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from syncer.cycle_state import Summary
from syncer.measures import measure

NAMESPACE: Final = "GmailOutlookSyncer"

METRICS: Final = {
    "CyclesCompleted": ("cycles_completed", MetricUnit.Count),
    "SignInRequired": ("sign_in_required", MetricUnit.Count),
    "MessagesCopied": ("messages_copied", MetricUnit.Count),
    "MessagesFailed": ("messages_failed", MetricUnit.Count),
    "MessagesGivenUp": ("messages_given_up", MetricUnit.Count),
    "InDoubtOldestSeconds": ("in_doubt_oldest_seconds", MetricUnit.Seconds),
    "Backlog": ("backlog", MetricUnit.Count),
    "DeliveryLagSeconds": ("delivery_lag_seconds", MetricUnit.Seconds),
    "CycleDurationMilliseconds": ("cycle_duration_milliseconds", MetricUnit.Milliseconds),
    "TokenDaysLeft": ("token_days_left", MetricUnit.Count),
}
"""The names in CloudWatch, of what each is in ``Measures``."""


def publish(summary: Summary | None) -> None:
    """Print the metrics of a tick; None: its cycle did not come to an end, or did not begin."""
    # The service's name comes from POWERTOOLS_SERVICE_NAME, which the template sets to the stack's.
    metrics = EphemeralMetrics(namespace=NAMESPACE)
    measures = measure(summary)
    for name, (quantity, unit) in METRICS.items():
        value = getattr(measures, quantity)
        if value is not None:
            metrics.add_metric(name, unit, value)
    metrics.flush_metrics()
