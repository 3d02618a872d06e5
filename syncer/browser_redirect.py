"""How the answer of a sign-in page comes back to this process: through the browser, or pasted by a person.

Owns the state of one sign-in (RFC 6749 section 10.12) and the loopback address that the provider sends the browser
to (RFC 8252 section 7.3): a free port of 127.0.0.1, for as long as the ``with`` block. Both ways are open at
once; the first answer that carries the state counts. What carries another state, or none, came from
elsewhere: it is told so, and the waiting goes on.

The browser is kept waiting until ``conclude`` says how it ended, so that its page tells the truth.
"""

from __future__ import annotations

import html
import os
import queue
import secrets
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

PAGE_PATIENCE_SECONDS: Final = 60.0
"""How long the browser waits for the end of the story before its page refers to the terminal."""
CLOSING_SECONDS: Final = 3.0
"""How long the last page may take to reach the browser."""
MAX_FORM_BYTES: Final = 65536

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark; --ink: #1f2328; --paper: #f6f8fa; --card: #fff; --line: #d1d9e0;
  --mark: {mark}; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6edf3; --paper: #0d1117; --card: #161b22; --line: #30363d; }} }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink);
  font: 1.05rem/1.55 system-ui, sans-serif; }}
main {{ max-width: 30rem; margin: 1rem; padding: 2rem 2.4rem; background: var(--card); border: 1px solid var(--line);
  border-top: .4rem solid var(--mark); border-radius: .6rem; }}
h1 {{ margin: 0 0 .6rem; font-size: 1.5rem; }} p {{ margin: .5rem 0; }} small {{ opacity: .7; }}
</style></head><body><main><h1>{title}</h1><p>{words}</p><p><small>{foot}</small></p></main></body></html>
"""
_GOOD: Final = "#1a7f37"
_BAD: Final = "#cf222e"
_NEUTRAL: Final = "#9a6700"


class BrowserRedirect:
    """The receiver of one sign-in's answer."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        """``host`` is how the address names this machine; the listener is on 127.0.0.1 in any case."""
        self.state = secrets.token_urlsafe(32)
        self._host = host
        self._answers: queue.Queue[Mapping[str, str] | str] = queue.Queue()
        """The answer; before it, why what was pasted was none."""
        self._lock = threading.Lock()
        self._taken: Mapping[str, str] | None = None
        self._verdict: tuple[str, str, str] | None = None
        self._concluded = threading.Event()
        self._page_waits = threading.Event()
        self._page_sent = threading.Event()

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="redirect", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._concluded.is_set():
            self.conclude(good=False, title="The sign-in was stopped", words="Nothing was saved.")
        if self._page_waits.is_set():
            self._page_sent.wait(CLOSING_SECONDS)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def uri(self) -> str:
        """The address that the provider has to send the browser to."""
        return f"http://{self._host}:{self._server.server_port}/"

    def read_pasted(self, descriptor: int) -> None:
        """Take what a person pastes into ``descriptor``, line by line, as an answer too.

        By ``os.read`` in a thread of its own: a buffered stream cannot be left in the middle of a read when the
        process ends.
        """
        threading.Thread(target=self._read, args=(descriptor,), name="pasted", daemon=True).start()

    def wait(self, seconds: float, on_rejected: Callable[[str], None]) -> Mapping[str, str]:
        """Return the parameters of the answer; ``on_rejected`` hears why something pasted was none.

        Raises TimeoutError: none came within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                answer = self._answers.get(timeout=min(left, 1.0))  # on Windows, Ctrl-C is heard in between only
            except queue.Empty:
                continue
            if not isinstance(answer, str):
                return answer
            on_rejected(answer)
        raise TimeoutError

    def conclude(self, *, good: bool | None, title: str, words: str) -> None:
        """Say in the browser how it ended, if an answer came by it; ``good`` is None where something is left to do."""
        self._verdict = ({True: _GOOD, False: _BAD, None: _NEUTRAL}[good], title, words)
        self._concluded.set()

    def offer(self, parameters: Mapping[str, str]) -> str:
        """Take an answer, if it is the sign-in's first or that once more; return what is wrong with it, or nothing."""
        if not secrets.compare_digest(parameters.get("state", "").encode(), self.state.encode()):
            return "it does not belong to this sign-in"
        if "code" not in parameters and "error" not in parameters:
            return "it holds no answer"
        with self._lock:
            if self._taken is not None:
                return "" if parameters == self._taken else "another answer was received already"
            self._taken = parameters
        self._answers.put(parameters)
        return ""

    def page(self, parameters: Mapping[str, str]) -> tuple[int, str]:
        """Return status and page for a browser that came with these parameters, once there is something to tell."""
        if fault := self.offer(parameters):
            words = f"This page was opened with an address that is of no use here: {fault}."
            return 400, _page(_NEUTRAL, "Nothing happened", words)
        self._page_waits.set()
        self._concluded.wait(PAGE_PATIENCE_SECONDS)
        return 200, _page(
            *(self._verdict or (_NEUTRAL, "Your answer has arrived", "The program is still checking it."))
        )

    def sent(self) -> None:
        """Note that a page is with the browser."""
        if self._page_waits.is_set():
            self._page_sent.set()

    def _read(self, descriptor: int) -> None:
        rest = b""
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                return
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace").strip().strip("<>\"'")
                if text and (fault := self.offer(_parameters(text.partition("?")[2] or text))):
                    self._answers.put(fault)
            rest = rest[-MAX_FORM_BYTES:]


