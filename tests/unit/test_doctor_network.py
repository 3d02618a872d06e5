"""Names, connections, certificates and the clock, against sockets that are what they should not be."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from syncer.demo.authority import Authority
from syncer.demo.certificates import Certificates
from syncer.diagnosis import Diagnosis, Finding, Verdict, examine
from syncer.doctor import certificates as doctor_certificates
from syncer.doctor import probes
from syncer.doctor.certificates import Server
from syncer.doctor.network import Network
from syncer.doctor.probes import Place

HOST = "localhost"


def place(port: int, url: str = "", *, host: str = HOST, key: str = "there") -> Place:
    return Place(key, "the server", host, port, ("HOST_SETTING", "PORT_SETTING"), "CA_SETTING", url, prefers_ipv4=True)


def findings(*places: Place, now: Callable[[], float] = time.time) -> dict[str, Finding]:
    return {one.check: one for one in Diagnosis(tuple(examine(Network(places, now).checks()))).findings}


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept connections one by one until the end, each handed to ``serve``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        serve(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def refused(issued: trustme.LeafCert, trusted: trustme.CA | None, name: str) -> ssl.SSLCertVerificationError:
    """Return what OpenSSL says of a certificate, in a handshake over memory."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(server_side)
    client_side = ssl.create_default_context(cadata=trusted.cert_pem.bytes().decode() if trusted else None)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLCertVerificationError as error:
                return error
            except ssl.SSLWantReadError:
                continue
    raise AssertionError("accepted")


def der_of(issued: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


@pytest.mark.parametrize("name", ["imap.gmail.com", "outlook.office365.com", "login.microsoftonline.com"])
def test_a_strange_certificate_for_a_provider_means_that_somebody_reads_along(name: str) -> None:
    issued = trustme.CA(organization_name="Corporate Proxy").issue_cert(name)
    found = doctor_certificates.refused(
        refused(issued, None, name), Server(name, "HOST", "SSL_CERT_FILE"), der_of(issued)
    )
    assert 'comes from "Corporate Proxy"' in found.words
    assert "reads along" in found.words
    assert "SSL_CERT_FILE" in found.remedy


def test_a_strange_certificate_for_another_host_needs_its_authority() -> None:
    issued = trustme.CA(organization_name="Home").issue_cert("mail.home.example")
    error = refused(issued, None, "mail.home.example")
    found = doctor_certificates.refused(error, Server("mail.home.example", "HOST", "SSL_CERT_FILE"), der_of(issued))
    assert "reads along" not in found.words
    assert found.remedy == "name a file that holds that CA in SSL_CERT_FILE"


@pytest.mark.parametrize("der", [None, b"", b"no certificate"], ids=["not served", "empty", "garbage"])
def test_the_verdict_stands_without_a_certificate_to_read(der: bytes | None) -> None:
    ca = trustme.CA()
    error = refused(ca.issue_cert("elsewhere.example"), ca, HOST)
    found = doctor_certificates.refused(error, Server(HOST, "HOST", "SSL_CERT_FILE"), der)
    assert (found.words, found.remedy) == ("the certificate is not for localhost", "correct HOST")


def test_what_a_certificate_says_of_itself_is_made_fit_for_a_terminal() -> None:
    issued = trustme.CA(organization_name="\x1b[31mmara@gmail.example").issue_cert("x.example")
    error = refused(issued, None, "x.example")
    found = doctor_certificates.refused(error, Server("x.example", "HOST", "CA"), der_of(issued))
    assert "\x1b" not in found.words
    assert "mara" not in found.words


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "CONNECT_SECONDS", 0.2)
    until = threading.Event()

    def say_nothing(_: socket.socket) -> None:
        until.wait(10)

    with serving(say_nothing) as port:
        try:
            found = findings(place(port))
        finally:
            until.set()
    assert "does not answer" in found["tls.there"].found.words


def test_what_is_no_http_server_is_named_so() -> None:
    with serving(lambda connection: connection.sendall(b"220 mail.example ESMTP\r\n")) as port:
        found = findings(place(port, f"http://{HOST}:{port}"))
    assert "is no HTTP server" in found["tls.there"].found.words


def test_without_ipv4_outlook_gets_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    answer = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: answer if host == HOST else real(host, *a, **k))
    found = findings(place(1))["dns.there"]
    assert found.verdict is Verdict.WARN
    assert "IPv6" in found.found.words


