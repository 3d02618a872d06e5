"""The receiver of a sign-in's answer: what it takes, from where, and what the browser gets to see."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import urllib.parse
from collections.abc import Iterator

import pytest

from syncer.browser_redirect import MAX_FORM_BYTES, BrowserRedirect


@pytest.fixture
def redirect() -> Iterator[BrowserRedirect]:
    with BrowserRedirect() as running:
        yield running
        running.conclude(good=True, title="Done", words="All is well.")


def ask(redirect: BrowserRedirect, method: str = "GET", *, path: str = "/", **parameters: str) -> tuple[int, str, str]:
    """Return status, page and content policy."""
    host = urllib.parse.urlsplit(redirect.uri).netloc
    connection = http.client.HTTPConnection(host, timeout=10)
    form = urllib.parse.urlencode(parameters)
    if method == "GET":
        connection.request("GET", f"{path}?{form}")
    else:
        connection.request("POST", path, form, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    page = answer.read().decode()
    connection.close()
    return answer.status, page, answer.headers.get("Content-Security-Policy", "")


def browse(redirect: BrowserRedirect, method: str = "GET", **parameters: str) -> tuple[threading.Thread, list[str]]:
    """Go there as a browser does, and wait for the page in a thread."""
    pages: list[str] = []
    thread = threading.Thread(target=lambda: pages.append(ask(redirect, method, **parameters)[1]))
    thread.start()
    return thread, pages


def unheard(fault: str) -> None:
    raise AssertionError(f"nothing was pasted, and yet: {fault}")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_is_taken_from_a_query_and_from_a_form(redirect: BrowserRedirect, method: str) -> None:
    thread, pages = browse(redirect, method, code="4/0 a+b", state=redirect.state)
    assert redirect.wait(10, unheard)["code"] == "4/0 a+b"
    assert pages == []  # the browser waits until it is known how it ended
    redirect.conclude(good=False, title="No <luck>", words="Because & so.")
    thread.join(10)
    assert "No &lt;luck&gt;" in pages[0]
    assert "Because &amp; so." in pages[0]


def test_the_page_loads_nothing_and_runs_nothing(redirect: BrowserRedirect) -> None:
    _, page, policy = ask(redirect)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert not any(mark in page for mark in ("<script", "http:", "https:", "src=", "url("))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"code": "1"},
        {"code": "1", "state": ""},
        {"code": "1", "state": "ünicode"},
        {"state": "OURS"},
        {"code": "1", "state": "OURS", "path": "/elsewhere"},
    ],
    ids=["nothing", "no state", "an empty state", "another state", "neither code nor error", "another path"],
)
def test_what_is_no_answer_is_told_so_and_the_waiting_goes_on(
    redirect: BrowserRedirect, parameters: dict[str, str]
) -> None:
    ours = {name: redirect.state if value == "OURS" else value for name, value in parameters.items()}
    status, page, _ = ask(redirect, **ours)
    assert status in (400, 404)
    assert "Nothing happened" in page or "nothing here" in page
    with pytest.raises(TimeoutError):
        redirect.wait(0.05, unheard)


def test_the_first_answer_counts_and_the_second_is_told_so(redirect: BrowserRedirect) -> None:
    thread, _ = browse(redirect, code="first", state=redirect.state)
    assert redirect.wait(10, unheard)["code"] == "first"
    status, page, _ = ask(redirect, code="second", state=redirect.state)
    assert status == 400
    assert "received already" in page
    redirect.conclude(good=True, title="Done", words="")
    thread.join(10)
    with pytest.raises(TimeoutError):
        redirect.wait(0.05, unheard)


def test_a_page_that_is_loaded_again_says_the_same_again(redirect: BrowserRedirect) -> None:
    first, pages = browse(redirect, code="1", state=redirect.state)
    redirect.wait(10, unheard)
    redirect.conclude(good=None, title="Almost", words="")
    first.join(10)
    assert ask(redirect, code="1", state=redirect.state)[1] == pages[0]
    with pytest.raises(TimeoutError):
        redirect.wait(0.05, unheard)


def test_a_refusal_is_an_answer(redirect: BrowserRedirect) -> None:
    thread, _ = browse(redirect, error="access_denied", state=redirect.state)
    assert redirect.wait(10, unheard)["error"] == "access_denied"
    redirect.conclude(good=False, title="No", words="")
    thread.join(10)


def test_a_connection_that_a_browser_opens_ahead_holds_up_nobody(redirect: BrowserRedirect) -> None:
    parts = urllib.parse.urlsplit(redirect.uri)
    with socket.create_connection((parts.hostname, parts.port)):
        thread, _ = browse(redirect, code="1", state=redirect.state)
        assert redirect.wait(10, unheard)["code"] == "1"
        redirect.conclude(good=True, title="Done", words="")
        thread.join(10)


def test_a_form_without_end_is_not_read_to_its_end(redirect: BrowserRedirect) -> None:
    status, _, _ = ask(redirect, "POST", code="x" * (MAX_FORM_BYTES + 1), state=redirect.state)
    assert status == 400


def test_the_way_out_tells_a_browser_that_waits() -> None:
    with BrowserRedirect() as redirect:
        thread, pages = browse(redirect, code="1", state=redirect.state)
        redirect.wait(10, unheard)
    thread.join(10)
    assert "The sign-in was stopped" in pages[0]


def test_every_sign_in_has_a_state_and_a_port_of_its_own() -> None:
    with BrowserRedirect() as one, BrowserRedirect("localhost") as other:
        assert one.state != other.state
        assert one.uri != other.uri
        assert urllib.parse.urlsplit(other.uri).hostname == "localhost"


# -- pasted


def pasted(redirect: BrowserRedirect, *pieces: str) -> tuple[str, list[str]]:
    """Paste, piece by piece; return the code that was taken, and what was said before."""
    here, there = os.pipe()
    said: list[str] = []
    redirect.read_pasted(here)
    for piece in pieces:
        os.write(there, piece.encode())
    try:
        return redirect.wait(10, said.append)["code"], said
    finally:
        os.close(there)


@pytest.mark.parametrize(
    "form",
    [
        "http://127.0.0.1:1/?state={state}&code=4%2F0abc&scope=x\n",
        "  '<http://127.0.0.1:1/?code=4/0abc&state={state}#>'  \r\n",
        "?code=4/0abc&state={state}\n",
        "code=4/0abc&state={state}\n",
    ],
    ids=["an address", "in quotes", "a query", "without its mark"],
)
def test_people_paste_in_many_ways(redirect: BrowserRedirect, form: str) -> None:
    assert pasted(redirect, form.format(state=redirect.state)) == ("4/0abc", [])


def test_what_comes_in_pieces_is_one_line(redirect: BrowserRedirect) -> None:
    state = redirect.state
    assert pasted(redirect, "code=4/0", f"abc&state={state[:7]}", f"{state[7:]}", "\n") == ("4/0abc", [])


def test_what_is_pasted_wrongly_is_told_and_the_next_line_counts(redirect: BrowserRedirect) -> None:
    code, said = pasted(
        redirect, "\n", "4/0abc\n", f"code=1&state={redirect.state[:-1]}\n", f"code=2&state={redirect.state}\n"
    )
    assert (code, said) == ("2", ["it does not belong to this sign-in"] * 2)


def test_the_end_of_what_can_be_pasted_ends_nothing(redirect: BrowserRedirect) -> None:
    here, there = os.pipe()
    redirect.read_pasted(here)
    os.close(there)
    thread, _ = browse(redirect, code="1", state=redirect.state)
    assert redirect.wait(10, unheard)["code"] == "1"
    redirect.conclude(good=True, title="Done", words="")
    thread.join(10)
