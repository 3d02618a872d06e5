"""What the protocol and two servers allow: one connection to each, everything in flight, and nothing remembered.

``python -m bench.probe`` copies what lies above a UID from one mailbox to another, with no record of it, no
check and no way to go on after a fault: a yardstick, not a tool. One thread turns between the
connections; the octets of a message leave while the rest of it still comes in. Commands do not wait:
signing in does not await the greeting, the listing goes out with EXAMINE, every body is asked for at
once, and APPENDs use ``LITERAL+``. It prints the seconds it took, without the start of Python.
"""

from __future__ import annotations

import argparse
import base64
import re
import select
import socket
import ssl
import sys
import time
from collections import deque

_PIECE = 1 << 16
_AHEAD = 1 << 20
"""Octets that may wait for one destination before the source has to."""
_LISTED = re.compile(rb"\* \d+ FETCH \(UID (\d+) RFC822\.SIZE (\d+) INTERNALDATE (\"[^\"]+\")\)\r\n")
_BODY = re.compile(rb"\* \d+ FETCH \(UID (\d+) BODY\[\] \{(\d+)\}\r\n")


class Connection:
    """One connection: signed in, without blocking, with what is still to be sent."""

    def __init__(self, host: str, port: int, user: str, password: str, context: ssl.SSLContext) -> None:
        raw = socket.create_connection((host, port), 30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(raw, server_hostname=host)
        self.answers = b""
        self.todo: deque[bytes | memoryview] = deque()
        self.waiting = 0
        initial = base64.b64encode(f"\0{user}\0{password}".encode())
        self.sock.sendall(b"a AUTHENTICATE PLAIN " + initial + b"\r\n")
        self.wait_for(b"a OK")
        self.sock.setblocking(False)

    def wait_for(self, answer: bytes) -> bytes:
        """Read on while blocking, until a line begins so; return all up to and with that line."""
        said = self.answers
        while True:
            at = 0 if said.startswith(answer) else said.find(b"\r\n" + answer) + 2
            end = said.find(b"\r\n", at) if at != 1 else -1
            if end >= 0:
                self.answers = said[end + 2 :]
                return said[: end + 2]
            try:
                more = self.sock.recv(_PIECE)
            except ssl.SSLWantReadError:
                select.select([self.sock], [], [])
                continue
            if not more:
                raise ConnectionError(f"closed: {said[-200:]!r}")
            said += more

    def put(self, octets: bytes | memoryview) -> None:
        self.todo.append(octets)
        self.waiting += len(octets)

    def send(self) -> None:
        """Send as much as goes without waiting."""
        while self.todo:
            octets = self.todo[0]
            try:
                sent = self.sock.send(octets)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            self.waiting -= sent
            if sent == len(octets):
                self.todo.popleft()
            else:
                self.todo[0] = memoryview(octets)[sent:]

    def receive(self) -> bytes:
        """Return what is there; nothing if nothing is."""
        try:
            octets = self.sock.recv(_PIECE)
        except ssl.SSLWantReadError:
            return b""
        if not octets:
            raise ConnectionError("closed by the server")
        return octets


def copy(options: argparse.Namespace, context: ssl.SSLContext) -> int:
    """Copy, and return how many messages."""
    source = Connection("localhost", options.source_port, options.source_user, options.password, context)
    first = options.above + 1
    source.put(b"b EXAMINE INBOX\r\nc UID FETCH %d:4294967295 (UID RFC822.SIZE INTERNALDATE)\r\n" % first)
    source.send()
    listed = _LISTED.findall(source.wait_for(b"c OK"))
    dates = {uid: date for uid, _, date in listed if int(uid) >= first}
    if not dates:
        source.sock.close()
        return 0
    source.put(b"d UID FETCH %d:4294967295 (UID BODY.PEEK[])\r\n" % first)
    source.send()
    user, port = options.destination_user, options.destination_port
    sinks = [Connection("localhost", port, user, options.password, context) for _ in range(options.connections)]
    _pass_on(source, sinks, dates, options.folder.encode())
    for connection in (source, *sinks):
        connection.sock.close()
    return len(dates)


def _pass_on(source: Connection, sinks: list[Connection], dates: dict[bytes, bytes], folder: bytes) -> None:
    """Hand every body on, in turn to each destination, until every APPEND is answered."""
    turn = appended = begun = left = 0
    said = source.answers
    sink = sinks[0]
    while appended < len(dates):
        while said and sink.waiting <= _AHEAD:
            if not left:
                match = _BODY.search(said)
                if match is None:
                    break
                said = said[match.end() :]
                sink, turn = sinks[turn % len(sinks)], turn + 1
                left, begun = int(match[2]), begun + 1
                sink.put(b"m%d APPEND %b %b {%d+}\r\n" % (begun, folder, dates[match[1]], left))
            piece, said = said[:left], said[left:]
            left -= len(piece)
            sink.put(piece if left else piece + b"\r\n")
        for each in sinks:
            each.send()
        is_ahead = sink.waiting > _AHEAD
        reading = [each.sock for each in (*sinks, *([] if is_ahead else [source]))]
        writing = [each.sock for each in sinks if each.todo]
        # What TLS has decrypted already makes no socket readable.
        at_hand = (said and sink.waiting <= _AHEAD and left) or source.sock.pending()
        select.select(reading, writing, [], 0 if at_hand else 30)
        for each in sinks:
            lines, _, each.answers = (each.answers + each.receive()).rpartition(b"\n")
            appended += lines.count(b"OK [APPENDUID")
        if not is_ahead:
            said += source.receive()


def main() -> None:
    """Copy once."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("source", "destination"):
        parser.add_argument(f"--{name}-port", type=int, required=True)
        parser.add_argument(f"--{name}-user", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--folder", default="Probe")
    parser.add_argument("--ca", required=True)
    parser.add_argument("--above", type=int, default=0, help="copy what has a higher UID than this")
    parser.add_argument("--connections", type=int, default=1, help="to the destination")
    options = parser.parse_args()
    began = time.perf_counter()
    copied = copy(options, ssl.create_default_context(cafile=options.ca))
    sys.stdout.write(
        f'{{"event": "probe_finished", "copied": {copied}, "seconds": {time.perf_counter() - began:.4f}}}\n'
    )


if __name__ == "__main__":
    main()
