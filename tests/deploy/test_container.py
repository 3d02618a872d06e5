"""The container image for real: as small and as locked down as it says, and it copies mail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncer.demo.certificates import Certificates
from tests.deploy.docker import ROOT, container, docker
from tests.stack.pair import FakePair, fake_pair, letter, parsed, until

pytestmark = [pytest.mark.emulator, pytest.mark.usefixtures("image")]

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)
NAS_USER = "1026:100"
"""The first user of a Synology: nobody whom the image knows."""
MEGABYTE = 1 << 20


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder that belongs to the NAS's user, for tokens and the certificate."""
    folder = tmp_path / "nas"
    folder.mkdir()
    # The container's user has to be able to walk there.
    for parent in (folder, *folder.parents[:-2]):
        parent.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, 1026, 100)
    return folder


@pytest.fixture
def pair(certificates: Certificates, tmp_path: Path, files: Path) -> Iterator[FakePair]:
    ca = str(shutil.copy(certificates.ca, files / "ca.pem"))
    with fake_pair(certificates, tmp_path, INITIAL_SYNC="all", SSL_CERT_FILE=ca, REQUESTS_CA_BUNDLE=ca) as made:
        made.stack.program.environment["TOKENS_FILE"] = str(files / "tokens.json")
        yield made


def nas(pair: FakePair, *options: str) -> dict[str, object]:
    """Return how a NAS runs the image."""
    folder = Path(pair.stack.program.environment["TOKENS_FILE"]).parent
    return {
        "environment": pair.stack.program.environment,
        "files": folder,
        "options": ("--user", NAS_USER, *options),
    }


def run(image: str, command: str, pair: FakePair, *options: str) -> tuple[int, str]:
    """Run a command in a container to its end."""
    with container(image, command, **nas(pair, *options)) as running:  # type: ignore[arg-type]
        return running.wait(), running.logs()


