"""Real servers for the tests in this folder: two Dovecots that trust one token authority."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncer.demo.authority import Authority
from syncer.demo.certificates import Certificates
from tests.conftest import missing
from tests.imap.dovecot import Dovecot


@pytest.fixture(scope="session")
def dovecot_authority(certificates: Certificates) -> Iterator[Authority]:
    """Issue the tokens that both Dovecots accept. Shared: leave it as it was found."""
    with Authority(certificates) as authority:
        yield authority


@pytest.fixture(scope="session")
def dovecot(certificates: Certificates, dovecot_authority: Authority) -> Iterator[Dovecot]:
    """A Dovecot for the whole session: give each test its own user, and do not restart it."""
    with _started(certificates, dovecot_authority) as server:
        yield server


@pytest.fixture(scope="session")
def second_dovecot(certificates: Certificates, dovecot_authority: Authority) -> Iterator[Dovecot]:
    """Another one, for the other side of a copy."""
    with _started(certificates, dovecot_authority) as server:
        yield server


@pytest.fixture
def own_dovecot(certificates: Certificates, dovecot_authority: Authority) -> Iterator[Dovecot]:
    """A Dovecot for this test alone, to kill, to restart and to configure."""
    with _started(certificates, dovecot_authority) as server:
        yield server


def _started(certificates: Certificates, authority: Authority) -> Dovecot:
    if reason := Dovecot.missing():
        missing(reason)
    return Dovecot(certificates.server, certificates.key, authority.introspection_url)
