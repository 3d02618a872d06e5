"""The real function, built by ``sam build``, in the real Lambda emulator, on servers of this machine.

It needs Docker, the AWS SAM command line (found on PATH, or named by ``SAM``) and an image with
Lambda's Python runtime and its emulator (``SYNCER_LAMBDA_IMAGE``; by default the one SAM would use).
Nothing of that belongs to the product: what is missing is a ``Missing`` with the remedy.

The image is AWS's but for three lines on top: the authority that vouches for our servers, and where
"AWS" is. A template cannot carry these without carrying them into the cloud.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3

from syncer.demo.aws import REGION, EmbeddedAws
from syncer.demo.place import Place
from syncer.demo.world import TABLE, DemoWorld
from tests.deploy import docker, templates

FUNCTION: Final = "SyncFunction"
PROCESSOR: Final = "arm64" if os.uname().machine in ("arm64", "aarch64") else "x86_64"
"""This machine's: the emulator runs no other."""
RUNTIME_IMAGES: Final = ("lambda-python:3.13", "public.ecr.aws/lambda/python:3.13")
SECRET: Final = "syncer-demo-tokens"
HOST: Final = "host.docker.internal"
TICK: Final = templates.ROOT / "sam" / "events" / "tick.json"


class Missing(Exception):
    """Something that the emulator needs is not on this machine; the text says what, and how to get it."""


