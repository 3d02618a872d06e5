"""The Fargate template: linted, least privileged, and the same table and settings as the Lambda function's."""

from __future__ import annotations

import re
from typing import Any

import pytest

from syncer import config
from tests.deploy.templates import ECS, ROOT, SAM, Template, lint, of_type, parameters_in_sections, read, statements

SETTINGS = {setting.name: setting for setting in config.SETTINGS}


@pytest.fixture(scope="module")
def template() -> Template:
    return read(ECS)


@pytest.fixture(scope="module")
def container(template: Template) -> Any:
    (task,) = of_type(template, "AWS::ECS::TaskDefinition").values()
    (container,) = task["Properties"]["ContainerDefinitions"]
    return container


def role(template: Template, name: str) -> Any:
    return template["Resources"][name]


def test_cfn_lint_has_nothing_to_mend() -> None:
    assert lint(ECS) == ""


@pytest.mark.parametrize("name", ["SyncTable", "TokensSecret"])
def test_table_and_secret_are_made_like_those_of_the_function(template: Template, name: str) -> None:
    other = read(SAM)["Resources"][name]
    mine = template["Resources"][name]
    conditions = {"SyncTable": "MakesTable", "TokensSecret": "MakesSecret"}
    assert {**mine, "Condition": None} == {**other, "Condition": None}
    assert mine["Condition"] == conditions[name]


def test_the_program_may_do_what_the_function_may(template: Template) -> None:
    function = statements(read(SAM)["Resources"]["SyncRole"])
    program = statements(role(template, "TaskRole"))
    assert [s["Action"] for s in program] == [s["Action"] for s in function[:2]]
    assert program[0]["Resource"] == function[0]["Resource"]
    assert program[1]["Resource"] == {"Fn::If": ["MakesSecret", {"Ref": "TokensSecret"}, {"Ref": "ExistingSecretArn"}]}


def test_ecs_may_write_the_log_and_fetch_the_image(template: Template) -> None:
    assert [(s["Action"], s["Resource"]) for s in statements(role(template, "ExecutionRole"))] == [
        (["logs:CreateLogStream", "logs:PutLogEvents"], {"Fn::GetAtt": ["SyncLog", "Arn"]}),
        (
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            {"Ref": "ImageRepositoryArn"},
        ),
        (["ecr:GetAuthorizationToken"], "*"),
    ]


def test_the_schedule_may_start_this_task_in_this_cluster_with_these_roles_and_nothing_else(
    template: Template,
) -> None:
    run, hand_over = statements(role(template, "SchedulerRole"))
    assert (run["Action"], run["Resource"]) == (["ecs:RunTask"], {"Ref": "SyncTask"})
    assert run["Condition"] == {"ArnEquals": {"ecs:cluster": {"Fn::GetAtt": ["Cluster", "Arn"]}}}
    assert hand_over["Action"] == ["iam:PassRole"]
    roles = ["TaskRole", "ExecutionRole"]
    assert hand_over["Resource"] == [{"Fn::GetAtt": [name, "Arn"]} for name in roles]
    assert hand_over["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("TaskRole", "ecs-tasks.amazonaws.com"),
        ("ExecutionRole", "ecs-tasks.amazonaws.com"),
        ("SchedulerRole", "scheduler.amazonaws.com"),
    ],
)
def test_a_role_is_taken_by_one_service_on_behalf_of_this_account(template: Template, name: str, service: str) -> None:
    properties = role(template, name)["Properties"]
    (statement,) = properties["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": service}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert "ManagedPolicyArns" not in properties


def test_the_container_runs_one_cycle_and_can_change_nothing_of_itself(container: Any) -> None:
    assert container["Command"] == ["run-once"]
    assert container["ReadonlyRootFilesystem"] is True
    assert container["StopTimeout"] == 120
    assert "Privileged" not in container


def test_the_container_is_told_settings_and_no_secret(container: Any) -> None:
    names = [variable["Name"] for variable in container["Environment"]]
    assert [name for name in names if name not in SETTINGS or SETTINGS[name].secret] == []
    assert {name for name, setting in SETTINGS.items() if setting.required} <= set(names)
    assert "AWS_ENDPOINT_URL" not in names


def test_nobody_can_reach_the_task(template: Template) -> None:
    (group,) = of_type(template, "AWS::EC2::SecurityGroup").values()
    assert "SecurityGroupIngress" not in group["Properties"]
    assert [rule["FromPort"] for rule in group["Properties"]["SecurityGroupEgress"]] == [443, 993]


def test_a_late_start_is_dropped_before_the_next_one(template: Template) -> None:
    (schedule,) = of_type(template, "AWS::Scheduler::Schedule").values()
    assert schedule["Properties"]["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"] < 300
    assert schedule["Properties"]["FlexibleTimeWindow"] == {"Mode": "OFF"}


def test_what_the_alarm_counts_is_what_the_program_logs(template: Template) -> None:
    (found,) = of_type(template, "AWS::Logs::MetricFilter").values()
    assert found["Properties"]["FilterPattern"] == '{ $.event = "cycle_finished" && $.outcome = "ok" }'
    (alarm,) = of_type(template, "AWS::CloudWatch::Alarm").values()
    (counted,) = found["Properties"]["MetricTransformations"]
    watched = alarm["Properties"]
    assert (watched["Namespace"], watched["MetricName"]) == (counted["MetricNamespace"], counted["MetricName"])
    assert watched["TreatMissingData"] == "breaching"
    assert "What to do: " in watched["AlarmDescription"]["Fn::Sub"]


def test_parameters_that_both_templates_have_take_the_same(template: Template) -> None:
    other = read(SAM)["Parameters"]
    shared = template["Parameters"].keys() & other.keys() - {"Schedule", "AlarmEmail"}
    rules = ("Type", "Default", "AllowedPattern", "AllowedValues", "ConstraintDescription")
    assert len(shared) > 5
    for name in shared:
        mine, theirs = template["Parameters"][name], other[name]
        assert [mine.get(rule) for rule in rules] == [theirs.get(rule) for rule in rules], name


def test_every_parameter_has_a_heading(template: Template) -> None:
    assert sorted(parameters_in_sections(template)) == sorted(template["Parameters"])


def test_the_guide_says_what_to_answer_and_names_nothing_that_is_not_there(template: Template) -> None:
    guide = (ROOT / "docs" / "ecs.md").read_text(encoding="utf-8")
    to_be_answered = {name for name, parameter in template["Parameters"].items() if "Default" not in parameter}
    assert len(to_be_answered) == 5
    assert {name for name in to_be_answered if f"`{name}`" not in guide} == set()
    named = set(re.findall(r"`([A-Z][A-Za-z]+[a-z])(?:=[A-Z0-9_]+)?`", guide))
    elsewhere = {"CannotPullContainerError", "ResourceInitializationError", "Environment"}  # of ECS; in the template
    assert named - elsewhere - template["Parameters"].keys() == {"Cluster", "TableName", "TokensSecretArn"}
    assert template["Outputs"].keys() >= {"Cluster", "TableName", "TokensSecretArn"}
    assert read(SAM)["Outputs"].keys() >= {"TableName", "TokensSecretArn"}
