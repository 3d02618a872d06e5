"""Where tokens are kept between runs: the environment, a JSON file, or a Secrets Manager secret.

One JSON object holds both sides; what it holds beside our keys is kept::

    {"gmail":   {"client_id", "client_secret", "refresh_token", "access_token",
                 "expires_at", "obtained_at", "signed_in_at", "renewed_at",
                 "refresh_expires_at", "seeded_from"},
     "outlook": {the same},
     "saved_at": ...}

Stores promise: ``load`` returns what was saved last, ``save`` replaces all of it or nothing. When to
save is decided by ``access_tokens``; which of two values counts, the stored or the environment's, by
``merge``. A fault of the settings is a ConfigError that names the setting, a store that cannot be
used now is ``StoreUnavailable``. No text in either holds what was in the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from syncer.config import Config
from syncer.errors import ConfigError, SyncError
from syncer.model import Side
from syncer.tokens import SideTokens, Tokens

KEYS: Final = {Side.SOURCE: "gmail", Side.DESTINATION: "outlook"}
SETTING_NAMES: Final = {
    Side.SOURCE: {
        "client_id": "GMAIL_CLIENT_ID",
        "client_secret": "GMAIL_CLIENT_SECRET",
        "refresh_token": "GMAIL_REFRESH_TOKEN",
    },
    Side.DESTINATION: {"client_id": "MS_CLIENT_ID", "refresh_token": "MS_REFRESH_TOKEN"},
}
"""What a refresh needs, and the settings it may come from."""
PUT_PAUSE_SECONDS: Final = 600.0
"""Secrets Manager's rule: no more than one PutSecretValue in ten minutes, sustained (PROVIDERS 11)."""
MAX_STORE_BYTES: Final = 1 << 20
CURRENT: Final = "AWSCURRENT"
"""The staging label of a secret's version that counts."""
CANDIDATE: Final = "syncer-candidate"
"""Ours, of the version that was put last."""


