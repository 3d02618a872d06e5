"""The template as AWS sees it: the table is safe, no tick is repeated, nothing may do more than it does."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from moto import mock_aws

from syncer import config
from syncer.dynamodb_table import create_table
from tests.deploy.templates import REGION, SAM, Template, by_default, expanded, lint, of_type, read, statements


@pytest.fixture(scope="module")
def source() -> Template:
    return read(SAM)


@pytest.fixture(scope="module")
def template() -> Template:
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
    (timeout,) = (setting for setting in config.SETTINGS if setting.name == "IMAP_TIMEOUT_SECONDS")
    # The deadline leaves time for the longest wait for a mail server, see handler/app.py.
    assert function["Timeout"] >= 2 * (int(timeout.default) + 20)


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
