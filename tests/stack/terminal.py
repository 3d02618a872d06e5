"""The real command at a terminal, as a person has it before them."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.stack.pair import FakePair


@contextmanager
def at_a_terminal(pair: FakePair, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a command at a terminal of 80 columns."""
    ours, its = pty.openpty()
    environment = {**pair.stack.program.environment, "COLUMNS": "80", "TERM": "xterm-256color"}
    command = pair.stack.program.command(*arguments)
    with subprocess.Popen(
        command, cwd=pair.stack.program.folder, env=environment, stdin=its, stdout=its, stderr=its
    ) as process:
        os.close(its)
        try:
            yield process, ours
        finally:
            os.close(ours)


def read_all(terminal: int) -> str:
    """Return what a terminal showed, until its program left."""
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # what Linux says when the other end is closed
            break
        if not part:
            break
        shown += part
    return shown.decode()
