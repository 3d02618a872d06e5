"""The fakes as pytest fixtures: ``pytest_plugins = ["tests.fakes.fixtures"]`` in a test module or the conftest.

Needs the fixture ``certificates``. The account is ``raw_client.USER``, its token ``raw_client.GOOD``.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from syncer.demo.certificates import Certificates
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.fakes.raw_client import RawClient, check_token


@pytest.fixture
def server_tls(certificates: Certificates) -> ssl.SSLContext:
    return certificates.server_context()


@pytest.fixture
def client_tls(certificates: Certificates) -> ssl.SSLContext:
    """What a client trusts: chain and host name are verified."""
    return ssl.create_default_context(cafile=str(certificates.ca))


@pytest.fixture
def gmail(server_tls: ssl.SSLContext) -> Iterator[FakeGmail]:
    """An empty Gmail account."""
    with FakeGmail(check_token, server_tls) as server:
        yield server


@pytest.fixture
def outlook(server_tls: ssl.SSLContext) -> Iterator[FakeOutlook]:
    """An Outlook.com account with an empty mailbox "Gmail" beside its INBOX."""
    with FakeOutlook(check_token, server_tls, folders=("Gmail",)) as server:
        yield server


@pytest.fixture
def dial(client_tls: ssl.SSLContext) -> Iterator[Callable[[int], RawClient]]:
    """Connect to a port; the connection is closed when the test is over."""
    with ExitStack() as clients:
        yield lambda port: clients.enter_context(RawClient(port, client_tls))
