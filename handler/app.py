"""The Lambda function: a tick and its deadline in, one cycle, a small summary out.

A tick that could not run (the records, a provider, another run, the settings) is no error of the
function: it is logged, counted, and the next tick tries again. A bug is one, and raises.

A warm environment keeps the runner, and with it the DynamoDB client and the access tokens; mail
servers are connected anew in each cycle. What every cycle needs is made while the environment
starts, when Lambda gives it a whole processor whatever its memory.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NoReturn

from handler.metrics import publish
from syncer import config
from syncer.cycle import Runner, exit_code
from syncer.errors import ConfigError, StateUnavailable, SyncError
from syncer.logging_utils import bind, log_bug, log_event, set_up
from syncer.model import EXIT_CONFIG, EXIT_NOT_NOW, Outcome

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

logger = logging.getLogger("syncer.handler")  # other names are libraries, which are not let speak

RESERVE_SECONDS: Final = 20.0
"""On top of the longest wait for a mail server: the last writes to DynamoDB (18 s at worst), tokens, LOGOUT."""


class Bug(Exception):
    """Something nobody expected; the log line ``bug`` tells where. Its text holds no data: Lambda prints it."""


class Deadline:
    """The time that an invocation has left, for a runner that outlives it. Its ``signal`` is a ``ports.StopSignal``."""

    def __init__(self, reserve_seconds: float) -> None:
        self._reserve_seconds = reserve_seconds
        self._context: LambdaContext | None = None
        self._reserve_ms = 0.0

    def begin(self, context: LambdaContext) -> None:
        """Count down from now on; at least half of the time is for copying."""
        self._context = context
        self._reserve_ms = min(self._reserve_seconds * 1000, context.get_remaining_time_in_millis() / 2)

    def signal(self) -> Outcome | None:
        """Return DEADLINE once only the reserve is left."""
        left = self._context.get_remaining_time_in_millis() if self._context is not None else 0
        return Outcome.DEADLINE if left <= self._reserve_ms else None


class Function:
    """What stays from one tick to the next."""

    def __init__(self) -> None:
        """Make what every cycle needs; settings that are wrong are told by the first tick."""
        set_up("INFO")
        self._made: tuple[Runner, Deadline] | None = None
        try:
            self._make()[0].prepare()
        except SyncError:
            return  # the first tick meets it again, and tells

    def __call__(self, _event: object, context: LambdaContext) -> dict[str, Any]:
        """Run one cycle. Raises Bug."""
        bind(function_request_id=context.aws_request_id)
        try:
            runner, deadline = self._make()
            deadline.begin(context)
            summary = runner.run()
        except ConfigError as error:
            log_event(logger, logging.ERROR, "configuration_invalid", faults=list(error.faults))
            publish(None)
            return {"outcome": "configuration_invalid", "exit_code": EXIT_CONFIG, "faults": error.faults}
        except StateUnavailable as error:
            log_event(logger, logging.ERROR, "state_unavailable", reason=str(error))
            publish(None)
            return {"outcome": Outcome.STATE_UNAVAILABLE, "exit_code": EXIT_NOT_NOW}
        except Exception as error:  # noqa: BLE001 - Lambda would print its text, which may hold data
            self._fail(error)
        publish(summary)
        return {**asdict(summary), "exit_code": exit_code(summary)}

    def _make(self) -> tuple[Runner, Deadline]:
        """Return the runner and its deadline, made by the first tick whose settings are right. Raises ConfigError."""
        if self._made is None:
            settings = config.load()
            set_up(settings.log_level)
            deadline = Deadline(settings.imap_timeout_seconds + RESERVE_SECONDS)
            self._made = Runner(settings, stop=deadline.signal), deadline
        return self._made

    @staticmethod
    def _fail(error: Exception) -> NoReturn:
        log_bug(error)
        publish(None)
        raise Bug(f"{type(error).__name__}: see the log line `bug`") from None


handler = Function()
