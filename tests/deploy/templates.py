"""The templates as AWS would see them: read, and the SAM one expanded into plain CloudFormation."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

ROOT: Final = Path(__file__).resolve().parents[2]
SAM: Final = ROOT / "template.yaml"
ECS: Final = ROOT / "sam" / "ecs-scheduled-task.yaml"
REGION: Final = "eu-central-1"

Template = dict[str, Any]


def read(path: Path) -> Template:
    """Return a template with its short forms (``!Ref``) in their long form."""
    from samtranslator.yaml_helper import yaml_parse

    template: Template = yaml_parse(path.read_text(encoding="utf-8"))
    return template


def expanded() -> Template:
    """Return ``template.yaml`` as the SAM transform leaves it, parameters at their defaults."""
    from samtranslator.translator.transform import transform

    class NoManagedPolicies:
        def load(self) -> dict[str, str]:
            return {}

    template = read(SAM)
    # `sam package` puts the package into a bucket before the transform sees the template.
    template["Resources"]["SyncFunction"]["Properties"]["CodeUri"] = "s3://bucket/package.zip"
    with patch.dict(os.environ, {"AWS_DEFAULT_REGION": REGION}):  # which it reads from there
        result: Template = transform(template, {}, NoManagedPolicies())
    return result


def lint(path: Path) -> str:
    """Return what cfn-lint finds in a file; nothing if it is content."""
    command = [sys.executable, "-c", "from cfnlint.runner import main; main()", "--regions", REGION, "us-east-1"]
    found = subprocess.run(
        [*command, "--", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "AWS_DEFAULT_REGION": REGION},
    )
    return (found.stdout + found.stderr) if found.returncode else ""


def of_type(template: Template, kind: str) -> dict[str, Any]:
    """Return the resources of one type, by logical id."""
    return {name: resource for name, resource in template["Resources"].items() if resource["Type"] == kind}


def statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all that a role may do, whatever its conditions."""
    policies = [policy["Fn::If"][1] if "Fn::If" in policy else policy for policy in role["Properties"]["Policies"]]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


@functools.cache
def actions_of_the_role() -> frozenset[str]:
    """Return what the function may do with the table and the secret."""
    role = read(SAM)["Resources"]["SyncRole"]
    actions = {action for statement in statements(role) for action in statement["Action"]}
    return frozenset(action for action in actions if action.startswith(("dynamodb:", "secretsmanager:")))


def parameters_in_sections(template: Template) -> list[str]:
    """Return the parameters that the console shows under a heading, in their order."""
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    return [name for group in groups for name in group["Parameters"]]


def by_default(template: Template, value: Any) -> Any:
    """Return a value, or the default of the parameter that it refers to."""
    return template["Parameters"][value["Ref"]]["Default"] if isinstance(value, dict) else value


def accepts(parameter: dict[str, Any], value: str) -> bool:
    """Tell whether CloudFormation takes a value for a parameter."""
    if "AllowedValues" in parameter:
        return value in map(str, parameter["AllowedValues"])
    if parameter["Type"] == "Number":
        number = re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", value)
        return bool(number) and parameter["MinValue"] <= float(value) <= parameter["MaxValue"]
    # Patterns are Java's there; these mean the same in both, which `test_patterns_are_plain` sees to.
    return re.fullmatch(parameter.get("AllowedPattern", ".*"), value) is not None
