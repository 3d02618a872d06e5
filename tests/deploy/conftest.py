"""A Lambda environment between the two fakes, and what the tests of emulator and container image share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncer.demo.certificates import Certificates
from tests.conftest import missing
from tests.deploy import emulator, ministack
from tests.deploy.docker import ROOT, docker, has_image, why_not
from tests.deploy.environment import Environment
from tests.deploy.watched_aws import WatchedAws
from tests.stack.pair import FakePair, fake_pair

SECRET = "tokens"
BASE_IMAGE = "python:3.13-slim"

Start = Callable[..., Environment]


@pytest.fixture
def pair(certificates: Certificates, tmp_path: Path) -> Iterator[FakePair]:
    """Two empty accounts, the table and the secret; nothing run yet; ``INITIAL_SYNC=all``."""
    with fake_pair(certificates, tmp_path, INITIAL_SYNC="all") as made:
        emulator.seed_secret(made.stack.aws, SECRET, made.stack.program.environment)
        yield made


@pytest.fixture
def aws(pair: FakePair) -> WatchedAws:
    """What the function asks of AWS."""
    pair.stack.watched.actions.clear()
    return pair.stack.watched


def of_the_function(pair: FakePair) -> dict[str, str]:
    """Return the environment of the function, which finds its tokens in the secret."""
    left_out = (
        "TOKENS_FILE",
        "GMAIL_CLIENT_ID",
        "GMAIL_CLIENT_SECRET",
        "GMAIL_REFRESH_TOKEN",
        "MS_CLIENT_ID",
        "MS_REFRESH_TOKEN",
    )
    settings = {name: value for name, value in pair.stack.program.environment.items() if name not in left_out}
    return {**settings, "TOKENS_SECRET_ID": SECRET, "POWERTOOLS_SERVICE_NAME": "mail-copies"}


@pytest.fixture
def start(pair: FakePair, tmp_path: Path) -> Iterator[Start]:
    """Start an environment with the tokens in the secret, as the template has it."""
    settings = of_the_function(pair)
    with ExitStack() as stack:

        def environment(**changes: str) -> Environment:
            return stack.enter_context(Environment({**settings, **changes}, tmp_path))

        yield environment


@pytest.fixture(scope="session")
def tools() -> emulator.Tools:
    """Docker, SAM and an image of Lambda's runtime."""
    try:
        return emulator.tools()
    except emulator.Missing as error:
        missing(str(error))


@pytest.fixture
def cloud(tools: emulator.Tools) -> Iterator[ministack.Cloud]:
    """An empty AWS account, as far as ministack has it."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(ministack.cloud(tools))
        except emulator.Missing as error:
            missing(str(error))
        yield made


@pytest.fixture(scope="session")
def built(tools: emulator.Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built template, with the package beside it."""
    return emulator.build(tools, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """The project's container image, from its Dockerfile; under a name of this process's own."""
    if reason := why_not():
        missing(reason)
    if not has_image(BASE_IMAGE):
        missing(f"no image {BASE_IMAGE} here")
    name = f"gmail-outlook-syncer:test-{uuid.uuid4().hex[:12]}"
    docker("build", "--quiet", "--tag", name, str(ROOT))
    yield name
    docker("rmi", "--force", name, check=False)
