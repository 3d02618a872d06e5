"""Google's and Microsoft's token endpoints in one small HTTPS server, for `syncer demo` and the tests.

It owns the accounts, their refresh tokens and the access tokens it issued, and it can say of any
access token whether it opens a mailbox: by ``check`` (embedded IMAP servers) and by RFC 7662
introspection on a second, plain HTTP listener on loopback (Dovecot's oauth2 passdb).

    POST /google/token                                        refresh grant; no rotation (PROVIDERS 2)
    GET  /consumers/v2.0/.well-known/openid-configuration     what msal asks first (PROVIDERS 6)
    POST /consumers/oauth2/v2.0/token                         refresh grant; a new refresh token each time
    POST /introspect                                          plain HTTP; which user a token belongs to

It answers as the real ones do on good days, and on bad ones as it is told to: ``answer_next``
takes whole answers (PROVIDERS 17: 503 with Retry-After, HTML, a slow one), ``revoke`` and the
attributes change what it knows.
"""

from __future__ import annotations

import base64
import json
import secrets
import socketserver
import ssl
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Final, Self

from syncer.demo.certificates import Certificates
from syncer.demo.place import LOOPBACK, Place
from syncer.model import Side

GMAIL_SCOPE: Final = "https://mail.google.com/"
OUTLOOK_SCOPE: Final = "https://outlook.office.com/IMAP.AccessAsUser.All"
PERSONAL_TENANT: Final = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant id of every personal Microsoft account."""
PATIENCE_SECONDS: Final = 10.0
"""How long a client may be silent before its connection is closed."""

GOOGLE_TOKEN_PATH: Final = "/google/token"  # noqa: S105 - a path
DISCOVERY_PATH: Final = "/consumers/v2.0/.well-known/openid-configuration"
MICROSOFT_TOKEN_PATH: Final = "/consumers/oauth2/v2.0/token"  # noqa: S105 - a path
INTROSPECTION_PATH: Final = "/introspect"


@dataclass(frozen=True, slots=True)
class Account:
    """What a person has after signing in: the values of the settings of one side."""

    side: Side
    address: str
    client_id: str
    client_secret: str = field(repr=False)
    """Empty for Microsoft's public clients."""
    refresh_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in; tests count these."""

    method: str
    path: str
    grant_type: str = ""
    client_id: str = ""
    refresh_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, given after ``delay_seconds`` (or when the server is closed, if that is sooner)."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0

    @classmethod
    def of(cls, status: int, **values: object) -> Answer:
        """Return a JSON answer."""
        return cls(status, json.dumps(values).encode())

    def with_headers(self, **headers: str) -> Answer:
        """Return the same answer with headers added; underscores in their names become hyphens."""
        return replace(self, headers={**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def delayed(self, seconds: float) -> Answer:
        """Return the same answer, given later."""
        return replace(self, delay_seconds=seconds)


GOOGLE_INVALID_GRANT: Final = Answer.of(
    400, error="invalid_grant", error_description="Token has been expired or revoked."
)
MICROSOFT_INVALID_GRANT: Final = Answer.of(
    400,
    error="invalid_grant",
    error_description="AADSTS70000: The provided value for the 'code' or 'refresh_token' parameter is not valid.",
    error_codes=[70000],
    suberror="bad_token",
)
MICROSOFT_INTERACTION_REQUIRED: Final = Answer.of(
    400,
    error="interaction_required",
    error_description="AADSTS50076: Due to a configuration change, user interaction is required.",
    error_codes=[50076],
)
SERVER_BUSY: Final = Answer.of(503, error="temporarily_unavailable").with_headers(Retry_After="120")
TOO_MANY_REQUESTS: Final = Answer.of(429, error="rate_limit_exceeded").with_headers(Retry_After="60")
HTML_ERROR_PAGE: Final = Answer(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html")
HTML_WELCOME_PAGE: Final = Answer(200, b"<html><body>Sign in to the hotel's network</body></html>", "text/html")
"""What a captive portal answers to everything."""

_ERROR_BY_SIDE: Final = {Side.SOURCE: GOOGLE_INVALID_GRANT, Side.DESTINATION: MICROSOFT_INVALID_GRANT}


@dataclass(frozen=True, slots=True)
class _AccessToken:
    account: Account
    expires_at: float


class Authority:
    """The server; a context manager that listens between ``with`` and its end.

    Attributes may be changed at any time: ``lifetimes`` and ``scopes`` (by side), ``rotates``
    (Microsoft sends a new refresh token with each answer), ``revokes_rotated`` (the old one dies
    at once; the real one lets it live, PROVIDERS 6), ``introspection_answer`` (given instead).
    """

    def __init__(
        self, certificates: Certificates, *, now: Callable[[], float] = time.time, place: Place = LOOPBACK
    ) -> None:
        self.certificates = certificates
        self._place = place
        self.lifetimes = {Side.SOURCE: 3599, Side.DESTINATION: 3600}
        self.scopes = {Side.SOURCE: GMAIL_SCOPE, Side.DESTINATION: OUTLOOK_SCOPE}
        self.rotates = True
        self.revokes_rotated = False
        self.introspection_answer: Answer | None = None
        self._now = now
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._grants: dict[str, Account] = {}
        self._access: dict[str, _AccessToken] = {}
        self._scripted: dict[Side, deque[Answer]] = {side: deque() for side in Side}
        self._scripted_discovery: deque[Answer] = deque()
        self._closing = threading.Event()
        self._servers: list[_Server] = []
        self._threads: list[threading.Thread] = []

    # --- the server -----------------------------------------------------------------------

    def __enter__(self) -> Self:
        secure = self.certificates.server_context()
        for context in (secure, None):
            server = _Server(self._place.address, self._answer, self._closing, context)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            self._servers.append(server)
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, and wait until no request is being answered."""
        self._closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
        self._servers.clear()
        self._threads.clear()

    @property
    def base_url(self) -> str:
        """Where the HTTPS listener is, without a path; also the value for ``MS_AUTHORITY``."""
        return f"https://{self._place.name}:{self._servers[0].port}"

    @property
    def gmail_token_uri(self) -> str:
        """The value for ``GMAIL_TOKEN_URI``."""
        return self.base_url + GOOGLE_TOKEN_PATH

    @property
    def ms_authority(self) -> str:
        """The value for ``MS_AUTHORITY``."""
        return self.base_url

    @property
    def introspection_url(self) -> str:
        """Where to ask which user a token belongs to (plain HTTP, for servers on this machine)."""
        return f"http://{self._place.address}:{self._servers[1].port}{INTROSPECTION_PATH}"

    # --- what it knows --------------------------------------------------------------------

    def add_account(self, side: Side, address: str) -> Account:
        """Make an account and sign in to it: the result holds a valid refresh token."""
        google = side is Side.SOURCE
        account = Account(
            side=side,
            address=address,
            client_id=f"{secrets.token_hex(6)}.apps.googleusercontent.com" if google else _guid(),
            client_secret=f"GOCSPX-{secrets.token_urlsafe(12)}" if google else "",
            refresh_token="",
        )
        return self.sign_in(account)

    def sign_in(self, account: Account) -> Account:
        """Consent once more: return the account with a new refresh token; older ones stay valid."""
        prefix = "1//" if account.side is Side.SOURCE else "M.C5_"
        signed_in = replace(account, refresh_token=prefix + secrets.token_urlsafe(24))
        with self._lock:
            self._grants[signed_in.refresh_token] = signed_in
        return signed_in

    def issue_access_token(self, account: Account) -> str:
        """Return a new access token without a request, for tests of IMAP servers alone."""
        with self._lock:
            return self._issue(account)

    def check(self, user: str, token: str, side: Side | None = None) -> bool:
        """Tell whether ``token`` is alive and opens the mailbox of ``user`` (at ``side``, if given)."""
        with self._lock:
            found = self._live(token)
        return found is not None and found.address.lower() == user.lower() and (side is None or found.side is side)

    def expire_access_tokens(self, side: Side | None = None) -> None:
        """End the life of the access tokens issued so far, whatever was said when they were issued."""
        with self._lock:
            self._access = {
                token: entry for token, entry in self._access.items() if side not in (None, entry.account.side)
            }

    def revoke(self, side: Side) -> None:
        """Withdraw the consent: refresh tokens and access tokens of the side are dead."""
        with self._lock:
            self._grants = {token: grant for token, grant in self._grants.items() if grant.side is not side}
        self.expire_access_tokens(side)

    def answer_next(self, side: Side, *answers: Answer) -> None:
        """Give these answers to the next token requests of ``side``, whatever they ask."""
        with self._lock:
            self._scripted[side].extend(answers)

    def answer_next_discovery(self, *answers: Answer) -> None:
        """Give these answers to the next requests for Microsoft's configuration document."""
        with self._lock:
            self._scripted_discovery.extend(answers)

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request so far, in the order of arrival."""
        with self._lock:
            return tuple(self._requests)

    def token_calls(self, side: Side | None = None) -> int:
        """Return how many token requests came so far."""
        paths = {Side.SOURCE: (GOOGLE_TOKEN_PATH,), Side.DESTINATION: (MICROSOFT_TOKEN_PATH,)}
        wanted = paths[side] if side else (GOOGLE_TOKEN_PATH, MICROSOFT_TOKEN_PATH)
        return sum(request.path in wanted for request in self.requests)

    # --- how it answers -------------------------------------------------------------------

    def _answer(self, method: str, path: str, form: Mapping[str, str], *, secure: bool) -> Answer:
        """Return the answer to one request."""
        with self._lock:
            self._requests.append(
                Request(
                    method,
                    path,
                    form.get("grant_type", ""),
                    form.get("client_id", ""),
                    form.get("refresh_token", ""),
                )
            )
            match (secure, method, path):
                case (False, "POST", "/introspect"):
                    return self._introspect(form)
                case (True, "GET", "/consumers/v2.0/.well-known/openid-configuration"):
                    return self._discovery()
                case (True, "POST", "/google/token"):
                    return self._token(Side.SOURCE, form)
                case (True, "POST", "/consumers/oauth2/v2.0/token"):
                    return self._token(Side.DESTINATION, form)
        return Answer.of(404, error="not_found")

    def _discovery(self) -> Answer:
        if self._scripted_discovery:
            return self._scripted_discovery.popleft()
        here = f"{self.base_url}/consumers"
        return Answer.of(
            200,
            issuer=_issuer(),
            authorization_endpoint=f"{here}/oauth2/v2.0/authorize",
            token_endpoint=f"{here}/oauth2/v2.0/token",
            device_authorization_endpoint=f"{here}/oauth2/v2.0/devicecode",
            jwks_uri=f"{here}/discovery/v2.0/keys",
        )

    def _token(self, side: Side, form: Mapping[str, str]) -> Answer:
        if self._scripted[side]:
            return self._scripted[side].popleft()
        if form.get("grant_type") != "refresh_token":
            return Answer.of(400, error="unsupported_grant_type")
        token = form.get("refresh_token", "")
        grant = self._grants.get(token)
        if grant is None or grant.side is not side:
            return _ERROR_BY_SIDE[side]
        if form.get("client_id") != grant.client_id or form.get("client_secret", "") != grant.client_secret:
            return Answer.of(401, error="invalid_client", error_description="The OAuth client was not found.")
        return self._granted(grant, token)

    def _granted(self, grant: Account, used: str) -> Answer:
        """Return a new access token; for Microsoft with what msal needs to know an account (PROVIDERS 6)."""
        values: dict[str, object] = {
            "access_token": self._issue(grant),
            "expires_in": self.lifetimes[grant.side],
            "scope": self.scopes[grant.side],
            "token_type": "Bearer",
        }
        if grant.side is Side.SOURCE:
            return Answer.of(200, **values)
        if self.rotates:
            rotated = replace(grant, refresh_token="M.C5_" + secrets.token_urlsafe(24))
            self._grants[rotated.refresh_token] = rotated
            values["refresh_token"] = rotated.refresh_token
            if self.revokes_rotated:
                del self._grants[used]
        user = _user_id(grant.address)
        values["ext_expires_in"] = values["expires_in"]
        values["client_info"] = _base64(uid=user, utid=PERSONAL_TENANT)
        issued_at = int(time.time())
        claims = _base64(
            iss=_issuer(),
            aud=grant.client_id,
            sub=user,
            oid=user,
            tid=PERSONAL_TENANT,
            preferred_username=grant.address,
            iat=issued_at,
            nbf=issued_at - 5,
            exp=issued_at + 3600,
        )
        # Unsigned: msal leaves the check of an ID token to its caller, and nobody here trusts one.
        values["id_token"] = f"{_base64(alg='none')}.{claims}."
        return Answer.of(200, **values)

    def _introspect(self, form: Mapping[str, str]) -> Answer:
        if self.introspection_answer is not None:
            return self.introspection_answer
        found = self._live(form.get("token", ""))
        if found is None:
            return Answer.of(200, active=False)
        expires_at = int(self._access[form["token"]].expires_at)
        return Answer.of(200, active=True, username=found.address, scope=self.scopes[found.side], exp=expires_at)

    def _issue(self, account: Account) -> str:
        prefix = "ya29." if account.side is Side.SOURCE else "EwB"
        token = prefix + secrets.token_urlsafe(40)
        self._access[token] = _AccessToken(account, self._now() + self.lifetimes[account.side])
        return token

    def _live(self, token: str) -> Account | None:
        found = self._access.get(token)
        return found.account if found is not None and found.expires_at > self._now() else None


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One listener, a thread for each connection; closing waits for all of them."""

    allow_reuse_address = True
    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(
        self, address: str, answer: Callable[..., Answer], closing: threading.Event, context: ssl.SSLContext | None
    ) -> None:
        self._context = context
        answer = partial(answer, secure=context is not None)
        super().__init__((address, 0), partial(_Handler, answer, closing))

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; its TLS handshake is left to its own thread, where it holds up nobody."""
        connection, address = super().get_request()
        connection.settimeout(PATIENCE_SECONDS)
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client may leave when it likes, and tests make it do so."""


