"""Docker as the tests use it: the project's image built once, containers that end with their test."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
HOST_ONLY: Final = frozenset(
    {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TERM", "COLUMNS", "SYSTEMROOT", "PYTHONPATH"}
)


def why_not() -> str:
    """Return why Docker cannot be used here, and what helps; empty if its daemon answers."""
    if shutil.which("docker") is None:
        return "Docker is not here: install it, and start it"
    if run("info").returncode:
        return "Docker does not answer: start its daemon, and allow this user to use it"
    return ""


def has_image(name: str) -> bool:
    """Tell whether an image lies here: nothing is pulled in a test."""
    return run("image", "inspect", name).returncode == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a docker command, however it ends."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def docker(*arguments: str, check: bool = True) -> str:
    """Run a docker command; return what it printed. Raises AssertionError, with its words: it failed."""
    done = run(*arguments)
    assert not check or done.returncode == 0, f"docker {arguments[0]}: {done.stderr}"
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Container:
    """One container."""

    name: str

    def state(self) -> dict[str, Any]:
        """Return what Docker says of its state."""
        state: dict[str, Any] = json.loads(docker("inspect", "-f", "{{json .State}}", self.name))
        return state

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        return int(docker("wait", self.name))

    def logs(self) -> str:
        """Return all that it printed."""
        done = subprocess.run(
            ["docker", "logs", self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.stdout


@contextmanager
def container(
    image: str, *command: str, environment: Mapping[str, str], files: Path, options: tuple[str, ...] = ()
) -> Iterator[Container]:
    """Start a container as docs and compose file say: read-only, no capabilities, an ordinary user.

    ``files`` is the folder of certificates and tokens, at the same place inside. The network is the
    machine's own, so that servers on loopback are reached.
    """
    name = f"syncer-test-{uuid.uuid4().hex[:12]}"
    variables = [f"--env={key}={value}" for key, value in environment.items() if key not in HOST_ONLY]
    hardening = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    docker(
        *("run", "--detach", "--name", name, "--network", "host", "--volume", f"{files}:{files}"),
        *hardening,
        *variables,
        *options,
        image,
        *command,
    )
    try:
        yield Container(name)
    finally:
        docker("rm", "--force", "--volumes", name)
