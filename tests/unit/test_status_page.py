"""The status page's server over real sockets: what it refuses, what it bounds, and how seldom it reads."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from syncer import status_server
from syncer.cycle_state import Summary
from syncer.errors import StateUnavailable
from syncer.health import Health
from syncer.history import History
from syncer.logging_utils import set_up
from syncer.model import Outcome, Standing, Watermark
from syncer.status import Status
from syncer.status_page import READ_EVERY_SECONDS, Records, StatusPage
from syncer.status_server import MAX_VISITORS, is_ours
from tests.stack.pair import until


class Clock:
    def __init__(self) -> None:
        self.time = 1_790_000_000.0

    def __call__(self) -> float:
        return self.time


class Table:
    """Stands for DynamoDB: counts reads, fails or hangs on demand."""

    def __init__(self) -> None:
        self.reads = 0
        self.fault = ""
        self.copied = 1
        self.answers = threading.Event()
        self.answers.set()

    def read(self) -> Status:
        self.reads += 1
        self.answers.wait(10)
        if self.fault:
            raise StateUnavailable(self.fault)
        return Status(0.0, Standing(Watermark(uidvalidity=1, copied=self.copied)), (), 0, (), ())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(300, clock)


@pytest.fixture
def page(clock: Clock, table: Table, health: Health) -> Iterator[StatusPage]:
    history = History(clock)
    with StatusPage("127.0.0.1", 0, Records(table.read, clock), history.seen, health.verdict) as page:
        yield page
    table.answers.set()


def ask(page: StatusPage, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def raw(page: StatusPage, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", page.port), 10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# -- reading the records


def test_records_are_read_only_when_somebody_looks_and_at_most_every_30_seconds(
    page: StatusPage, table: Table, clock: Clock
) -> None:
    assert table.reads == 0
    for _ in range(20):
        assert ask(page)[0] == 200
    assert table.reads == 1
    clock.time += READ_EVERY_SECONDS
    ask(page)
    ask(page)
    assert table.reads == 2


def test_health_and_metrics_read_no_records(page: StatusPage, table: Table) -> None:
    assert ask(page, "/healthz")[0] == ask(page, "/metrics")[0] == 200
    assert table.reads == 0


def test_a_table_that_is_gone_is_told_with_the_last_known_and_not_asked_more_often(
    page: StatusPage, table: Table, clock: Clock
) -> None:
    table.copied = 4321
    assert "4,321" in ask(page)[1]
    table.fault = "cannot be reached: check the network"
    clock.time += READ_EVERY_SECONDS
    for _ in range(5):
        status, text = ask(page)
        assert (status, "4,321" in text) == (200, True)
        assert "Cannot be reached: check the network." in text
    assert table.reads == 2
    table.fault = ""
    clock.time += READ_EVERY_SECONDS
    assert "cannot be read now" not in ask(page)[1]


def test_a_table_that_hangs_keeps_nobody_waiting_and_is_asked_once(table: Table, clock: Clock) -> None:
    table.answers.clear()
    records = Records(table.read, clock)
    assert records.look(patience=0.01).reason == "DynamoDB takes long to answer"
    clock.time += READ_EVERY_SECONDS
    assert records.look(patience=0.01).status is None
    assert table.reads == 1
    table.answers.set()
    known = records.look(patience=10)
    assert known.status is not None
    assert known.reason == ""


def test_a_bug_in_reading_is_logged_and_leaves_the_page(
    clock: Clock, capsys: pytest.CaptureFixture[str], health: Health
) -> None:
    set_up("INFO")

    def read() -> Status:
        raise ZeroDivisionError("secret")

    known = Records(read, clock).look()
    assert known.reason == "a bug: the log has it"
    assert json.loads(capsys.readouterr().out)["error"] == "ZeroDivisionError"


# -- health


def test_healthz_says_what_health_says(page: StatusPage, health: Health, clock: Clock) -> None:
    assert ask(page, "/healthz") == (200, "starting; no cycle has ended yet\n")
    clock.time += 901
    health.ended(Summary(Outcome.AUTH_FAILED, remedy="syncer auth gmail"))
    status, reason = ask(page, "/healthz")
    assert status == 503
    assert reason == "no good cycle for 15 min; the last cycle ended with auth_failed: syncer auth gmail\n"
    assert "The daemon is not well" in ask(page)[1]
    health.ended(Summary(Outcome.OK))
    assert ask(page, "/healthz")[0] == 200


# -- what it refuses


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "BREW"])
def test_nothing_but_reading_is_allowed(page: StatusPage, table: Table, method: str) -> None:
    assert ask(page, method=method)[0] == 405
    assert table.reads == 0


def test_head_is_get_without_the_text(page: StatusPage) -> None:
    answer = raw(page, b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert body == b""
    assert int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) > 1000


@pytest.mark.parametrize("path", ["/favicon.ico", "/../etc/passwd", "/healthz/", "/%2e%2e/", "/<script>"])
def test_there_is_nothing_else(page: StatusPage, path: str) -> None:
    status, text = ask(page, path)
    assert (status, text) == (404, "there is /, /healthz and /metrics\n")


def test_an_answer_may_be_neither_kept_nor_framed_nor_read_by_other_pages(page: StatusPage) -> None:
    for path in ("/", "/healthz", "/metrics", "/nothing"):
        head = raw(page, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()).partition(b"\r\n\r\n")[0].decode()
        for field in (
            "Cache-Control: no-store",
            "Content-Security-Policy: default-src 'none'; style-src 'sha256-",
            "Cross-Origin-Resource-Policy: same-origin",
            "X-Content-Type-Options: nosniff",
            "X-Frame-Options: DENY",
            "Referrer-Policy: no-referrer",
        ):
            assert field in head
        assert "Access-Control" not in head
        assert "Server:" not in head


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        (None, True),
        ("127.0.0.1:8080", True),
        ("192.168.1.20", True),
        ("[::1]:8080", True),
        ("[fe80::1]", True),
        ("localhost:8080", True),
        ("syncer:8080", True),
        ("DiskStation.local:8080", True),
        ("nas.fritz.box.lan", True),
        ("nas.example.com", True),  # what it is bound to
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("192.168.1.20.nip.example", False),
        ("local.evil.example.", False),
        ("[evil.example]", False),
    ],
)
def test_a_name_that_somebody_may_have_registered_is_refused(host: str | None, ours: bool) -> None:
    assert is_ours(host, "nas.example.com") is ours


def test_a_page_elsewhere_that_points_its_own_name_here_learns_nothing(page: StatusPage, table: Table) -> None:
    status, text = ask(page, Host="rebound.example:8080")
    assert status == 421
    assert "open this page by the machine's address" in text
    assert table.reads == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 200 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nX-A: " + b"b" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
    ],
    ids=["long address", "many fields", "long field", "unknown version", "TLS", "half a request"],
)
def test_what_is_no_request_of_ours_is_answered_in_a_word_and_harms_nobody(
    page: StatusPage, request_: bytes, status: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", page.port), 10) as connection:
        connection.sendall(request_)
        assert status in connection.recv(4096)
    assert ask(page, "/healthz")[0] == 200
    assert capfd.readouterr() == ("", "")


# -- what it bounds


def test_visitors_that_say_nothing_keep_nobody_else_out_for_long(
    page: StatusPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [socket.create_connection(("127.0.0.1", page.port), 10) for _ in range(MAX_VISITORS)]
    try:
        assert page._server is not None
        server = page._server
        until(lambda: len(server._visits) == MAX_VISITORS)
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(page, "/healthz")
        monkeypatch.setattr(status_server, "VISIT_SECONDS", 0.0)
        until(lambda: not server._visits)
        monkeypatch.undo()
        assert ask(page, "/healthz")[0] == 200
        assert [connection.recv(1) for connection in silent] == [b""] * MAX_VISITORS
    finally:
        for connection in silent:
            connection.close()


def test_no_thread_is_left_when_it_stops(clock: Clock, table: Table, health: Health) -> None:
    before = set(threading.enumerate())
    with StatusPage("127.0.0.1", 0, Records(table.read, clock), History(clock).seen, health.verdict) as page:
        server = page._server
        assert server is not None
        ask(page)
        until(lambda: not server._visits)  # that visit ends a moment after its answer
        stuck = socket.create_connection(("127.0.0.1", page.port), 10)
        until(lambda: server._visits)
    assert stuck.recv(1) == b""
    stuck.close()
    until(lambda: not set(threading.enumerate()) - before)


def test_a_port_in_use_is_one_line_and_no_more(
    page: StatusPage, clock: Clock, table: Table, health: Health, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("INFO")
    with StatusPage("127.0.0.1", page.port, Records(table.read, clock), History(clock).seen, health.verdict):
        (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert told["event"] == "status_page_failed"
    assert told["reason"] == "Address already in use: check STATUS_HOST and STATUS_PORT"


def test_an_address_that_is_not_this_machine_s_is_told(
    clock: Clock, table: Table, health: Health, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("INFO")
    with StatusPage("nowhere.invalid", 0, Records(table.read, clock), History(clock).seen, health.verdict):
        told = json.loads(capsys.readouterr().out)
    assert told["event"] == "status_page_failed"
    assert "check STATUS_HOST" in told["reason"]


def test_ipv6_will_do(clock: Clock, table: Table, health: Health) -> None:
    with StatusPage("::1", 0, Records(table.read, clock), History(clock).seen, health.verdict) as page:
        connection = http.client.HTTPConnection("::1", page.port, timeout=10)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
