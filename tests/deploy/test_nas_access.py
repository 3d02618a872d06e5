"""The template for a NAS: linted, one user, one table, and no more than the program needs there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.templates import ROOT, SAM, Template, actions_of_the_role, lint, of_type, parameters_in_sections, read

NAS = ROOT / "sam" / "nas-access.yaml"
LOOKING = ["dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive", "dynamodb:GetItem", "dynamodb:Query"]


@pytest.fixture(scope="module")
def template() -> Template:
    return read(NAS)


@pytest.fixture(scope="module")
def rights(template: Template) -> list[Any]:
    document: Any = template["Resources"]["Policy"]["Properties"]["PolicyDocument"]
    return [statement["Fn::If"][1] if "Fn::If" in statement else statement for statement in document["Statement"]]


def test_cfn_lint_has_nothing_to_mend() -> None:
    assert lint(NAS) == ""


def test_the_table_is_made_like_that_of_the_function(template: Template) -> None:
    function = read(SAM)["Resources"]["SyncTable"]
    mine = template["Resources"]["SyncTable"]
    assert mine["Properties"].pop("TableName") == {"Ref": "TableName"}
    assert mine == function


def test_the_user_may_do_what_a_cycle_does_and_look_by_hand(rights: list[Any]) -> None:
    records, looking, tokens, _ = rights
    assert {*records["Action"], *tokens["Action"]} == actions_of_the_role()
    assert looking["Action"] == LOOKING


def test_on_one_table_and_one_secret_only(rights: list[Any]) -> None:
    records, looking, tokens, _ = rights
    table = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${TableName}"
    assert records["Resource"] == looking["Resource"] == {"Fn::Sub": table}
    assert tokens["Resource"] == {"Ref": "TokensSecretArn"}


def test_from_elsewhere_the_key_opens_nothing_where_the_home_has_a_fixed_address(rights: list[Any]) -> None:
    assert rights[-1] == {
        "Sid": "NowhereElse",
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"NotIpAddress": {"aws:SourceIp": {"Ref": "AllowedAddress"}}},
    }


def test_no_key_is_made_that_the_stack_would_show(template: Template) -> None:
    assert of_type(template, "AWS::IAM::AccessKey") == {}


def test_every_parameter_has_its_section_and_its_label(template: Template) -> None:
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    assert sorted(parameters_in_sections(template)) == sorted(template["Parameters"])
    assert sorted(interface["ParameterLabels"]) == sorted(template["Parameters"])
