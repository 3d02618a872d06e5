"""The sign-in pages and code exchanges of Google and Microsoft, on top of the demo's token endpoints.

    GET  /google/auth                           a consent page, or an error page of Google's own
    POST /google/consent                        what its buttons send; leads back to the redirect URI
    POST /google/token                          also: authorization_code, the PKCE verifier verified
    POST /consumers/oauth2/v2.0/devicecode      RFC 8628
    GET  /consumers/oauth2/v2.0/authorize       a consent page that answers by form_post
    POST /consumers/oauth2/v2.0/token           also: device_code and authorization_code

What a test may change are the attributes; who signs in is ``signs_in_as``.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
import urllib.parse
from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from syncer.demo.authority import GMAIL_SCOPE, OUTLOOK_SCOPE, Account, Answer, Authority, Request
from syncer.demo.certificates import Certificates
from syncer.model import Side

AUTHORIZATION_PENDING = Answer.of(400, error="authorization_pending", error_codes=[70016])
SLOW_DOWN = Answer.of(400, error="slow_down")
DECLINED = Answer.of(400, error="authorization_declined", error_codes=[70017])
EXPIRED = Answer.of(400, error="expired_token", error_codes=[70020])


def microsoft_error(code: str, number: int) -> Answer:
    """Return an error as Microsoft's endpoints word it."""
    return Answer.of(400, error=code, error_description=f"AADSTS{number}: no. Trace ID: 1", error_codes=[number])