class StoreUnavailable(SyncError):
    """The token store cannot be used now; ``reason`` holds an error code at most."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"token store: {reason}")
        self.reason = reason


class StoreChanged(SyncError):
    """Somebody else saved since this store was read: nothing was replaced. Load again and decide anew."""


class TokenStore(Protocol):
    """One place that keeps the tokens of both sides."""

    @property
    def read_only(self) -> bool:
        """Whether ``save`` cannot keep anything."""

    @property
    def pause_seconds(self) -> float:
        """How long to wait between two saves, where one of them can wait."""

    def load(self) -> Tokens:
        """Return what is stored. Raises ConfigError, StoreUnavailable."""

    def save(self, tokens: Tokens) -> None:
        """Replace what is stored. Raises ConfigError, StoreUnavailable, StoreChanged: nothing was replaced."""


def store_of(config: Config) -> TokenStore:
    """Return the store that the settings name; no store is contacted yet."""
    if config.tokens_file is not None:
        return FileTokens(config.tokens_file)
    if config.tokens_secret_id is not None:
        return SecretsManagerTokens(config.tokens_secret_id, config.aws_region, config.aws_endpoint_url)
    return EnvTokens(config)


class EnvTokens:
    """The environment itself: what is set is used as it is, and nothing can be kept."""

    read_only = True
    pause_seconds = 0.0

    def __init__(self, config: Config) -> None:
        self._config = config

    def load(self) -> Tokens:
        """Return what the settings say."""
        return environment_tokens(self._config)

    def save(self, tokens: Tokens) -> None:  # noqa: ARG002 - what every store takes
        """Keep nothing. Raises StoreUnavailable: always."""
        raise StoreUnavailable("the environment cannot be written; set TOKENS_FILE or TOKENS_SECRET_ID")


class FileTokens:
    """A file of mode 0600, replaced as a whole: a crash leaves the old one or the new one."""

    read_only = False
    pause_seconds = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Tokens:
        """Return what the file holds; nothing if there is no file yet.

        Raises ConfigError: others can read it, or it is damaged.
        """
        try:
            with self._path.open("rb") as file:
                # Asked of the open file, so that it cannot be another one a moment later.
                shared = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
                data = file.read(MAX_STORE_BYTES + 1)
        except FileNotFoundError:
            if not Path(os.path.realpath(self._path)).parent.is_dir():
                raise ConfigError(["TOKENS_FILE is in a folder that does not exist: make the folder"]) from None
            return Tokens()
        except (OSError, ValueError) as error:
            raise ConfigError([f"TOKENS_FILE cannot be read: {_os_reason(error)}"]) from None
        if shared:
            raise ConfigError(["TOKENS_FILE can be read by others than its owner: chmod 600 the file"])
        return _parsed(data, "TOKENS_FILE")

    def save(self, tokens: Tokens) -> None:
        """Write a new file beside the old one and put it in its place; a symbolic link stays one.

        Raises StoreUnavailable: the old file is untouched.
        """
        try:
            # Resolved first: os.replace would put the file where the link is, and what the link
            # leads to (a mounted volume, say) would keep the old token.
            replace_file(Path(os.path.realpath(self._path)), _serialised(tokens))
        except (OSError, ValueError) as error:
            remedy = "its folder has to be writable, too (in a container: mount the folder, not the file)"
            raise StoreUnavailable(f"TOKENS_FILE cannot be replaced: {_os_reason(error)}; {remedy}") from None


class SecretsManagerTokens:
    """A secret in AWS Secrets Manager, which has to exist; its first value may be ``{}``.

    A save replaces the version that was read, or nothing. PutSecretValue knows no condition, so the new
    value comes in under a staging label of our own, and UpdateSecretVersionStage moves AWSCURRENT to it,
    which fails unless AWSCURRENT still is where we saw it. There is one such label: the next save takes it
    along, so none piles up, and a version that lost stays readable until then.

    Needs ``secretsmanager:GetSecretValue``, ``PutSecretValue`` and ``UpdateSecretVersionStage`` on it.
    """

    read_only = False
    pause_seconds = PUT_PAUSE_SECONDS

    def __init__(self, secret_id: str, region: str, endpoint_url: str | None) -> None:
        self._secret_id = secret_id
        self._region = region
        self._endpoint_url = endpoint_url
        self._client: Any = None
        self._version = ""
        """The version that was read or saved last."""

    def load(self) -> Tokens:
        """Return what the secret holds."""
        answer = self._current()
        self._version = answer["VersionId"]
        text = answer.get("SecretString")
        return _parsed(text.encode() if text else answer.get("SecretBinary", b""), "TOKENS_SECRET_ID")

    def save(self, tokens: Tokens) -> None:
        """Make a new version of the secret the current one, if the one that was read still is."""
        seen = self._version or self._current()["VersionId"]
        value = _serialised(tokens).decode()
        new = self._call("put_secret_value", SecretString=value, VersionStages=[CANDIDATE])["VersionId"]
        try:
            move = {"VersionStage": CURRENT, "MoveToVersionId": new, "RemoveFromVersionId": seen}
            self._call("update_secret_version_stage", **move)
        except StoreChanged:
            # Or the reply to our own move was lost, and the SDK asked once more.
            if self._current()["VersionId"] != new:
                raise
        self._version = new

    def _current(self) -> Mapping[str, Any]:
        answer = self._call("get_secret_value", VersionStage=CURRENT)
        if not answer.get("VersionId"):
            raise StoreUnavailable("what answers is not Secrets Manager: check AWS_ENDPOINT_URL and the network")
        return answer

    def _call(self, operation: str, **arguments: str | list[str]) -> Mapping[str, Any]:
        """Make one call, and translate what goes wrong.

        Raises ConfigError: no such secret, or not ours to use. Raises StoreUnavailable: not now.
        Raises StoreChanged: AWSCURRENT cannot be moved, since it is not where it was.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = self._connected()
            answer: Mapping[str, Any] = getattr(client, operation)(SecretId=self._secret_id, **arguments)
        except ClientError as error:
            code = re.sub(r"[^A-Za-z0-9]", "", str(error.response.get("Error", {}).get("Code")))[:64]
            if operation == "update_secret_version_stage" and code in _MOVE_FAILED:
                raise StoreChanged("token store: somebody else saved") from None
            if remedy := _SECRET_REMEDIES.get(code):
                raise ConfigError([f"TOKENS_SECRET_ID: {remedy} ({code})"]) from None
            raise StoreUnavailable(f"Secrets Manager: {code}") from None
        except (BotoCoreError, ValueError) as error:
            raise StoreUnavailable(f"Secrets Manager: {type(error).__name__}") from None
        return answer

    def _connected(self) -> Any:
        """Return the client, made when first needed: a run with a token in memory goes without."""
        if self._client is None:
            import boto3
            from botocore.config import Config as BotoConfig

            self._client = boto3.client(
                "secretsmanager",
                region_name=self._region,
                endpoint_url=self._endpoint_url,
                # boto3's own are 60 s and 60 s, three times: more than a Lambda lives (PROVIDERS 12).
                config=BotoConfig(
                    connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}
                ),
            )
        return self._client


_MOVE_FAILED: Final = frozenset({"InvalidParameterException", "InvalidRequestException"})
"""The label is elsewhere, or the version that had it is gone. The service model has no error of its own for it."""
_DENIED: Final = (
    "access is denied; allow secretsmanager:GetSecretValue, secretsmanager:PutSecretValue and "
    "secretsmanager:UpdateSecretVersionStage on this secret (and use of its KMS key, if it has one of its own)"
)
_SECRET_REMEDIES: Final[Mapping[str, str]] = {
    "ResourceNotFoundException": "no such secret in AWS_REGION, or it has no value; create it with the value {}",
    "AccessDeniedException": _DENIED,
    "AccessDenied": _DENIED,
    "DecryptionFailure": _DENIED,
    "InvalidRequestException": "the secret is marked for deletion; restore it, or name another one",
    "ValidationException": "this cannot be the name or ARN of a secret",
}


