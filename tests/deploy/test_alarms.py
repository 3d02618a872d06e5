"""Alarms and dashboard: they watch what the function publishes, within what is free, and tell what to do."""

from __future__ import annotations

import json
import operator
import re
from typing import Any

import pytest

from handler import metrics
from tests.deploy.templates import SAM, Template, by_default, expanded, of_type


@pytest.fixture(scope="module")
def template() -> Template:
    return expanded()


@pytest.fixture(scope="module")
def alarms(template: Template) -> dict[str, Any]:
    return of_type(template, "AWS::CloudWatch::Alarm")


def test_metrics_go_where_the_alarms_look(template: Template) -> None:
    variables = template["Resources"]["SyncFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == metrics.NAMESPACE
    assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}


def test_alarms_and_dashboard_stay_within_what_is_free(template: Template, alarms: dict[str, Any]) -> None:
    watched = [metric for alarm in alarms.values() for metric in metrics_of(alarm)]
    assert len(watched) <= 10  # a metric that an alarm reads is what is billed
    assert len(of_type(template, "AWS::CloudWatch::Dashboard")) == 1
    assert [alarm for alarm in alarms.values() if alarm["Properties"].get("Period", 60) < 60] == []


BREACHES = {
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
}


def metrics_of(alarm: dict[str, Any]) -> list[tuple[str, str]]:
    """Return namespace and name of each metric that an alarm reads."""
    properties = alarm["Properties"]
    if "MetricName" in properties:
        return [(properties["Namespace"], properties["MetricName"])]
    return [
        (it["MetricStat"]["Metric"]["Namespace"], it["MetricStat"]["Metric"]["MetricName"])
        for it in properties["Metrics"]
        if "MetricStat" in it
    ]


@pytest.mark.parametrize(
    ("name", "metric", "period", "of", "bad", "good"),
    [
        ("NoCycleAlarm", "CyclesCompleted", 300, 6, 0, 1),
        ("SignInAlarm", "SignInRequired", 900, 1, 1, 0),
        ("GivenUpAlarm", "MessagesGivenUp", 3600, 1, 1, 0),
        ("InDoubtAlarm", "InDoubtOldestSeconds", 900, 1, 86401, 86400),
        ("TokenAlarm", "TokenDaysLeft", 900, 1, 14, 14.1),
        ("ErrorsAlarm", "Errors", 900, 1, 1, 0),
    ],
)
def test_an_alarm_tells_bad_from_good(
    alarms: dict[str, Any], template: Template, name: str, metric: str, period: int, of: int, bad: float, good: float
) -> None:
    properties = alarms[name]["Properties"]
    assert (properties["MetricName"], properties["Period"], properties["EvaluationPeriods"]) == (metric, period, of)
    threshold = by_default(template, properties["Threshold"])
    breaches = BREACHES[properties["ComparisonOperator"]]
    assert breaches(bad, threshold)
    assert not breaches(good, threshold)


def test_silence_is_an_alarm_of_its_own_and_of_no_other(alarms: dict[str, Any]) -> None:
    breaching = [name for name, alarm in alarms.items() if alarm["Properties"]["TreatMissingData"] == "breaching"]
    assert breaching == ["NoCycleAlarm"]


def test_a_backlog_alarms_where_it_does_not_fall_for_hours(alarms: dict[str, Any]) -> None:
    properties = alarms["BacklogAlarm"]["Properties"]
    stuck, backlog = properties["Metrics"]
    assert stuck["Expression"] == "IF(backlog > 0 AND DIFF(backlog) >= 0, 1, 0)"
    assert (stuck["ReturnData"], backlog["ReturnData"]) == (True, False)
    assert (backlog["MetricStat"]["Stat"], backlog["MetricStat"]["Period"]) == ("Minimum", 3600)
    assert (properties["EvaluationPeriods"], properties["DatapointsToAlarm"]) == (3, 2)


def test_alarms_watch_this_stack_and_what_the_function_publishes(alarms: dict[str, Any]) -> None:
    published = set(PUBLISHED)
    for alarm in alarms.values():
        text = json.dumps(alarm)
        for namespace, name in metrics_of(alarm):
            assert namespace in (metrics.NAMESPACE, "AWS/Lambda")
            assert name in published if namespace == metrics.NAMESPACE else name == "Errors"
        own = '{"Name": "service", "Value": {"Ref": "AWS::StackName"}}'
        errors = '{"Name": "FunctionName", "Value": {"Ref": "SyncFunction"}}'
        assert text.count(own) + text.count(errors) == 1


PUBLISHED = list(metrics.METRICS)


def test_the_function_publishes_no_more_metrics_than_are_free() -> None:
    assert len(set(PUBLISHED)) == 10


def test_an_alarm_goes_to_the_topic_says_what_to_do_and_is_silent_while_nothing_is_scheduled(
    alarms: dict[str, Any],
) -> None:
    for name, alarm in alarms.items():
        properties = alarm["Properties"]
        assert alarm["Condition"] == "HasAlarms", name
        assert properties["AlarmActions"] == [{"Ref": "AlarmTopic"}], name
        assert properties["ActionsEnabled"] == {"Fn::If": ["IsScheduled", True, False]}, name
        description = properties["AlarmDescription"]["Fn::Sub"]
        assert "What to do: " in description, name
        # 1024 is what CloudWatch takes; names that are filled in may be long.
        assert len(re.sub(r"\$\{\w+\}", "x" * 60, description)) <= 1024, name


def test_events_that_an_alarm_speaks_of_are_logged(alarms: dict[str, Any]) -> None:
    readme = (SAM.parent / "README.md").read_text(encoding="utf-8")
    texts = " ".join(alarm["Properties"]["AlarmDescription"]["Fn::Sub"] for alarm in alarms.values())
    named = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", texts))
    assert named
    assert [word for word in sorted(named) if f"| `{word}` |" not in readme] == []


def test_mail_is_sent_only_where_an_address_was_given(template: Template) -> None:
    (subscription,) = of_type(template, "AWS::SNS::Subscription").values()
    assert subscription["Condition"] == "HasAlarmEmail"
    assert subscription["Properties"]["Protocol"] == "email"
    assert template["Parameters"]["AlarmEmail"]["Default"] == ""


def test_the_dashboard_shows_every_metric_there_is(template: Template) -> None:
    (dashboard,) = of_type(template, "AWS::CloudWatch::Dashboard").values()
    text, filled_in = dashboard["Properties"]["DashboardBody"]["Fn::Sub"]
    assert filled_in.keys() == {"Function", "Table"}
    body = json.loads(re.sub(r"\$\{[\w:]+\}", "x", text))
    shown = [series[1] for w in body["widgets"] for series in w["properties"].get("metrics", []) if len(series) > 2]
    assert set(shown) >= {*PUBLISHED, "ConsumedWriteCapacityUnits", "ConsumedReadCapacityUnits", "Duration", "Errors"}
    spots = [(w["x"], w["y"]) for w in body["widgets"]]
    assert len(spots) == len(set(spots))


def test_outputs_tell_the_next_commands_in_order(template: Template) -> None:
    steps = [output["Description"][:2] for output in template["Outputs"].values()]
    assert steps[:4] == ["1.", "2.", "3.", "4."]
