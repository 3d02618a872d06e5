"""``sam deploy``, the schedule, an update and ``sam delete`` on an AWS that ministack plays.

The function runs in the emulator, between embedded mail servers, and finds DynamoDB and Secrets Manager in
ministack, which wrote them anew: what our own tests' moto lets pass by mistake has to pass here, too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from syncer.demo.aws import REGION
from syncer.demo.place import Place
from syncer.demo.world import GMAIL, OUTLOOK, DemoWorld
from tests.conftest import missing
from tests.deploy import emulator, templates
from tests.deploy.emulator import FUNCTION, HOST, PROCESSOR, Tools
from tests.stack.pair import letter, until

pytestmark = pytest.mark.emulator
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STACK = "mail-copies"
ACCOUNT = {"region_name": REGION, "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@dataclass(frozen=True, slots=True)
class Cloud:
    """An AWS account, as far as ministack has it."""

    endpoint: str

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.endpoint, **ACCOUNT)

    def sam(self, tools: Tools, *arguments: str) -> str:
        """Run SAM in this account."""
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        done = emulator.sam(tools, *arguments, "--region", REGION, AWS_ENDPOINT_URL=self.endpoint, **keys)
        return done.stdout + done.stderr


@pytest.fixture
def cloud(tools: Tools) -> Iterator[Cloud]:
    """An empty account, whose functions run in Docker, and whose rules fire."""
    path = os.pathsep.join([str(Path(tools.sam).parent), os.environ["PATH"]])
    program = shutil.which("ministack", path=path)
    if program is None:
        missing("no ministack: pip install ministack aws-sam-translator docker, beside the AWS SAM command line")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = {"LAMBDA_EXECUTOR": "docker", "GATEWAY_PORT": str(port), "MINISTACK_REGION": REGION}
    process = subprocess.Popen(
        [program], env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        made = Cloud(f"http://localhost:{port}")

        def answers() -> bool:
            try:
                return bool(urllib.request.urlopen(f"{made.endpoint}/_ministack/health", timeout=2).status == 200)
            except OSError:
                return False

        until(answers, seconds=30)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def deployable(built: Path, ca: Path, folder: Path) -> Path:
    """Return the built template with what an emulated cloud needs, and without what ministack does not know.

    It knows no alarm on an expression. And the function has to trust the embedded servers.
    """
    package = folder / "package"
    shutil.copytree(built.parent / FUNCTION, package)
    shutil.copy(ca, package / "ca.pem")
    template = templates.read(built)
    del template["Resources"]["BacklogAlarm"]
    properties = template["Resources"][FUNCTION]["Properties"]
    properties["CodeUri"] = str(package)
    trust = {"SSL_CERT_FILE": "/var/task/ca.pem", "REQUESTS_CA_BUNDLE": "/var/task/ca.pem"}
    properties["Environment"]["Variables"].update(trust)
    written = folder / "template.json"
    written.write_text(json.dumps(template))
    return written


def test_a_deployment_copies_by_its_schedule_can_be_changed_and_leaves_the_table_behind(
    tools: Tools, cloud: Cloud, built: Path, tmp_path: Path
) -> None:
    with DemoWorld(Place(tools.gateway, HOST)) as world:
        settings = world.program.environment
        template = deployable(built, world.folder / "ca.pem", tmp_path)
        parameters = {
            "Architecture": PROCESSOR,
            "Schedule": "rate(1 minute)",
            "InitialSync": "all",
            "GmailEmail": GMAIL,
            "OutlookEmail": OUTLOOK,
            "GmailImapHost": HOST,
            "GmailImapPort": settings["GMAIL_IMAP_PORT"],
            "OutlookImapHost": HOST,
            "OutlookImapPort": settings["OUTLOOK_IMAP_PORT"],
            "GmailTokenUri": settings["GMAIL_TOKEN_URI"],
            "MsAuthority": settings["MS_AUTHORITY"],
        }

        def deploy(**changes: str) -> str:
            words = [f'{name}="{value}"' for name, value in {**parameters, **changes}.items()]
            options = ["--stack-name", STACK, "--resolve-s3", "--capabilities", "CAPABILITY_IAM"]
            options += ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"]
            return cloud.sam(
                tools, "deploy", "--template", str(template), *options, "--parameter-overrides", " ".join(words)
            )

        deploy()
        stack = cloud.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        world.gmail.deliver(GMAIL, letter(1), NOON)
        secrets = cloud.client("secretsmanager")
        secrets.put_secret_value(SecretId=outputs["TokensSecretArn"], SecretString=emulator.signed_in(settings))

        def arrived() -> bool:
            try:
                return [message.raw for message in world.outlook.messages(OUTLOOK, "Gmail")] == [letter(1)]
            except KeyError:  # no such folder so far
                return False

        until(arrived, seconds=120)  # the rule fires once a minute
        held = json.loads(secrets.get_secret_value(SecretId=outputs["TokensSecretArn"])["SecretString"])
        assert held["outlook"]["refresh_token"] != settings["MS_REFRESH_TOKEN"]

        assert "No changes" in deploy()
        deploy(LogLevel="DEBUG", ScheduleState="DISABLED")
        function = cloud.client("lambda")
        described = function.get_function_configuration(FunctionName=outputs["FunctionName"])
        assert described["Environment"]["Variables"]["LOG_LEVEL"] == "DEBUG"

        world.gmail.deliver(GMAIL, letter(2), NOON)
        answer = function.invoke(FunctionName=outputs["FunctionName"], Payload=emulator.TICK.read_bytes())
        assert json.load(answer["Payload"])["copied"] == 1
        assert len(world.outlook.messages(OUTLOOK, "Gmail")) == 2

        cloud.sam(tools, "delete", "--stack-name", STACK, "--no-prompts")
        assert function.list_functions()["Functions"] == []
        assert cloud.client("dynamodb").list_tables()["TableNames"] == [outputs["TableName"]]
