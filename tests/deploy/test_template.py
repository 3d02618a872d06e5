"""The SAM template: what AWS makes of it is safe, least privileged, and at one with the program's settings."""

from __future__ import annotations

import json
import operator
import re
from typing import Any

import boto3
import pytest
from moto import mock_aws

from handler import metrics
from syncer import config
from syncer.dynamodb_table import create_table
from syncer.errors import ConfigError
from tests.deploy.templates import (
    REGION,
    SAM,
    Template,
    accepts,
    expanded,
    lint,
    of_type,
    parameters_in_sections,
    read,
    statements,
)

SETTINGS = {setting.name: setting for setting in config.SETTINGS}
NOT_SETTINGS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"}
FOR_OTHERS = {
    "AWS_REGION": "Lambda sets it, and refuses to have it set",
    "AWS_ENDPOINT_URL": "it would redirect credentials; an emulator sets it from outside",
    "SYNC_INTERVAL_SECONDS": "the schedule is EventBridge's",
    "SYNC_IDLE": "for the daemon",
    "HEALTH_FILE": "for the daemon",
    "HEALTHCHECK_PING_URL": "alarms watch the function",
    "TOKENS_FILE": "the tokens live in the secret",
    "GMAIL_CLIENT_ID": "lives in the secret",
    "GMAIL_CLIENT_SECRET": "lives in the secret",
    "GMAIL_REFRESH_TOKEN": "lives in the secret",
    "MS_CLIENT_ID": "lives in the secret",
    "MS_CLIENT_SECRET": "lives in the secret",
    "MS_REFRESH_TOKEN": "lives in the secret",
    "GMAIL_AUTH_URI": "nobody signs in there",
}
REFUSED_BY_THE_PROGRAM_ALONE = {
    ("INITIAL_SYNC", "2026-02-31"),  # no pattern knows the calendar
}

WORDS = ["", " ", "x", "a b", "consumers", "tab\tin it", "true", "false", "maybe", "0", "1", "-1", "2147483648", "1e3"]
SAMPLES = [
    *WORDS,
    *("me@gmail.com", "me@@gmail.com", "me@", "@gmail.com", "me gmail@x.y", "Gmail", "Mail/From Gmail", "/Gmail"),
    *(
        "Gmail/",
        "a//b",
        "Entw\u00fcrfe",
        "INFO",
        "TRACE",
        "window",
        "new",
        "all",
        "2026-01-31",
        "2026-02-31",
        "2026-13-01",
    ),
    *("20260131", "imap.gmail.com", "imap.gmail.com:993", "https://imap.gmail.com", "::1", "https://a.example/token"),
    *("http://a.example/token", "https://", "https://me@a.example", "https://a.example/?q", "993", "0", "65536", "400"),
    *("36500", "36501", "3600", "3601", "86400", "86401", "87600", "87601", "16", "17", "100", "101", "1000", "1001"),
]


@pytest.fixture(scope="module", autouse=True)
def _region() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        yield


@pytest.fixture(scope="module")
def source() -> Template:
    return read(SAM)


@pytest.fixture(scope="module")
def template(_region: None) -> Template:
    return expanded()


@pytest.fixture(scope="module")
def table(template: Template) -> Any:
    return template["Resources"]["SyncTable"]


@pytest.fixture(scope="module")
def function(template: Template) -> Any:
    return template["Resources"]["SyncFunction"]["Properties"]


@pytest.fixture(scope="module")
def variables(source: Template) -> dict[str, Any]:
    """Return what the function finds in its environment, as written: parameters by name."""
    found: dict[str, Any] = source["Resources"]["SyncFunction"]["Properties"]["Environment"]["Variables"]
    return found


@pytest.fixture(scope="module")
def alarms(template: Template) -> dict[str, Any]:
    return of_type(template, "AWS::CloudWatch::Alarm")


def by_default(template: Template, value: Any) -> Any:
    """Return a value, or the default of the parameter that it refers to."""
    return template["Parameters"][value["Ref"]]["Default"] if isinstance(value, dict) else value


def test_the_expanded_template_has_nothing_that_cfn_lint_would_mend(template: Template, tmp_path: Any) -> None:
    path = tmp_path / "template.json"
    path.write_text(json.dumps(template))
    assert lint(path) == ""


