"""``sam deploy`` of the Fargate template, a task as the schedule starts it, and ``sam delete``, on ministack's AWS.

The task is the project's image in a real container, between embedded mail servers; DynamoDB, Secrets Manager and
the log are ministack's. Its schedules start no tasks, so the test starts one, with what the schedule says.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from syncer.demo.place import Place
from syncer.demo.world import GMAIL, OUTLOOK, DemoWorld
from syncer.model import EXIT_CONFIG
from tests.deploy import emulator, templates
from tests.deploy.docker import docker
from tests.deploy.emulator import HOST, Tools
from tests.deploy.ministack import Cloud
from tests.stack.pair import letter, until

pytestmark = pytest.mark.emulator
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STACK = "mail-copies-ecs"
LOG = f"/ecs/{STACK}"
PROCESSOR = "ARM64" if os.uname().machine in ("arm64", "aarch64") else "X86_64"


@contextmanager
def trusting(image: str, ca: Path, folder: Path) -> Iterator[str]:
    """Yield the image with the embedded servers' certificate in it."""
    name = f"syncer-ecs-{uuid.uuid4().hex[:12]}:test"
    shutil.copy(ca, folder / "ca.pem")
    (folder / "ca.pem").chmod(0o644)
    trust = "ENV SSL_CERT_FILE=/opt/ca.pem REQUESTS_CA_BUNDLE=/opt/ca.pem"
    (folder / "Dockerfile").write_text(f"FROM {image}\nCOPY ca.pem /opt/ca.pem\n{trust}\n")
    docker("build", "--quiet", "--tag", name, str(folder))
    try:
        yield name
    finally:
        docker("rmi", "--force", name, check=False)


def with_settings(folder: Path, **settings: str) -> Path:
    """Return the template with more settings in it, as its head says to do."""
    template = templates.read(templates.ECS)
    (container,) = template["Resources"]["SyncTask"]["Properties"]["ContainerDefinitions"]
    container["Environment"] += [{"Name": name, "Value": value} for name, value in settings.items()]
    written = folder / "template.json"
    written.write_text(json.dumps(template))
    return written


@dataclass(frozen=True, slots=True)
class Cycle:
    """One task: how it ended, and its log."""

    exit_code: int
    events: list[dict[str, Any]]

    @property
    def summary(self) -> dict[str, Any]:
        return self.events[-1]


def run_as_scheduled(cloud: Cloud) -> Cycle:
    """Start the task that the schedule would start, and wait for its end."""
    (entry,) = cloud.client("scheduler").list_schedules()["Schedules"]
    target = cloud.client("scheduler").get_schedule(Name=entry["Name"])["Target"]
    task = target["EcsParameters"]
    ecs = cloud.client("ecs")
    # Not its network: ministack keeps none of a schedule, and gives a task the machine's own.
    started = ecs.run_task(
        cluster=target["Arn"],
        taskDefinition=task["TaskDefinitionArn"],
        count=task["TaskCount"],
        launchType=task["LaunchType"],
    )
    assert started["failures"] == []
    (arn,) = [made["taskArn"] for made in started["tasks"]]
    ended: dict[str, Any] = {}

    def is_over() -> bool:
        (described,) = ecs.describe_tasks(cluster=target["Arn"], tasks=[arn])["tasks"]
        ended.update(described)
        return bool(described["lastStatus"] == "STOPPED")

    until(is_over, seconds=60)
    (container,) = ended["containers"]
    stream = f"cycle/syncer/{arn.rpartition('/')[2]}"
    logs = cloud.client("logs")
    told: list[dict[str, Any]] = []

    def is_told() -> object:
        lines = logs.get_log_events(logGroupName=LOG, logStreamName=stream, startFromHead=True)["events"]
        told[:] = [json.loads(line["message"]) for line in lines]
        return told[-1:] and told[-1]["event"] == "cycle_finished"

    until(is_told)
    return Cycle(container["exitCode"], told)


def test_a_task_of_the_schedule_copies_and_the_table_goes_on_in_another_stack(
    tools: Tools, cloud: Cloud, image: str, tmp_path: Path
) -> None:
    with (
        DemoWorld(Place(tools.gateway, HOST)) as world,
        trusting(image, world.folder / "ca.pem", tmp_path) as trusted,
    ):
        settings = world.program.environment
        servers = ("GMAIL_IMAP_HOST", "GMAIL_IMAP_PORT", "OUTLOOK_IMAP_HOST", "OUTLOOK_IMAP_PORT")
        ours = (*servers, "GMAIL_TOKEN_URI", "MS_AUTHORITY")
        template = with_settings(
            tmp_path,
            INITIAL_SYNC="all",
            # Not the task's role: where ministack offers its credentials, the SDK will not ask for any.
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
            **{name: settings[name] for name in ours},
        )
        network = cloud.client("ec2")
        parameters = {
            "GmailEmail": GMAIL,
            "OutlookEmail": OUTLOOK,
            "AlarmEmail": "mara@example.com",
            "Image": trusted,
            "CpuArchitecture": PROCESSOR,
            "VpcId": network.describe_vpcs()["Vpcs"][0]["VpcId"],
            "SubnetIds": ",".join(subnet["SubnetId"] for subnet in network.describe_subnets()["Subnets"]),
        }

        def sign_in(outputs: dict[str, str]) -> None:
            tokens = emulator.signed_in(settings)
            cloud.client("secretsmanager").put_secret_value(SecretId=outputs["TokensSecretArn"], SecretString=tokens)

        cloud.deploy(STACK, template, parameters)
        outputs = cloud.outputs(STACK)
        world.gmail.deliver(GMAIL, letter(1), NOON)
        too_early = run_as_scheduled(cloud)
        assert too_early.exit_code == EXIT_CONFIG
        assert "configuration_invalid" in [event["event"] for event in too_early.events]

        sign_in(outputs)
        first = run_as_scheduled(cloud)
        assert (first.exit_code, first.summary["outcome"], first.summary["copied"]) == (0, "ok", 1)
        assert run_as_scheduled(cloud).summary["copied"] == 0

        cloud.sam("delete", "--stack-name", STACK, "--no-prompts")
        assert cloud.client("dynamodb").list_tables()["TableNames"] == [outputs["TableName"]]
        assert cloud.client("ecs").list_clusters()["clusterArns"] == []

        cloud.deploy(STACK, template, {**parameters, "ExistingTable": outputs["TableName"]})
        sign_in(cloud.outputs(STACK))
        world.gmail.deliver(GMAIL, letter(2), NOON)
        assert run_as_scheduled(cloud).summary["copied"] == 1
        assert [message.raw for message in world.outlook.messages(OUTLOOK, "Gmail")] == [letter(1), letter(2)]