class _Handler(BaseHTTPRequestHandler):
    """Reads one request, writes one answer, and closes: nothing waits for a client that stays."""

    protocol_version = "HTTP/1.1"

    def __init__(
        self, answer: Callable[[str, str, Mapping[str, str]], Answer], closing: threading.Event, *args: Any
    ) -> None:
        self._answer = answer
        self._closing = closing
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer a GET; what its query holds is taken for a form."""
        self._reply(dict(urllib.parse.parse_qsl(self.path.partition("?")[2])))

    def do_POST(self) -> None:
        """Answer a POST of a form."""
        length = min(int(self.headers.get("Content-Length", 0)), 1 << 20)
        self._reply(dict(urllib.parse.parse_qsl(self.rfile.read(length).decode("utf-8", "replace"))))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server gives it
        """Log nothing: requests carry tokens."""

    def _reply(self, form: Mapping[str, str]) -> None:
        answer = self._answer(self.command, self.path.partition("?")[0], form)
        self._closing.wait(answer.delay_seconds)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)


def _issuer() -> str:
    return f"https://login.microsoftonline.com/{PERSONAL_TENANT}/v2.0"


def _guid() -> str:
    digits = secrets.token_hex(16)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _user_id(address: str) -> str:
    """Return an object id as personal accounts have it: the same for the same address."""
    digits = f"{sum(address.encode()):016x}"
    return f"00000000-0000-0000-{digits[:4]}-{digits[4:]}"


def _base64(**claims: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
