"""An AWS account that ministack plays: CloudFormation, and what it makes, on this machine.

ministack wrote the services anew: what our own tests' moto lets pass by mistake has to pass here, too.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3

from syncer.demo.aws import REGION
from tests.deploy import emulator
from tests.deploy.emulator import Missing, Tools
from tests.stack.pair import until

_KEYS: Final = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@dataclass(frozen=True, slots=True)
class Cloud:
    """The account."""

    endpoint: str
    tools: Tools

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def sam(self, *arguments: str) -> str:
        """Run SAM in this account; return what it printed. Raises Failed."""
        done = emulator.sam(self.tools, *arguments, "--region", REGION, AWS_ENDPOINT_URL=self.endpoint, **_KEYS)
        return done.stdout + done.stderr

    def deploy(self, stack: str, template: Path, parameters: Mapping[str, str]) -> str:
        """Make or change a stack; return what SAM printed. Raises Failed."""
        words = [f'{name}="{value}"' for name, value in parameters.items()]
        options = ["--stack-name", stack, "--resolve-s3", "--capabilities", "CAPABILITY_IAM"]
        options += ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"]
        return self.sam("deploy", "--template", str(template), *options, "--parameter-overrides", " ".join(words))

    def outputs(self, stack: str) -> dict[str, str]:
        """Return what a stack puts out."""
        (described,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}


@contextmanager
def cloud(tools: Tools) -> Iterator[Cloud]:
    """Yield an empty account, whose functions and tasks run in Docker, and whose rules fire. Raises Missing."""
    path = os.pathsep.join([str(Path(tools.sam).parent), os.environ["PATH"]])
    program = shutil.which("ministack", path=path)
    if program is None:
        raise Missing("no ministack: pip install ministack aws-sam-translator docker, beside the AWS SAM command line")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = {"LAMBDA_EXECUTOR": "docker", "GATEWAY_PORT": str(port), "MINISTACK_REGION": REGION}
    process = subprocess.Popen(
        [program], env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        made = Cloud(f"http://localhost:{port}", tools)

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