def test_cfn_lint_would_find_a_fault(template: Template, tmp_path: Any) -> None:
    path = tmp_path / "template.json"
    path.write_text(json.dumps(template).replace('"python3.13"', '"python3.99"'))
    assert "python3.99" in lint(path)


# -- the table and the secret


def test_the_table_has_the_keys_and_the_expiry_that_the_command_makes(table: Any, monkeypatch: Any) -> None:
    with mock_aws():
        client = boto3.client("dynamodb", region_name=REGION)
        create_table(client, "by-command")
        made = client.describe_table(TableName="by-command")["Table"]
        expiry = client.describe_time_to_live(TableName="by-command")["TimeToLiveDescription"]
        backups = client.describe_continuous_backups(TableName="by-command")["ContinuousBackupsDescription"]
    properties = table["Properties"]
    assert properties["KeySchema"] == made["KeySchema"]
    assert properties["AttributeDefinitions"] == made["AttributeDefinitions"]
    assert properties["BillingMode"] == made["BillingModeSummary"]["BillingMode"]
    assert properties["TimeToLiveSpecification"] == {"AttributeName": expiry["AttributeName"], "Enabled": True}
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert [key for key in properties if key.endswith("Indexes") or key == "StreamSpecification"] == []


def test_the_table_is_encrypted_protected_and_outlives_the_stack(table: Any) -> None:
    assert table["Properties"]["SSESpecification"] == {"SSEEnabled": True}
    assert table["Properties"]["DeletionProtectionEnabled"] is True
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_the_table_is_not_made_where_there_is_one_from_before(table: Any, template: Template, variables: Any) -> None:
    assert table["Condition"] == "MakesTable"
    assert template["Conditions"]["MakesTable"] == {"Fn::Equals": [{"Ref": "ExistingTable"}, ""]}
    assert variables["DYNAMODB_TABLE"] == {"Fn::If": ["MakesTable", {"Ref": "SyncTable"}, {"Ref": "ExistingTable"}]}


def test_there_is_one_secret_empty_at_first_and_no_update_replaces_it(template: Template) -> None:
    (secret,) = of_type(template, "AWS::SecretsManager::Secret").values()
    # Another text here would overwrite the tokens of every installation at its next update.
    assert secret["Properties"]["SecretString"] == "{}"
    assert "Name" not in secret["Properties"]  # a name that changed would mean another secret
    assert (secret["DeletionPolicy"], secret["UpdateReplacePolicy"]) == ("Delete", "Retain")


# -- running


def test_a_tick_is_never_repeated_and_never_late(template: Template) -> None:
    (invoke,) = of_type(template, "AWS::Lambda::EventInvokeConfig").values()
    assert invoke["Properties"]["MaximumRetryAttempts"] == 0
    assert invoke["Properties"]["MaximumEventAgeInSeconds"] <= 240
    assert not invoke["Properties"]["DestinationConfig"]


def test_the_rule_fires_every_five_minutes_and_may_call_this_function_alone(template: Template) -> None:
    ((name, rule),) = of_type(template, "AWS::Events::Rule").items()
    assert by_default(template, rule["Properties"]["ScheduleExpression"]) == "rate(5 minutes)"
    assert by_default(template, rule["Properties"]["State"]) == "ENABLED"
    (target,) = rule["Properties"]["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["SyncFunction", "Arn"]}
    assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] <= 240
    (permission,) = of_type(template, "AWS::Lambda::Permission").values()
    assert permission["Properties"] == {
        "Action": "lambda:InvokeFunction",
        "FunctionName": {"Ref": "SyncFunction"},
        "Principal": "events.amazonaws.com",
        "SourceArn": {"Fn::GetAtt": [name, "Arn"]},
    }


def test_the_lease_outlives_the_function_and_the_function_ends_before_the_next_tick(
    function: Any, variables: Any
) -> None:
    assert function["Timeout"] < int(variables["LEASE_SECONDS"])
    assert function["Timeout"] < 300
    # The deadline leaves time for the longest wait for a mail server, see handler/app.py.
    assert function["Timeout"] >= 2 * (int(SETTINGS["IMAP_TIMEOUT_SECONDS"].default) + 20)


