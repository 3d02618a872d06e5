"""Asking one server: its addresses, a connection, its certificate, and what time it has; and why not, if not.

No request here carries anything of the user's: a TLS handshake with the mail servers, a HEAD without
credentials to the others. Certificates are verified as the library that a cycle uses verifies them.
"""

from __future__ import annotations

import email.utils
import errno
import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from syncer.diagnosis import Found, fail
from syncer.doctor import certificates

_CHECK_NAMES: Final = "check the network and its name server"
CONNECT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """A server that a cycle talks to."""

    key: str
    title: str
    host: str
    port: int
    settings: tuple[str, ...]
    """The settings that name it, the host's first."""
    ca_setting: str
    url: str = ""
    """Of a server that speaks HTTP."""
    prefers_ipv4: bool = False


@dataclass(slots=True)
class Probe:
    """What asking one server showed."""

    ipv4: list[str] = field(default_factory=list)
    ipv6: list[str] = field(default_factory=list)
    proxy: bool = False
    """A proxy does the name look-up and the connection."""
    no_name: Found | None = None
    no_connection: Found | None = None
    certificate_error: ssl.SSLCertVerificationError | None = None
    reached: str = ""
    ahead: float | None = None
    """By how many seconds this machine's clock is ahead of the server's."""


def ask(place: Place, now: Callable[[], float] = time.time) -> Probe:
    """Look a place up, connect, verify, and if it speaks HTTP, ask what time it is. Raises nothing."""
    probe = Probe(proxy=bool(place.url) and _is_proxied(place.url))
    try:
        if probe.proxy:
            _ask_through_proxy(place, probe, now)
            return probe
        addresses = _addresses(place, probe)
        if not addresses:
            return probe
        _ask_directly(place, addresses, probe, now)
    except ssl.SSLCertVerificationError as error:
        server = certificates.Server(place.host, place.settings[0], place.ca_setting)
        probe.certificate_error = error
        missing = _missing_ca_file(place)
        probe.no_connection = missing or certificates.refused(error, server, _shown_certificate(place))
    except (OSError, http.client.HTTPException, ValueError) as error:
        probe.no_connection = _no_connection(place, error)
    return probe


def _addresses(place: Place, probe: Probe) -> list[str]:
    """Look the name up; return its addresses, IPv4 first."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            probe.no_name = fail(f"no name server answers for {place.host}", _CHECK_NAMES)
        elif certificates.is_a_providers(place.host) and place.settings != ("AWS_REGION",):
            probe.no_name = fail(f"the name server does not know {place.host}", _CHECK_NAMES)
        else:
            remedy = f"correct {place.settings[0]}, or check the network"
            probe.no_name = fail(f"there is no host named {place.host}", remedy)
        return []
    probe.ipv4 = sorted({str(info[4][0]) for info in found if info[0] == socket.AF_INET})
    probe.ipv6 = sorted({str(info[4][0]) for info in found if info[0] == socket.AF_INET6})
    return [*probe.ipv4, *probe.ipv6]


def _ask_directly(place: Place, addresses: Sequence[str], probe: Probe, now: Callable[[], float]) -> None:
    is_plain = urlsplit(place.url).scheme == "http"
    with _connected(addresses, place.port) as raw:
        if is_plain:
            probe.reached = "answers; not encrypted (http)"
            probe.ahead = _head(http.client.HTTPConnection(place.host, place.port), raw, place, now)
            return
        with _context(place).wrap_socket(raw, server_hostname=place.host) as secure:
            probe.reached = f"verified, {secure.version()}{_validity(secure.getpeercert(), now())}"
            if place.url:
                probe.ahead = _head(http.client.HTTPConnection(place.host, place.port), secure, place, now)


def _connected(addresses: Sequence[str], port: int) -> socket.socket:
    """Connect to the first address that answers. Raises OSError: what the first one said."""
    failure: OSError | None = None
    for address in addresses:
        try:
            return socket.create_connection((address, port), CONNECT_SECONDS / len(addresses))
        except OSError as error:
            failure = failure or error
    raise failure or TimeoutError


def _head(
    connection: http.client.HTTPConnection, sock: socket.socket, place: Place, now: Callable[[], float]
) -> float | None:
    """Send a HEAD request; return by how much this machine's clock is ahead of the answer's Date, if it has one."""
    sock.settimeout(CONNECT_SECONDS)
    connection.sock = sock
    asked = now()
    connection.request("HEAD", urlsplit(place.url).path or "/")
    return _ahead(connection.getresponse().headers.get("Date"), asked, now())


def _ahead(date: str | None, asked: float, answered: float) -> float | None:
    try:
        told = email.utils.parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError):
        return None
    # A Date counts whole seconds, and was written somewhere between question and answer.
    return (asked + answered) / 2 - (told + 0.5)


def _is_proxied(url: str) -> bool:
    import requests

    return bool(requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)))


def _ask_through_proxy(place: Place, probe: Probe, now: Callable[[], float]) -> None:
    import requests

    asked = now()
    try:
        answer = requests.head(place.url, timeout=CONNECT_SECONDS, allow_redirects=False, verify=_bundle(place) or True)
    except requests.exceptions.SSLError as error:
        raise _cause(error) or OSError(errno.EPROTO, "no TLS") from None
    except requests.exceptions.ProxyError:
        probe.no_connection = fail("the proxy of the environment cannot be used", "correct HTTPS_PROXY")
        return
    probe.ahead = _ahead(answer.headers.get("Date"), asked, now())
    probe.reached = "verified, through the proxy of the environment"


def _cause(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """Return the verification error inside what requests and urllib3 made of it."""
    seen: list[object] = [error]
    for one in seen:
        if isinstance(one, ssl.SSLCertVerificationError):
            return one
        if isinstance(one, BaseException) and len(seen) < 20:
            seen += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return None


def _bundle(place: Place) -> str:
    """Return the file of CAs that the library behind this connection would use; empty for OpenSSL's own."""
    if not place.url:
        return ""
    names = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    for name in names if place.ca_setting == "AWS_CA_BUNDLE" else names[1:]:
        if value := os.environ.get(name):
            return value
    import certifi

    return certifi.where()


