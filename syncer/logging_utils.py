"""One JSON object a line on stdout: the form of every log line, in Lambda and outside alike.

Modules log through ``logging.getLogger(__name__)`` and ``log_event``; only ``set_up`` knows that
Powertools makes the lines. The event's name is both ``event`` and ``message``, everything else
is a field. Nothing that may hold a token, an address, a subject or a body is handed in.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from typing import TextIO

from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

ROOT_NAME = "syncer"
_to_json = json.JSONEncoder(default=str, separators=(",", ":"), ensure_ascii=False).encode
_formatter: LambdaPowertoolsFormatter | None = None
_handler: logging.Handler | None = None


class _Handler(logging.StreamHandler[TextIO]):
    """Let libraries be heard, but not what they say.

    Their warnings may quote URLs, headers or commands. The template of such a message, without
    its arguments, tells enough to look it up and holds no data.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream or sys.stdout)
        self._follows_stdout = stream is None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; of a library, only its name and the template of its warning."""
        if record.name != ROOT_NAME and not record.name.startswith(ROOT_NAME + "."):
            if record.levelno < logging.WARNING:
                return
            said = record.msg if isinstance(record.msg, str) and record.args else "withheld"
            record = logging.makeLogRecord(
                {
                    "name": record.name,
                    "levelno": record.levelno,
                    "levelname": record.levelname,
                    "msg": "library_warning",
                    "event": "library_warning",
                    "library": record.name,
                    "template": said,
                }
            )
        if self._follows_stdout:
            self.stream = sys.stdout  # a progress bar may have put itself in between
        super().emit(record)


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Send every log line of the process to ``stream`` (stdout if None) as JSON, from ``level`` on.

    May be called again: the last call holds.
    """
    global _formatter, _handler
    _formatter = LambdaPowertoolsFormatter(
        datefmt="%Y-%m-%dT%H:%M:%S.%F%z",
        utc=True,
        use_rfc3339=True,
        json_serializer=_to_json,
        json_deserializer=str,  # a message is the name of an event, and never JSON to be taken apart
        log_record_order=["timestamp", "level", "event", "run_id"],
        location=None,
        service=ROOT_NAME,
    )
    _handler = _Handler(stream)
    _handler.setFormatter(_formatter)
    root = logging.getLogger()
    root.handlers[:] = [_handler]
    root.setLevel(logging.WARNING)
    # No line tells of these, and each costs: the logging HOWTO of Python's documentation, "Optimization".
    logging._srcfile = None  # noqa: SLF001 - that is the documented switch
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger(ROOT_NAME).setLevel(level)


def bind(**fields: object) -> None:
    """Put ``fields`` (``run_id``) into every line from now on; None takes one out again."""
    if _formatter is None or _handler is None:
        return
    _handler.acquire()  # another thread may be making a line of these very fields
    try:
        _formatter.append_keys(**{key: value for key, value in fields.items() if value is not None})
        _formatter.remove_keys([key for key, value in fields.items() if value is None])
    finally:
        _handler.release()


def log_event(logger: logging.Logger, level: int, event: str, **fields: object) -> None:
    """Log one event by its name, with its fields."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"event": event, **fields})


def log_bug(error: BaseException) -> None:
    """Log an exception nobody expected: its kind and where it came from, never its text, which may hold data."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
    log_event(logging.getLogger(__name__), logging.CRITICAL, "bug", error=type(error).__name__, where=where)
