"""``sam deploy``, the schedule, an update and ``sam delete`` on an AWS that ministack plays.

The function runs in the emulator, between embedded mail servers, and finds DynamoDB and Secrets Manager in ministack.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncer.demo.place import Place
from syncer.demo.world import GMAIL, OUTLOOK, DemoWorld
from tests.deploy import emulator, templates
from tests.deploy.emulator import FUNCTION, HOST, PROCESSOR, Tools
from tests.deploy.ministack import Cloud
from tests.stack.pair import letter, until

pytestmark = pytest.mark.emulator
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STACK = "mail-copies"


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
            return cloud.deploy(STACK, template, {**parameters, **changes})

        deploy()
        outputs = cloud.outputs(STACK)
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

        cloud.sam("delete", "--stack-name", STACK, "--no-prompts")
        assert function.list_functions()["Functions"] == []
        assert cloud.client("dynamodb").list_tables()["TableNames"] == [outputs["TableName"]]