def _context(place: Place) -> ssl.SSLContext:
    """Return a context that verifies as the library behind this connection does."""
    bundle = _bundle(place)
    if bundle and Path(bundle).is_dir():
        context = ssl.create_default_context(capath=bundle)
    else:
        context = ssl.create_default_context(cafile=bundle or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _missing_ca_file(place: Place) -> Found | None:
    """Return the fault where the private CA's file is not there: OpenSSL says nothing of that."""
    name = os.environ.get("SSL_CERT_FILE", "")
    if place.url or not name or Path(name).is_file():
        return None
    return fail("SSL_CERT_FILE names no readable file, so no certificate is trusted", "correct SSL_CERT_FILE")


def _shown_certificate(place: Place) -> bytes | None:
    """Return the certificate that was refused.

    It is read over a connection that verifies nothing, on which nothing is sent: only to say what is wrong with it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((place.host, place.port), CONNECT_SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=place.host) as secure,
        ):
            return secure.getpeercert(binary_form=True)
    except OSError:
        return None


def _no_connection(place: Place, error: Exception) -> Found:
    """Say why there is no connection, and what to look at."""
    where = f"{place.host}:{place.port}"
    settings = " and ".join(place.settings)
    if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError) and place.url:
        return fail(f"{place.ca_setting} or REQUESTS_CA_BUNDLE names no readable file", f"correct {place.ca_setting}")
    if isinstance(error, ssl.SSLError):
        if "WRONG_VERSION_NUMBER" in str(error.reason) or "RECORD_LAYER" in str(error.reason):
            return fail(f"{where} does not speak TLS", f"correct {settings}")
        return fail(f"no TLS connection to {where} ({error.reason or 'cut off'})", f"check {settings} and the network")
    if isinstance(error, TimeoutError):
        return fail(f"{where} does not answer", "check the network: a firewall may drop this connection")
    if isinstance(error, ConnectionRefusedError):
        return fail(f"nothing listens at {where}", f"correct {settings}")
    if isinstance(error, http.client.HTTPException | ValueError):
        return fail(f"what answers at {where} is no HTTP server", f"correct {settings}")
    why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "the connection was cut"
    return fail(f"no connection to {where} ({why})", f"check the network and {settings}")


def _validity(certificate: Mapping[str, object] | None, now: float) -> str:
    ends = (certificate or {}).get("notAfter")
    if not isinstance(ends, str):
        return ""
    return f", certificate valid for {max(round((ssl.cert_time_to_seconds(ends) - now) / 86_400), 0):,} days"
