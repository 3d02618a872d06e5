"""The relay delays, cuts and swallows; with TLS inside, it passes what it does not understand."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.fakes.raw_client import RawClient, check_token
from tests.fakes.relay import Direction, Relay

pytest_plugins = ["tests.fakes.fixtures"]


@pytest.fixture
def plain() -> Iterator[FakeGmail]:
    """Without TLS, so that octets can be counted."""
    with FakeGmail(check_token) as server:
        yield server


def test_tls_passes_through_in_order(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    mails = [b"Subject: %d\r\n\r\n%s\r\n" % (n, b"x" * n * 1000) for n in range(200)]
    with Relay(outlook.port) as relay, RawClient(relay.port, client_tls) as client:
        client.sign_in()
        client.send(*(b"a%d APPEND Gmail {%d+}\r\n%s\r\n" % (n, len(mail), mail) for n, mail in enumerate(mails)))
        client.until(b"a199")
        assert relay.octets[Direction.TO_SERVER] > sum(map(len, mails))
        assert relay.connections == 1
    assert outlook.appended_to("Gmail") == mails


def test_a_round_trip_takes_twice_the_delay_and_a_batch_no_more(plain: FakeGmail) -> None:
    with Relay(plain.port, one_way_ms=40) as relay, RawClient(relay.port) as client:
        started = time.monotonic()
        for _ in range(100):
            client.send(b"x NOOP\r\n")
        for _ in range(100):
            client.line()
        assert 0.08 <= time.monotonic() - started < 0.8


@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_passes_so_many_octets_and_fires_once(plain: FakeGmail, reset: bool) -> None:
    with Relay(plain.port) as relay:
        with RawClient(relay.port) as client:
            relay.cut(5, Direction.TO_CLIENT, reset=reset)
            client.send(b"x NOOP\r\n")
            with pytest.raises((EOFError, ConnectionResetError)) as ended:
                client.line()
        if not reset:
            assert ended.value.args == (b"x OK ",)
        with RawClient(relay.port) as client:
            assert client.command(b"NOOP") == [b"OK Success"]


def test_a_cut_on_the_way_to_the_server(plain: FakeGmail) -> None:
    with Relay(plain.port) as relay, RawClient(relay.port) as client:
        relay.cut(len(b"T1 NOOP\r\nT2 NO"), Direction.TO_SERVER)
        assert client.command(b"NOOP") == [b"OK Success"]
        client.begin(b"NOOP")
        assert client.rest() == b""
    assert plain.verbs() == ["NOOP"]


def test_all_connections_are_cut_now(plain: FakeGmail) -> None:
    with Relay(plain.port) as relay, RawClient(relay.port) as one, RawClient(relay.port) as other:
        relay.cut_now()
        for client in (one, other):
            with pytest.raises((EOFError, ConnectionResetError)):
                client.line()


def test_a_black_hole_swallows_and_heals(plain: FakeGmail) -> None:
    with Relay(plain.port) as relay, RawClient(relay.port) as client:
        relay.black_hole()
        client.begin(b"NOOP")
        with RawClient(relay.port, greeted=False) as silent:
            assert silent.silent_for(0.1)
        relay.heal()
        assert client.command(b"NOOP") == [b"OK Success"]
    assert plain.verbs() == ["NOOP"]


def test_a_server_that_is_not_there_ends_the_connection(plain: FakeGmail) -> None:
    with Relay(plain.port) as relay:
        plain.close()
        with pytest.raises((EOFError, ConnectionResetError)):
            RawClient(relay.port)


def test_it_can_be_closed_while_connections_arrive(plain: FakeGmail) -> None:
    for _ in range(20):
        with Relay(plain.port) as relay:
            clients = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(3)]
        for client in clients:
            client.close()