def test_a_name_server_that_does_not_answer_is_not_a_wrong_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_args: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    found = findings(place(1))
    assert "no name server answers" in found["dns.there"].found.words
    assert found["tls.there"].because == "dns.there"
    assert found["clock"].verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        ("imap.gmail.com", "check the network and its name server"),
        ("imap.gmial.com", "correct HOST_SETTING, or check the network"),
    ],
)
def test_a_providers_own_name_that_is_not_known_is_the_name_servers_fault(
    host: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_args: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert findings(place(1, host=host))["dns.there"].found.remedy == remedy


def test_a_label_that_no_name_can_have_is_a_wrong_name() -> None:
    assert "no host named" in findings(place(1, host="a" * 64 + ".example"))["dns.there"].found.words


def with_date(offset: float) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + offset))
        connection.sendall(f"HTTP/1.1 404 no\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())

    return serve


@pytest.mark.parametrize(
    ("offset", "verdict", "words"),
    [
        (0, Verdict.OK, "within"),
        (-600, Verdict.FAIL, "10 minutes ahead of"),
        (600, Verdict.FAIL, "10 minutes behind"),
        (140, Verdict.WARN, "2 minutes behind"),
    ],
)
def test_the_clock_is_compared_with_what_servers_say(offset: float, verdict: Verdict, words: str) -> None:
    with serving(with_date(offset)) as port:
        found = findings(place(port, f"http://{HOST}:{port}"))["clock"]
    assert found.verdict is verdict
    assert words in found.found.words


def test_one_server_with_a_wrong_clock_is_outvoted() -> None:
    with serving(with_date(0)) as one, serving(with_date(5)) as two, serving(with_date(-90_000)) as three:
        places = [place(port, f"http://{HOST}:{port}", key=str(port)) for port in (one, two, three)]
        assert findings(*places)["clock"].verdict is Verdict.OK


def test_where_no_certificate_is_valid_yet_the_clock_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, not_before=datetime.now(UTC) + timedelta(days=900)).configure_cert(context)

    def serve(connection: socket.socket) -> None:
        connection.settimeout(5)
        context.wrap_socket(connection, server_side=True).close()

    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with serving(serve) as one, serving(serve) as two:
        found = findings(place(one, key="one"), place(two, key="two"))
    assert found["clock"].verdict is Verdict.FAIL
    assert found["clock"].found.remedy.startswith("set the clock")
    assert "is not valid before" in found["tls.one"].found.words


# -- a proxy


@contextmanager
def proxy(upstream: int | None) -> Iterator[int]:
    """An HTTP proxy that connects to ``upstream`` whatever it is asked for; None: it refuses."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while octets := source.recv(65536):
                target.sendall(octets)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve(connection: socket.socket) -> None:
        asked = connection.recv(65536)
        if upstream is None or not asked.startswith(b"CONNECT "):
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", upstream), 5) as onward:
            back = threading.Thread(target=pump, args=(onward, connection), daemon=True)
            back.start()
            pump(connection, onward)
            back.join(5)

    with serving(serve) as port:
        yield port


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def use(port: int) -> None:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")

    return use


def test_a_proxy_of_the_environment_looks_up_and_connects(
    certificates: Certificates, through: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
    with Authority(certificates) as authority:
        port = int(authority.base_url.rpartition(":")[2])
        with proxy(port) as proxied:
            through(proxied)
            # No name server knows this host; its certificate is for localhost.
            found = findings(place(443, "https://sign-in.invalid/token", host="sign-in.invalid"))
            same = findings(place(port, f"https://{HOST}:{port}/token"))
    assert "proxy" in found["dns.there"].found.words
    assert "not for sign-in.invalid" in found["tls.there"].found.words
    assert same["tls.there"].found.words == "verified, through the proxy of the environment"
    assert same["clock"].verdict is Verdict.OK


def test_a_proxy_that_refuses_is_named(through: Callable[[int], None]) -> None:
    with proxy(None) as proxied:
        through(proxied)
        found = findings(place(443, "https://sign-in.invalid/token", host="sign-in.invalid"))
    assert found["tls.there"].found.remedy == "correct HTTPS_PROXY"