class SignInAuthority(Authority):
    """The demo's authority, where people can sign in, too.

    ``signs_in_as``: by side, whose account the person at the page uses. ``mail_ticked``: whether they grant the mail.
    ``testing``: the Google project's status. ``forgets_refresh_token``, ``forgets_id_token``: as it says.
    ``device_answers``: given to the next polls; then the sign-in has happened. ``interval``: of polls.
    """

    def __init__(self, certificates: Certificates) -> None:
        super().__init__(certificates)
        self.signs_in_as: dict[Side, Account] = {}
        self.mail_ticked = True
        self.testing = False
        self.forgets_refresh_token = False
        self.forgets_id_token = False
        self.interval = 1
        self.device_answers: deque[Answer] = deque()
        self.scripted_device_code: deque[Answer] = deque()
        self.authorize_queries: list[Mapping[str, str]] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._device_codes: set[str] = set()

    @property
    def gmail_auth_uri(self) -> str:
        """The value for ``GMAIL_AUTH_URI``."""
        return self.base_url + "/google/auth"

    def _answer(self, method: str, path: str, form: Mapping[str, str], *, secure: bool) -> Answer:
        answer = self._sign_in_answer(method, path, form) if secure else None
        if answer is None:
            return super()._answer(method, path, form, secure=secure)
        with self._lock:
            self._requests.append(Request(method, path, form.get("grant_type", ""), form.get("client_id", "")))
        return answer

    def _sign_in_answer(self, method: str, path: str, form: Mapping[str, str]) -> Answer | None:
        """Return the answer to a request that is about signing in; None if it is not."""
        match (method, path, form.get("grant_type")):
            case ("GET", "/google/auth", _):
                return self._google_page(form)
            case ("POST", "/google/consent", _):
                return self._google_consent(form)
            case ("POST", "/google/token", "authorization_code"):
                return self._scripted_or(Side.SOURCE, form)
            case ("POST", "/consumers/oauth2/v2.0/devicecode", _):
                return self._device_code(form)
            case ("GET", "/consumers/oauth2/v2.0/authorize", _):
                return self._microsoft_page(form)
            case ("POST", "/consumers/oauth2/v2.0/token", "authorization_code"):
                return self._scripted_or(Side.DESTINATION, form)
            case ("POST", "/consumers/oauth2/v2.0/token", "urn:ietf:params:oauth:grant-type:device_code"):
                return self._device_poll(form)
        return None

    # -- Google

    def _google_page(self, query: Mapping[str, str]) -> Answer:
        self.authorize_queries.append(query)
        redirect = urllib.parse.urlsplit(query.get("redirect_uri", ""))
        if query.get("client_id") != self.signs_in_as[Side.SOURCE].client_id:
            return _page(401, "Error 401: deleted_client", "The OAuth client was deleted.")
        if redirect.scheme != "http" or redirect.hostname != "127.0.0.1" or not redirect.port:
            return _page(400, "Error 400: redirect_uri_mismatch", "")
        wanted = {"response_type": "code", "code_challenge_method": "S256"}
        if any(query.get(name) != value for name, value in wanted.items()) or not query.get("code_challenge"):
            return _page(400, "Error 400: invalid_request", "")
        hidden = "".join(
            f'<input type="hidden" name="{html.escape(k)}" value="{html.escape(v)}">' for k, v in query.items()
        )
        box = '<label><input type="checkbox" name="mail" id="mail" value="yes"> Read all your email</label>'
        buttons = '<button id="allow" name="choice" value="allow">Continue</button>'
        buttons += '<button id="deny" name="choice" value="deny">Cancel</button>'
        form = f'<form method="post" action="/google/consent">{hidden}{box}<p>{buttons}</p></form>'
        return _page(200, "syncer wants access to your Google Account", form)

    def _google_consent(self, form: Mapping[str, str]) -> Answer:
        back = {"state": form["state"]}
        if form.get("choice") != "allow":
            return _to(form["redirect_uri"], {**back, "error": "access_denied"})
        granted = [scope for scope in form["scope"].split() if scope != GMAIL_SCOPE or form.get("mail") == "yes"]
        code = "4/0" + secrets.token_urlsafe(24)
        self._codes[code] = {**form, "scope": " ".join(granted)}
        return _to(form["redirect_uri"], {**back, "code": code, "scope": " ".join(granted)})

    # -- Microsoft

    def _device_code(self, form: Mapping[str, str]) -> Answer:
        if self.scripted_device_code:
            return self.scripted_device_code.popleft()
        if form.get("client_id") != self.signs_in_as[Side.DESTINATION].client_id:
            return microsoft_error("unauthorized_client", 700016)
        if OUTLOOK_SCOPE not in form.get("scope", "").split():
            return microsoft_error("invalid_scope", 70011)
        device_code = secrets.token_urlsafe(32)
        self._device_codes.add(device_code)
        return Answer.of(
            200,
            user_code="B7XK2QPLM",
            device_code=device_code,
            verification_uri="https://www.microsoft.com/link",
            expires_in=900,
            interval=self.interval,
            message="To sign in, use a web browser",
        )

    def _device_poll(self, form: Mapping[str, str]) -> Answer:
        if form.get("device_code") not in self._device_codes:
            return microsoft_error("bad_verification_code", 70002)
        if self.device_answers:
            return self.device_answers.popleft()
        self._device_codes.discard(form["device_code"])
        return self._signed_in(Side.DESTINATION, "")

    def _microsoft_page(self, query: Mapping[str, str]) -> Answer:
        self.authorize_queries.append(query)
        redirect = urllib.parse.urlsplit(query["redirect_uri"])
        if redirect.hostname != "localhost" or query.get("response_mode") != "form_post":
            return _page(400, "AADSTS50011", "The redirect URI does not match.")
        code = "M.C5_" + secrets.token_urlsafe(24)
        self._codes[code] = dict(query)
        fields = {"code": code, "state": query["state"]}
        hidden = "".join(f'<input type="hidden" name="{k}" value="{html.escape(v)}">' for k, v in fields.items())
        form = f'<form method="post" action="{html.escape(query["redirect_uri"])}">{hidden}'
        return _page(200, "Let this app access your info?", form + '<button id="allow">Accept</button></form>')

    # -- both

    def _scripted_or(self, side: Side, form: Mapping[str, str]) -> Answer:
        with self._lock:
            if self._scripted[side]:
                return self._scripted[side].popleft()
        asked = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form.get("redirect_uri"):
            return Answer.of(400, error="invalid_grant", error_description="Malformed auth code.")
        account = self.signs_in_as[side]
        if side is Side.SOURCE and form.get("client_secret") != account.client_secret:
            return Answer.of(401, error="invalid_client", error_description="Unauthorized")
        return self._signed_in(side, asked.get("nonce", ""), asked)

    def _signed_in(self, side: Side, nonce: str, asked: Mapping[str, str] | None = None) -> Answer:
        """Return the tokens of a new sign-in."""
        account = self.sign_in(self.signs_in_as[side])
        with self._lock:
            answer = json.loads(self._granted(account, account.refresh_token).body)
        if side is Side.SOURCE:
            assert asked is not None
            answer["scope"] = asked["scope"]
            offline = asked.get("access_type") == "offline" and asked.get("prompt") == "consent"
            if offline and not self.forgets_refresh_token:
                answer["refresh_token"] = account.refresh_token
            if self.testing:
                answer["refresh_token_expires_in"] = 604799
            answer["id_token"] = _token({"email": account.address, "email_verified": True, "aud": account.client_id})
        else:
            answer["refresh_token"] = account.refresh_token
            claims = json.loads(base64.urlsafe_b64decode(answer["id_token"].split(".")[1] + "=="))
            answer["id_token"] = _token({**claims, **({"nonce": nonce} if nonce else {})})
            if self.forgets_refresh_token:
                del answer["refresh_token"]
        if self.forgets_id_token:
            del answer["id_token"]
        return Answer.of(200, **answer)


def elsewhere(authority: Authority, account: Account, address: str) -> Account:
    """Return another account of the same provider, that signs in with the same client."""
    return authority.sign_in(replace(account, address=address))


def _token(claims: Mapping[str, object]) -> str:
    parts = ({"alg": "none"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def _page(status: int, title: str, body: str) -> Answer:
    text = f"<!doctype html><title>{title}</title><h1>{title}</h1>{body}"
    return Answer(status, text.encode(), "text/html; charset=utf-8")


def _to(uri: str, parameters: Mapping[str, str]) -> Answer:
    return Answer(302, b"", headers={"Location": f"{uri}?{urllib.parse.urlencode(parameters)}"})