class _Server(ThreadingHTTPServer):
    """Browsers open connections that they may never use: each has a thread, and none holds up the end."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, redirect: BrowserRedirect) -> None:
        self.redirect = redirect
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a browser may leave when it likes."""


class _Handler(BaseHTTPRequestHandler):
    """Takes the answer from the query (GET), or from a form (POST: Microsoft's response_mode=form_post)."""

    timeout = 15
    server_version = "syncer"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a GET."""
        path, _, query = self.path.partition("?")
        self._reply(path, query)

    def do_POST(self) -> None:
        """Answer a form."""
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() and len(length) < 7 else 0
        form = self.rfile.read(min(size, MAX_FORM_BYTES)).decode("ascii", "replace")
        self._reply(self.path.partition("?")[0], form)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server gives it
        """Log nothing: the request line holds the code."""

    def _reply(self, path: str, form: str) -> None:
        redirect, port = self._ours().redirect, self._ours().server_port
        # Another name in Host is another page's trick to get here under its own name (DNS rebinding).
        ours = self.headers.get("Host", "").lower() in (f"127.0.0.1:{port}", f"localhost:{port}")
        if path != "/" or not ours:
            status, page = 404, _page(_NEUTRAL, "There is nothing here", "The sign-in goes on in its own page.")
        else:
            status, page = redirect.page(_parameters(form))
        body = page.encode()
        self.send_response(status)
        for name, value in (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if status == 200:
            redirect.sent()

    def _ours(self) -> _Server:
        assert isinstance(self.server, _Server)  # noqa: S101 - which http.server cannot know
        return self.server


def _parameters(form: str) -> dict[str, str]:
    """Return the parameters of a query; none if one comes twice, which no answer has (RFC 6749 section 3.1)."""
    try:
        pairs = urllib.parse.parse_qsl(form.partition("#")[0], keep_blank_values=True, max_num_fields=50)
    except ValueError:
        return {}
    return dict(pairs) if len({name for name, _ in pairs}) == len(pairs) else {}


def _page(mark: str, title: str, words: str) -> str:
    foot = "You can close this page; the terminal tells what comes next."
    return _PAGE.format(mark=mark, title=html.escape(title), words=html.escape(words), foot=foot)