def test_the_function_runs_on_what_the_package_is_built_for(function: Any, source: Template) -> None:
    assert (function["Runtime"], function["Handler"]) == ("python3.13", "handler.app.handler")
    assert [by_default(source, name) for name in function["Architectures"]] == ["arm64"]
    metadata = source["Resources"]["SyncFunction"]["Metadata"]
    assert metadata == {"BuildMethod": "makefile", "ContextPath": {"Fn::Sub": "sam/${Architecture}"}}
    choices = source["Parameters"]["Architecture"]["AllowedValues"]
    assert [name for name in choices if not (SAM.parent / "sam" / name / "Makefile").is_file()] == []


def test_concurrency_is_reserved_only_on_request(function: Any) -> None:
    assert function["ReservedConcurrentExecutions"] == {"Fn::If": ["ReservesConcurrency", 1, {"Ref": "AWS::NoValue"}]}


def test_logs_are_kept_for_a_while_and_metrics_are_not_filtered_out(template: Template, function: Any) -> None:
    (log,) = of_type(template, "AWS::Logs::LogGroup").values()
    assert log["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert template["Parameters"]["LogRetentionDays"]["Default"] == 30
    assert function["LoggingConfig"]["LogGroup"] == {"Ref": "SyncLog"}
    # Lambda takes lines without a level, as metrics are, for INFO.
    assert function["LoggingConfig"]["ApplicationLogLevel"] == {"Fn::If": ["ShowsDebug", "DEBUG", "INFO"]}


# -- who may do what


def test_the_function_may_do_what_it_does_on_what_is_its_own_and_nothing_else(template: Template) -> None:
    (role,) = of_type(template, "AWS::IAM::Role").values()
    assert set(role["Properties"]) == {"Description", "AssumeRolePolicyDocument", "Policies"}  # no managed policy
    existing = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${ExistingTable}"
    table = {"Fn::If": ["MakesTable", {"Fn::GetAtt": ["SyncTable", "Arn"]}, {"Fn::Sub": existing}]}
    assert [(s["Effect"], s["Action"], s["Resource"]) for s in statements(role)] == [
        (
            "Allow",
            ["dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
            table,
        ),
        (
            "Allow",
            [f"secretsmanager:{it}" for it in ("GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage")],
            {"Ref": "TokensSecret"},
        ),
        ("Allow", ["logs:CreateLogStream", "logs:PutLogEvents"], {"Fn::GetAtt": ["SyncLog", "Arn"]}),
        ("Allow", ["xray:PutTelemetryRecords", "xray:PutTraceSegments"], "*"),
    ]


def test_traces_need_a_permission_only_where_there_are_traces(template: Template, function: Any) -> None:
    (role,) = of_type(template, "AWS::IAM::Role").values()
    conditions = [policy["Fn::If"][0] for policy in role["Properties"]["Policies"] if "Fn::If" in policy]
    assert conditions == ["UsesXRay"]
    assert template["Parameters"]["XRay"]["Default"] == "false"
    assert function["TracingConfig"]["Mode"] == {"Fn::If": ["UsesXRay", "Active", "PassThrough"]}


def test_only_lambda_may_take_the_role(template: Template) -> None:
    (role,) = of_type(template, "AWS::IAM::Role").values()
    (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


# -- settings and parameters


def test_every_setting_is_in_the_environment_or_has_a_reason_not_to_be(variables: Any) -> None:
    declared = variables.keys() - NOT_SETTINGS
    assert declared - SETTINGS.keys() == set()
    assert SETTINGS.keys() - declared == FOR_OTHERS.keys() & SETTINGS.keys()
    assert not [name for name in declared if name.startswith("AWS_")]


def test_no_secret_is_a_parameter(variables: Any, source: Template) -> None:
    assert [name for name in variables if name in SETTINGS and SETTINGS[name].secret] == []
    assert [name for name in source["Parameters"] if re.search("Token(?!Alarm|Uri)|Secret", name)] == []


def test_metrics_go_where_the_alarms_look(variables: Any) -> None:
    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == metrics.NAMESPACE
    assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}


def by_parameter(source: Template) -> list[tuple[str, str]]:
    found = source["Resources"]["SyncFunction"]["Properties"]["Environment"]["Variables"]
    return [(name, value["Ref"]) for name, value in found.items() if name in SETTINGS and value_is_parameter(value)]


def value_is_parameter(value: Any) -> bool:
    return isinstance(value, dict) and value.get("Ref") not in (None, "TokensSecret", "SyncTable")


PAIRS = by_parameter(read(SAM))


def test_the_settings_that_are_parameters_were_found() -> None:
    assert len(PAIRS) == len(SETTINGS) - len(FOR_OTHERS.keys() & SETTINGS.keys()) - 3  # table, secret and lease


@pytest.mark.parametrize(("setting", "name"), PAIRS, ids=[setting for setting, _ in PAIRS])
def test_a_parameter_is_named_like_its_setting_and_has_its_default(source: Template, setting: str, name: str) -> None:
    assert re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).upper() == setting
    parameter = source["Parameters"][name]
    if SETTINGS[setting].required:
        assert "Default" not in parameter
    else:
        assert str(parameter["Default"]) == SETTINGS[setting].default


@pytest.mark.parametrize(("setting", "name"), PAIRS, ids=[setting for setting, _ in PAIRS])
def test_a_parameter_takes_no_value_that_the_program_refuses(source: Template, setting: str, name: str) -> None:
    """A stack that deploys, and then ends every cycle with 78, would be a poor welcome."""
    parameter = source["Parameters"][name]
    wrong = [
        sample
        for sample in SAMPLES
        if sample.strip()  # a blank one counts as unset there
        and accepts(parameter, sample)
        and not is_good(setting, sample)
        and (setting, sample) not in REFUSED_BY_THE_PROGRAM_ALONE
    ]
    assert wrong == []


@pytest.mark.parametrize(("setting", "name"), PAIRS, ids=[setting for setting, _ in PAIRS])
def test_a_parameter_takes_every_value_that_the_program_takes(source: Template, setting: str, name: str) -> None:
    parameter = source["Parameters"][name]
    good = [sample for sample in SAMPLES if sample.strip() and is_good(setting, sample)]
    # Of several ways to write a word, the template knows one.
    one_way = {"0": "false", "1": "true"} if parameter.get("AllowedValues") == ["true", "false"] else {}
    assert good
    assert [sample for sample in good if not accepts(parameter, one_way.get(sample, sample))] == []


def is_good(setting: str, value: str) -> bool:
    """Tell whether the program starts with this value."""
    environ = {"GMAIL_EMAIL": "me@gmail.com", "OUTLOOK_EMAIL": "me@outlook.com", "AWS_REGION": REGION}
    environ |= {"DYNAMODB_TABLE": "table", "TOKENS_SECRET_ID": "secret", setting: value}
    try:
        config.load(environ=environ)
    except ConfigError:
        return False
    return True


def test_every_parameter_has_a_heading_a_label_and_words(source: Template) -> None:
    names = list(source["Parameters"])
    shown = parameters_in_sections(source)
    assert sorted(shown) == sorted(names)
    assert source["Metadata"]["AWS::CloudFormation::Interface"]["ParameterLabels"].keys() == set(names)
    assert [name for name, it in source["Parameters"].items() if not it.get("Description")] == []


def test_what_a_parameter_refuses_is_explained(source: Template) -> None:
    ruled = {
        name
        for name, it in source["Parameters"].items()
        if ("AllowedPattern" in it or "MinValue" in it) and not it.get("ConstraintDescription")
    }
    assert ruled == set()


def test_only_the_two_addresses_have_to_be_given(source: Template) -> None:
    assert [name for name, it in source["Parameters"].items() if "Default" not in it] == ["GmailEmail", "OutlookEmail"]


def test_patterns_are_plain(source: Template) -> None:
    """CloudFormation reads them as Java does: nothing here that Python reads otherwise, and the whole value counts."""
    for name, parameter in source["Parameters"].items():
        pattern = parameter.get("AllowedPattern", "^$")
        assert re.search(r"\(\?|\\[^sx]|\[\[|&&|\$.*\$\|", pattern) is None, name
        assert re.fullmatch(r"\^.*\$", pattern), name


# -- alarms and dashboard


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


PUBLISHED = re.findall(r'yield "(\w+)", MetricUnit', (SAM.parent / "handler" / "metrics.py").read_text())


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
