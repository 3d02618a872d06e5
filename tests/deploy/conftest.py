"""The container image, built once for all tests that run it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import missing
from tests.deploy.docker import ROOT, docker, has_image, is_there

BASE_IMAGE = "python:3.13-slim"


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """The project's image, from its Dockerfile."""
    if not is_there():
        missing("no Docker here")
    if not has_image(BASE_IMAGE):
        missing(f"no image {BASE_IMAGE} here")
    name = "gmail-outlook-syncer:test"
    docker("build", "--quiet", "--tag", name, str(ROOT))
    yield name
    docker("rmi", "--force", name, check=False)