class Failed(Exception):
    """A tool did not do its work; the text holds the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What one invocation returned and printed."""

    result: Any
    events: list[dict[str, Any]]
    """The log lines, metrics among them."""
    printed: str

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("event") == name]

    @property
    def metrics(self) -> dict[str, float]:
        (line,) = [event for event in self.events if "_aws" in event]
        names = [metric["Name"] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
        return {name: line[name][0] for name in names}


@dataclass(frozen=True, slots=True)
class Tools:
    """What is there to work with."""

    sam: str
    image: str
    gateway: str
    """Where containers find this machine."""


def tools() -> Tools:
    """Return what was found. Raises Missing."""
    sam = os.environ.get("SAM") or shutil.which("sam")
    if not sam:
        raise Missing("the AWS SAM command line is not here: pip install aws-sam-cli, in an environment of its own")
    if reason := docker.why_not():
        raise Missing(reason)
    asked = docker.run("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    if asked.returncode:
        raise Missing("Docker has no network named bridge, on which containers find this machine: restart its daemon")
    wanted = [os.environ["SYNCER_LAMBDA_IMAGE"]] if "SYNCER_LAMBDA_IMAGE" in os.environ else RUNTIME_IMAGES
    for image in wanted:
        if docker.has_image(image):
            return Tools(sam, image, asked.stdout.strip())
    raise Missing(f"no image with Lambda's Python 3.13: docker pull {wanted[-1]}, or name one in SYNCER_LAMBDA_IMAGE")


def build(tools: Tools, folder: Path) -> Path:
    """Make the package as a deployment does, for this machine's processor; return the built template. Raises Failed."""
    sam(tools, "build", "--build-dir", str(folder), "--parameter-overrides", f"Architecture={PROCESSOR}")
    return folder / "template.yaml"


@contextmanager
def world_for_containers(tools: Tools, **settings: str) -> Iterator[DemoWorld]:
    """Stand up two mailboxes and an AWS account where containers reach them; the table and the secret are there."""
    with DemoWorld(Place(tools.gateway, HOST), **settings) as world:
        code, log = world.program.run("table", "create")
        if code:
            raise Failed(log)
        seed_secret(world.aws, SECRET, world.program.environment)
        yield world


def seed_secret(aws: EmbeddedAws, name: str, environment: Mapping[str, str]) -> None:
    """Make a secret with the tokens in it."""
    client = boto3.client(
        "secretsmanager",
        endpoint_url=aws.endpoint,
        region_name=REGION,
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )
    client.create_secret(Name=name, SecretString=signed_in(environment))
    client.close()


def signed_in(environment: Mapping[str, str]) -> str:
    """Return what a secret holds after somebody signed in."""
    sides = {
        "gmail": {
            "client_id": environment["GMAIL_CLIENT_ID"],
            "client_secret": environment["GMAIL_CLIENT_SECRET"],
            "refresh_token": environment["GMAIL_REFRESH_TOKEN"],
        },
        "outlook": {"client_id": environment["MS_CLIENT_ID"], "refresh_token": environment["MS_REFRESH_TOKEN"]},
    }
    return json.dumps(sides)


@contextmanager
def runtime_image(tools: Tools, ca: Path, endpoint: str, folder: Path) -> Iterator[str]:
    """Make an image of the runtime that trusts ``ca`` and takes ``endpoint`` for AWS; yield its name."""
    name = f"syncer-emulated-{uuid.uuid4().hex[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ca, folder / "ca.pem")
    lines = [
        f"FROM {tools.image}",
        "COPY --chmod=0644 ca.pem /opt/ca.pem" if _has_buildkit() else "COPY ca.pem /opt/ca.pem",
        f"ENV SSL_CERT_FILE=/opt/ca.pem REQUESTS_CA_BUNDLE=/opt/ca.pem AWS_ENDPOINT_URL={endpoint}",
    ]
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
    made = docker.run("build", "--quiet", "--tag", f"{name}:latest", str(folder))
    if made.returncode:
        raise Failed(made.stderr[-2000:])
    try:
        yield f"{name}:latest"
    finally:
        # SAM adds the emulator to the image under a tag of its own.
        tags = docker.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", name).stdout.split()
        docker.run("image", "rm", "--force", *tags)


def invoke(tools: Tools, template: Path, image: str, environment: Mapping[str, str], folder: Path) -> Invocation:
    """Run the function once, in a container of its own. Raises Failed."""
    # SAM overrides what the template declares, and drops everything else without a word.
    declared = templates.read(template)["Resources"][FUNCTION]["Properties"]["Environment"]["Variables"]
    overrides = folder / "env.json"
    overrides.write_text(json.dumps({FUNCTION: {name: environment[name] for name in declared if name in environment}}))
    options = {
        "--template": template,
        "--event": TICK,
        "--env-vars": overrides,
        "--invoke-image": image,
        "--region": REGION,
        "--add-host": f"{HOST}:{tools.gateway}",
        "--parameter-overrides": f"Architecture={PROCESSOR}",
    }
    arguments = [text for name, value in options.items() for text in (name, str(value))]
    done = sam(tools, "local", "invoke", FUNCTION, "--skip-pull-image", *arguments)
    log = [line for line in (done.stdout + "\n" + done.stderr).splitlines() if line.startswith("{")]
    objects = [json.loads(line) for line in log]
    events = [content for content in objects if "event" in content or "_aws" in content]
    results = [content for content in objects if content not in events]
    if not results:
        raise Failed(f"the function gave no result:\n{(done.stdout + done.stderr)[-3000:]}")
    return Invocation(results[-1], events, done.stdout + done.stderr)


def function_environment(world: DemoWorld) -> dict[str, str]:
    """Return what the template's variables have to be for the function to work in ``world``."""
    left_out = ("TOKENS_FILE", "GMAIL_REFRESH_TOKEN", "MS_REFRESH_TOKEN", "GMAIL_CLIENT_SECRET")
    values = {name: value for name, value in world.program.environment.items() if name not in left_out}
    return {**values, "DYNAMODB_TABLE": TABLE, "TOKENS_SECRET_ID": SECRET}


def container_endpoint(aws: EmbeddedAws) -> str:
    """Return where a container finds the emulated AWS."""
    return aws.endpoint.replace(aws.address, HOST)


def _has_buildkit() -> bool:
    return docker.run("buildx", "version").returncode == 0


def sam(tools: Tools, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run SAM, which must not phone home, nor look for credentials other than in ``settings``. Raises Failed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**kept, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": REGION, **settings}
    # The Python that SAM runs on is often the only 3.13 there is: the package's bytecode is compiled by it.
    environment["PATH"] = os.pathsep.join([environment.get("PATH", os.defpath), str(Path(tools.sam).parent)])
    done = subprocess.run(
        [tools.sam, *arguments],
        cwd=templates.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise Failed(f"sam {arguments[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done