def environment_tokens(config: Config) -> Tokens:
    """Return what the settings themselves say about tokens."""
    return Tokens(
        {
            Side.SOURCE: SideTokens(
                client_id=config.gmail_client_id or "",
                client_secret=config.gmail_client_secret or "",
                refresh_token=config.gmail_refresh_token or "",
            ),
            Side.DESTINATION: SideTokens(
                client_id=config.ms_client_id or "",
                client_secret=config.ms_client_secret or "",
                refresh_token=config.ms_refresh_token or "",
            ),
        }
    )


def merge(stored: SideTokens, given: SideTokens) -> SideTokens:
    """Return what counts, of what is stored and what the environment gives.

    The environment's refresh token seeds the store. From then on what is stored counts, rotated
    as it may be, until the environment's value changes: then somebody signed in again.
    """
    seed = hashlib.sha256(given.refresh_token.encode()).hexdigest() if given.refresh_token else ""
    other_client = bool(given.client_id) and given.client_id != stored.client_id
    if seed and seed != stored.seeded_from:
        if given.refresh_token == stored.refresh_token and not other_client:
            return replace(_completed(stored, given), seeded_from=seed)
        client_secret = given.client_secret or ("" if other_client else stored.client_secret)
        return SideTokens(
            client_id=given.client_id or stored.client_id,
            client_secret=client_secret,
            refresh_token=given.refresh_token,
            seeded_from=seed,
            extra=stored.extra,
        )
    return _completed(stored, given)


def _completed(stored: SideTokens, given: SideTokens) -> SideTokens:
    """Return what is stored, its gaps filled from the environment; a client's secret may be renewed there."""
    same_client = stored.client_id in ("", given.client_id)
    secret = given.client_secret if same_client and given.client_secret else stored.client_secret
    return replace(stored, client_id=stored.client_id or given.client_id, client_secret=secret)


def missing(tokens: Tokens) -> list[str]:
    """Return a sentence for each value without which no access token can be had."""
    return [
        f"{name} is required: it is neither set nor in the token store"
        for side, names in SETTING_NAMES.items()
        for attribute, name in names.items()
        if not getattr(tokens.of(side), attribute)
    ]


_TEXTS: Final = ("client_id", "client_secret", "refresh_token", "access_token", "seeded_from")
_TIMES: Final = ("expires_at", "obtained_at", "signed_in_at", "renewed_at", "refresh_expires_at")


def _parsed(data: bytes, setting: str) -> Tokens:
    """Read the JSON form. Raises ConfigError: it is no such thing."""
    try:
        if len(data) > MAX_STORE_BYTES:
            raise ValueError("too large")
        content = json.loads(data) if data.strip() else {}
        return _tokens(content)
    except (ValueError, TypeError, RecursionError):
        fault = (
            f"{setting} does not hold the tokens' JSON object: restore it, or make it {{}} and set the refresh tokens"
        )
        raise ConfigError([fault]) from None


def _tokens(content: object) -> Tokens:
    """Return the value of a JSON object. Raises TypeError, ValueError: something in it is of the wrong kind."""
    top = dict(_object(content))
    sides = {side: _side(_object(top.pop(key))) for side, key in KEYS.items() if key in top}
    return Tokens(sides, _time(top.pop("saved_at", 0.0)), top)


def _side(content: Mapping[str, Any]) -> SideTokens:
    known: dict[str, Any] = {name: _text(content.get(name)) for name in _TEXTS}
    known |= {name: _time(content.get(name)) for name in _TIMES}
    return SideTokens(**known, extra={name: value for name, value in content.items() if name not in known})


def _object(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError("no JSON object")
    return value


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value.strip()


def _time(value: object) -> float:
    if value is None:
        return 0.0
    if not isinstance(value, (int, float)) or not 0 <= value < 1e15:  # NaN is no number either
        raise TypeError("no time")
    return float(value)


def _serialised(tokens: Tokens) -> bytes:
    """Return the JSON form; what is not known is left out."""
    content: dict[str, Any] = dict(tokens.extra)
    for side, key in KEYS.items():
        known = tokens.of(side)
        values = {name: getattr(known, name) for name in (*_TEXTS, *_TIMES)}
        content[key] = {**known.extra, **{name: value for name, value in values.items() if value}}
    content["saved_at"] = tokens.saved_at
    return json.dumps(content, indent=2).encode()


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` where ``path`` is, such that a crash at any instant leaves one of the two. Raises OSError."""
    # mkstemp makes files of mode 0600. The same folder, because a rename works within one file system only.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            with contextlib.suppress(OSError):  # root replaces it for the daemon's user, who has to read it on
                owner = path.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    # The new name is on the disk only once the folder is. Network file systems refuse this, and need it not.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _os_reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