def test_a_cycle_copies_as_any_user_with_nothing_writable_but_the_tokens(image: str, pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    code, printed = run(image, "run-once", pair)
    assert code == 0, printed
    assert pair.copies() == [letter(1)]
    assert all(isinstance(event, dict) for event in parsed(printed))
    tokens = Path(pair.stack.program.environment["TOKENS_FILE"])
    assert (tokens.stat().st_uid, tokens.stat().st_mode & 0o777) == (1026, 0o600)
    assert run(image, "run-once", pair)[0] == 0
    assert pair.copies() == [letter(1)]


def test_the_daemon_is_healthy_falls_ill_recovers_and_leaves_on_sigterm(image: str, pair: FakePair) -> None:
    every_second = ("--health-interval=1s", "--health-retries=1", "--health-start-period=0s")
    pair.stack.program.environment["SYNC_INTERVAL_SECONDS"] = "8"
    with container(image, "daemon", **nas(pair, *every_second)) as daemon:  # type: ignore[arg-type]
        until(lambda: daemon.state()["Health"]["Status"] == "healthy", 30)
        pair.source.deliver(letter(1), ARRIVED)
        until(lambda: pair.copies() == [letter(1)], 30)
        # An hour without a good cycle, as the file would tell it; the next good cycle writes it anew.
        docker("exec", daemon.name, "python", "-c", _AGE_THE_FILE)
        until(lambda: daemon.state()["Health"]["Status"] == "unhealthy", 30)
        said = [check["Output"] for check in daemon.state()["Health"]["Log"] if check["ExitCode"]]
        assert "unhealthy: no good cycle for " in said[0]
        until(lambda: daemon.state()["Health"]["Status"] == "healthy", 30)
        docker("stop", "--time", "60", daemon.name)
        assert daemon.state()["ExitCode"] == 0
        assert parsed(daemon.logs())[-1]["event"] == "cycle_finished"
    assert "lease_owner" not in pair.stack.records()["WATERMARK"]


_AGE_THE_FILE = """
import json, os
path = os.environ["HEALTH_FILE"]
pulse = json.load(open(path))
pulse["good_at"] -= 3600
json.dump(pulse, open(path, "w"))
"""


def test_the_largest_mail_fits_into_the_memory_that_the_compose_file_gives(image: str, pair: FakePair) -> None:
    large = letter(1, size=34 * MEGABYTE)
    pair.source.deliver(large, ARRIVED)
    code, printed = run(image, "run-once", pair, "--memory=256m", "--memory-swap=256m")
    assert code == 0, printed
    assert pair.copies() == [large]


def test_running_out_of_memory_loses_nothing_and_doubles_nothing(image: str, pair: FakePair) -> None:
    mails = [letter(1), letter(2, size=34 * MEGABYTE), letter(3)]
    for mail in mails:
        pair.source.deliver(mail, ARRIVED)
    pair.stack.program.environment.update(IN_DOUBT_SETTLE_SECONDS="0", LEASE_SECONDS="2")
    with container(image, "run-once", **nas(pair, "--memory=80m", "--memory-swap=80m")) as small:  # type: ignore[arg-type]
        assert small.wait() == 137
        assert small.state()["OOMKilled"]
    pair.stack.run_until_quiet(SYNC_INTERVAL_SECONDS="1")
    assert sorted(pair.copies()) == sorted(mails)


def test_nothing_in_it_builds_software_or_serves_the_demo(image: str) -> None:
    for tool in ("gcc", "cc", "make", "git", "pip"):
        found = subprocess.run(
            ["docker", "run", "--rm", "--entrypoint", "sh", image, "-c", f"command -v {tool}"], capture_output=True
        )
        assert found.returncode != 0, tool
    said = docker("run", "--rm", "--entrypoint", "python", image, "-c", "import os; print(os.listdir('/app/syncer'))")
    assert "demo" not in said
    assert "main.py" in said


def test_it_tells_its_user_its_signal_and_its_command(image: str) -> None:
    config = json.loads(docker("inspect", "-f", "{{json .Config}}", image))
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["python", "-m", "syncer"]
    assert config["Cmd"] == ["daemon"]
    assert config["Labels"]["org.opencontainers.image.title"] == "gmail-outlook-syncer"


_HERE = """
# Where the servers of this test are, and no minute to wait for the first health check.
services:
  syncer:
    image: {image}
    network_mode: host
    volumes:
      - {ca}:{ca}:ro
    healthcheck:
      interval: 1s
"""


def test_the_status_page_is_reached_from_outside_as_the_compose_file_says(image: str, tmp_path: Path) -> None:
    """The container has a network of its own here, in which there is neither mail nor DynamoDB: the page says so."""
    text = (ROOT / "docker-compose.yml").read_text()
    for line in ("STATUS_PORT: 8080", "STATUS_HOST: 0.0.0.0", "ports:", '  - "8080:8080"'):
        assert text.count(f"# {line}\n") == 1
        text = text.replace(f"# {line}\n", f"{line}\n")
    (tmp_path / "docker-compose.yml").write_text(text.replace('"8080:8080"', '"127.0.0.1::8080"'))
    (tmp_path / "docker-compose.override.yml").write_text(f"services: {{syncer: {{image: {image}}}}}\n")
    for name in ("tokens", "secrets"):
        (tmp_path / name).mkdir()
    (tmp_path / "secrets" / "aws").write_text("[default]\naws_access_key_id = none\naws_secret_access_key = none\n")
    settings = "AWS_REGION=eu-central-1\nDYNAMODB_TABLE=mail\nAWS_ENDPOINT_URL=http://127.0.0.1:9\n"
    (tmp_path / "syncer.env").write_text(f"GMAIL_EMAIL=a@gmail.example\nOUTLOOK_EMAIL=a@outlook.example\n{settings}")

    def compose(*arguments: str) -> str:
        return docker("compose", "--project-directory", str(tmp_path), *arguments)

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://{compose('port', 'syncer', '8080')}{path}", timeout=20) as answer:
            return str(answer.read().decode())

    def is_up() -> bool:
        try:
            return get("/healthz").startswith("starting; ")
        except OSError:
            return False

    try:
        compose("up", "--detach", "--no-build")
        until(is_up, 30)
        assert "The records cannot be read now" in get("/")
        assert "syncer_cycles_completed_total 0" in get("/metrics")
    finally:
        compose("down", "--volumes")


def test_compose_brings_it_up_as_the_guide_says(image: str, pair: FakePair, tmp_path: Path) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(ROOT / "docker-compose.yml", project)
    (project / "tokens").mkdir()
    (project / "secrets").mkdir()
    environment = dict(pair.stack.program.environment)
    credentials = [f"{key.lower()} = {environment.pop(key)}" for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    (project / "secrets" / "aws").write_text("\n".join(["[default]", *credentials, ""]))
    ca = Path(environment["SSL_CERT_FILE"])
    left_out = {"TOKENS_FILE", "PATH", "HOME", "PYTHONPATH", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"}
    lines = [f"{key}={value}" for key, value in environment.items() if key not in left_out]
    (project / "syncer.env").write_text("\n".join([*lines, ""]))
    (project / "docker-compose.override.yml").write_text(_HERE.format(image=image, ca=ca))
    for owned in (project / "tokens", project / "secrets", project / "secrets" / "aws"):
        os.chown(owned, 1026, 100)
    (project / "secrets" / "aws").chmod(0o400)

    def compose(*arguments: str) -> str:
        return docker("compose", "--project-directory", str(project), *arguments)

    try:
        compose("up", "--detach", "--no-build", "--wait")
        until(lambda: pair.copies() == [letter(1)], 30)
        assert json.loads((project / "tokens" / "tokens.json").read_text())["outlook"]["refresh_token"]
        running = json.loads(docker("inspect", compose("ps", "--quiet", "syncer")))[0]
        assert running["HostConfig"]["ReadonlyRootfs"]
        assert running["HostConfig"]["CapDrop"] == ["ALL"]
        assert running["HostConfig"]["Memory"] == 256 * MEGABYTE
        assert running["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    finally:
        compose("down", "--volumes")
