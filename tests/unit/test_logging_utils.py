"""One JSON object a line, with the event's name and fields, and nothing that a library lets slip."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from syncer.logging_utils import ROOT_NAME, bind, log_event, set_up

CANARY = "ya29.canary-token-that-must-not-be-seen"
logger = logging.getLogger("syncer.somewhere")


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger(ROOT_NAME)
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    bind(run_id=None)
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_on_one_line(stream: io.StringIO) -> None:
    set_up("INFO", stream)
    log_event(logger, logging.INFO, "message_copied", uid=7, bytes=1024, rfc822_sha256="ab")
    log_event(logger, logging.WARNING, "in_doubt", reason="two\nlines")
    first, second = lines(stream)
    assert stream.getvalue().count("\n") == 2
    assert (first["event"], first["message"], first["level"]) == ("message_copied", "message_copied", "INFO")
    assert (first["uid"], first["bytes"], first["rfc822_sha256"]) == (7, 1024, "ab")
    assert (second["event"], second["level"], second["reason"]) == ("in_doubt", "WARNING", "two\nlines")


def test_times_are_utc_in_the_form_of_rfc_3339(stream: io.StringIO) -> None:
    set_up("INFO", stream)
    log_event(logger, logging.INFO, "cycle_started")
    assert lines(stream)[0]["timestamp"].endswith("+00:00")
    assert "T" in lines(stream)[0]["timestamp"]


def test_the_run_id_is_in_every_line_until_it_is_taken_out(stream: io.StringIO) -> None:
    set_up("INFO", stream)
    bind(run_id="run-1")
    log_event(logger, logging.INFO, "cycle_started")
    logging.getLogger("another.library").warning("a warning")
    bind(run_id=None)
    log_event(logger, logging.INFO, "between_cycles")
    started, library, between = lines(stream)
    assert started["run_id"] == library["run_id"] == "run-1"
    assert "run_id" not in between


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        pytest.param("DEBUG", ["a", "b", "c"], id="everything"),
        pytest.param("INFO", ["b", "c"], id="from info on"),
        pytest.param("ERROR", ["c"], id="errors only"),
    ],
)
def test_only_what_is_important_enough_is_written(stream: io.StringIO, level: str, seen: list[str]) -> None:
    set_up(level, stream)
    log_event(logger, logging.DEBUG, "a")
    log_event(logger, logging.INFO, "b")
    log_event(logger, logging.ERROR, "c")
    assert [line["event"] for line in lines(stream)] == seen


def test_a_library_s_warning_comes_without_its_arguments(stream: io.StringIO) -> None:
    set_up("DEBUG", stream)
    logging.getLogger("urllib3.connectionpool").warning("Retrying %s with %s", "https://host/path", CANARY)
    (line,) = lines(stream)
    assert line["event"] == "library_warning"
    assert line["library"] == "urllib3.connectionpool"
    assert line["template"] == "Retrying %s with %s"
    assert CANARY not in stream.getvalue()


def test_a_library_s_warning_that_was_put_together_before_is_withheld(stream: io.StringIO) -> None:
    set_up("DEBUG", stream)
    logging.getLogger("library").error(f"refused: {CANARY}")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["template"]) == ("library_warning", "ERROR", "withheld")
    assert CANARY not in stream.getvalue()


def test_a_library_s_exception_and_extra_fields_are_withheld(stream: io.StringIO) -> None:
    set_up("DEBUG", stream)
    try:
        raise RuntimeError(CANARY)
    except RuntimeError:
        logging.getLogger("library").exception("it failed", extra={"header": CANARY}, stack_info=True)
    assert len(lines(stream)) == 1
    assert CANARY not in stream.getvalue()


def test_what_a_library_says_below_a_warning_is_not_written_even_at_debug(stream: io.StringIO) -> None:
    set_up("DEBUG", stream)
    chatty = logging.getLogger("botocore.endpoint")
    chatty.setLevel(logging.DEBUG)
    try:
        chatty.info("Sending %s", CANARY)
        chatty.debug(CANARY)
    finally:
        chatty.setLevel(logging.NOTSET)
    assert stream.getvalue() == ""


def test_a_library_whose_name_begins_like_ours_is_still_a_library(stream: io.StringIO) -> None:
    set_up("DEBUG", stream)
    logging.getLogger("syncerlike").warning(CANARY)
    assert lines(stream)[0]["library"] == "syncerlike"
    assert CANARY not in stream.getvalue()


def test_setting_up_again_replaces_and_does_not_double(stream: io.StringIO) -> None:
    set_up("INFO", io.StringIO())
    set_up("DEBUG", stream)
    log_event(logger, logging.DEBUG, "once")
    assert [line["event"] for line in lines(stream)] == ["once"]


def test_stdout_is_followed_when_somebody_replaces_it(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
    set_up("INFO")
    monkeypatch.setattr(sys, "stdout", stream)
    log_event(logger, logging.INFO, "cycle_started")
    assert [line["event"] for line in lines(stream)] == ["cycle_started"]


def test_a_stream_of_one_s_own_is_kept_when_stdout_is_replaced(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO
) -> None:
    set_up("INFO", stream)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    log_event(logger, logging.INFO, "cycle_started")
    assert len(lines(stream)) == 1


def test_text_that_is_not_ascii_stays_one_line_and_readable_json(stream: io.StringIO) -> None:
    set_up("INFO", stream)
    log_event(logger, logging.INFO, "folder", mailbox="Gr\u00f6\u00dfe \u2028 \u53d7\u4fe1")
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue())["mailbox"] == "Gr\u00f6\u00dfe \u2028 \u53d7\u4fe1"


def test_fields_may_be_bound_while_another_thread_logs(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """As the daemon does: a cycle begins while the connection in IDLE is lost."""
    set_up("INFO", stream)

    def talk() -> None:
        for _ in range(10_000):
            log_event(logger, logging.INFO, "idle_lost")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        talking = threading.Thread(target=talk)
        talking.start()
        while talking.is_alive():
            bind(run_id="one", another="two")
            bind(run_id=None, another=None)
    finally:
        sys.setswitchinterval(interval)
        talking.join()
    assert capsys.readouterr().err == ""
    assert len(lines(stream)) == 10_000


def test_a_line_may_leave_out_what_is_bound(stream: io.StringIO) -> None:
    set_up("INFO", stream)
    bind(run_id="one")
    log_event(logger, logging.INFO, "idle_lost", run_id=None)
    assert "run_id" not in lines(stream)[0]
