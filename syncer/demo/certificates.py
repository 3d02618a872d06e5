"""A certificate authority of one's own, and a server certificate that it vouches for, for the loopback host by default.

The embedded servers speak TLS like the real ones, and the program verifies them like the real
ones: it is told to trust this authority by ``SSL_CERT_FILE`` (IMAP) and ``REQUESTS_CA_BUNDLE``
(HTTPS). Nothing switches verification off.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

HOSTS: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Certificates:
    """The three files, all PEM."""

    ca: Path
    """The authority's certificate: what a client has to trust."""
    server: Path
    """The server's certificate, for every name that was asked for."""
    key: Path
    """The server's private key, readable by its owner only."""

    def server_context(self) -> ssl.SSLContext:
        """Return a context for a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.key)
        return context


def make(folder: Path, hosts: Sequence[str] = HOSTS) -> Certificates:
    """Write ``ca.pem``, ``server.pem`` and ``server.key`` into ``folder``, which is made if missing.

    The authority's own key is never written: nobody can have it vouch for another server.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(ca=folder / "ca.pem", server=folder / "server.pem", key=folder / "server.key")
    authority = trustme.CA()
    issued = authority.issue_cert(*hosts)
    authority.cert_pem.write_to_path(made.ca)
    made.server.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    made.key.unlink(missing_ok=True)
    made.key.touch(mode=0o600)
    made.key.write_bytes(issued.private_key_pem.bytes())
    return made
