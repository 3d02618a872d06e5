"""One Lambda execution environment in a process of its own: started once, invoked as often as wanted.

It does what Lambda's runtime client does and no more: import the handler, call it with an event and a
context, hand back what it returns or the kind and text of what it raises.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from botocore.client import ClientCreator

from tests.deploy.emulator import TICK, Invocation

RESULT = "RESULT "


class Environment:
    """A warm environment, from ``with`` to its end."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.clients: list[str] = []
        """Every AWS client made so far, by its service."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.deploy.environment"],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def tick(self, *, ends_with: Path | None = None) -> Invocation:
        """Invoke it; every line has to be JSON. See ``begin``."""
        self.begin(ends_with=ends_with)
        return self.end()

    def begin(self, *, ends_with: Path | None = None) -> None:
        """Invoke it, and do not wait. Its time is up, as it is told, once the file ``ends_with`` is there."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{ends_with or ''}\n")
        self._process.stdin.flush()

    def end(self) -> Invocation:
        """Wait for the invocation that was begun."""
        assert self._process.stdout is not None
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(RESULT):
                told = json.loads(line.removeprefix(RESULT))
                self.clients = told["clients"]
                return Invocation(told["answer"], [json.loads(text) for text in lines], "".join(lines))
            lines.append(line)
        raise AssertionError(f"the environment died: {''.join(lines)}")


@dataclass(frozen=True, slots=True)
class Context:
    """What the handler asks of Lambda's context."""

    aws_request_id: str
    ends_with: str

    def get_remaining_time_in_millis(self) -> int:
        return 0 if self.ends_with and Path(self.ends_with).exists() else 240_000


def main() -> None:
    clients: list[str] = []
    create = ClientCreator.create_client

    def counted(self: ClientCreator, service_name: str, *arguments: Any, **more: Any) -> Any:
        clients.append(service_name)
        return create(self, service_name, *arguments, **more)

    setattr(ClientCreator, "create_client", counted)  # noqa: B010 - mypy knows it as what it was
    from handler.app import handler

    tick = json.loads(TICK.read_text())
    for number, line in enumerate(sys.stdin):
        context: Any = Context(f"request-{number}", line.strip())
        try:
            answer = handler(tick, context)
        except Exception as error:  # noqa: BLE001 - the runtime reports it, too
            answer = {"errorType": type(error).__name__, "errorMessage": str(error)}
        sys.stdout.write(f"{RESULT}{json.dumps({'answer': answer, 'clients': clients})}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
