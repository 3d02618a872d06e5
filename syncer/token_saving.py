"""Where a new sign-in is kept: a ``.env`` file, a tokens file, or a secret in AWS Secrets Manager.

Saving replaces one side and leaves the other as it is. A place is looked at before a person is sent
to sign in (``Target.stored``), so that what cannot be kept is not asked for. In a token store the new tokens are
marked with the SHA-256 of the environment's refresh token: they came after that one, so they count until somebody
changes the environment (``token_store.merge``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from syncer.config import what_wins_over
from syncer.env_file import read, set_values
from syncer.errors import ConfigError, SyncError
from syncer.model import Side
from syncer.sign_in import Grant, SignInConfig
from syncer.token_store import FileTokens, SecretsManagerTokens, StoreUnavailable, TokenStore
from syncer.tokens import SideTokens, Tokens

NAMES: Final = {
    Side.SOURCE: ("GMAIL_CLIENT_ID", "GMAIL_CLIENT_SECRET", "GMAIL_REFRESH_TOKEN"),
    Side.DESTINATION: ("MS_CLIENT_ID", "MS_CLIENT_SECRET", "MS_REFRESH_TOKEN"),
}
_STORE_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Saved:
    """What a person is told about a save."""

    where: str
    remarks: tuple[str, ...] = ()
    """What may keep the program from using it, and what helps."""


class Target(Protocol):
    """One place to save to."""

    @property
    def where(self) -> str:
        """What it is, in words for a person."""

    def stored(self, side: Side) -> SideTokens:
        """Return what it holds of a side; see that it can be written. Raises ConfigError, StoreUnavailable."""

    def save(self, config: SignInConfig, grant: Grant) -> Saved:
        """Replace the side's tokens. Raises ConfigError, StoreUnavailable: nothing was replaced."""


def target_of(option: str | None, config: SignInConfig, env_file: Path, now: Callable[[], float] = time.time) -> Target:
    """Return the place that ``--save`` names, else the one that the settings name, else the ``.env`` file.

    Raises ConfigError: it names none.
    """
    if option is None:
        if config.tokens_file is not None:
            return StoreTarget(_WritableFile(config.tokens_file), f"the file {config.tokens_file}", "", now)
        if config.tokens_secret_id is not None:
            return _secret(config.tokens_secret_id, config, now)
        return EnvTarget(env_file, env_file)
    kind, colon, name = option.partition(":")
    if not colon or not name or kind not in ("env", "file", "secretsmanager"):
        raise ConfigError(["--save has to be env:FILE, file:FILE or secretsmanager:NAME"])
    if kind == "env":
        return EnvTarget(_path(name), env_file)
    if kind == "secretsmanager":
        return _secret(name, config, now)
    path = _path(name)
    used = config.tokens_file is not None and path.resolve() == config.tokens_file.resolve()
    remark = "" if used else f"set TOKENS_FILE={path.resolve()}: the program does not look into this file yet"
    return StoreTarget(_WritableFile(path), f"the file {path}", remark, now)


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # nobody's home
        raise ConfigError(["--save names a home folder that does not exist"]) from None


def _secret(name: str, config: SignInConfig, now: Callable[[], float]) -> StoreTarget:
    if not config.aws_region:
        raise ConfigError(["AWS_REGION is required to save to Secrets Manager: the region of the secret"])
    used = name == config.tokens_secret_id
    remark = "" if used else f"set TOKENS_SECRET_ID={name}: the program does not look into this secret yet"
    store = _CreatedSecret(name, config.aws_region, config.aws_endpoint_url)
    return StoreTarget(store, f"the secret {name} in {config.aws_region}", remark, now)


class EnvTarget:
    """A file of settings."""

    def __init__(self, path: Path, read_by_program: Path) -> None:
        self._path = path
        self._read_by_program = read_by_program

    @property
    def where(self) -> str:
        """The file."""
        return f"the file {self._path}"

    def stored(self, side: Side) -> SideTokens:  # noqa: ARG002 - what every target takes
        """Return nothing: what the file holds are settings, read as such. See that it can be written."""
        _check_folder(Path(os.path.realpath(self._path)).parent, str(self._path))
        read(self._path)
        return SideTokens()

    def save(self, config: SignInConfig, grant: Grant) -> Saved:
        """Write client and refresh token; the access token is not worth keeping there."""
        values = dict(
            zip(
                NAMES[config.side],
                (grant.client.client_id, grant.client.client_secret, grant.refresh_token),
                strict=True,
            )
        )
        if not grant.client.client_secret:
            del values[NAMES[config.side][1]]
        shared = set_values(self._path, values)
        remarks = [f"{self._path} could be read by others until now: it is yours alone from here on"] if shared else []
        if self._path.resolve() != self._read_by_program.resolve():
            remarks.append(f"the program reads {self._read_by_program} in the folder it is started in: not this file")
        for name, winner in what_wins_over(values, env_file=self._path).items():
            remarks.append(f"{winner} wins over {name} in {self._path}: take it away, or the new value is not used")
        if config.side is Side.DESTINATION and not (config.tokens_file or config.tokens_secret_id):
            remarks.append(
                "Microsoft hands out new tokens that a .env file cannot keep: set TOKENS_FILE or TOKENS_SECRET_ID, or "
                "you will have to sign in again in 90 days"
            )
        return Saved(self.where, tuple(remarks))


class StoreTarget:
    """A token store."""

    def __init__(self, store: TokenStore, where: str, remark: str, now: Callable[[], float]) -> None:
        """``remark`` says how to make the program use this store, where the settings do not name it."""
        self._store = store
        self._where = where
        self._remark = remark
        self._now = now

    @property
    def where(self) -> str:
        """What the settings or the option called it."""
        return self._where

    def stored(self, side: Side) -> SideTokens:
        """Return what the store holds of a side."""
        with self._in_our_words():
            return self._store.load().of(side)

    def save(self, config: SignInConfig, grant: Grant) -> Saved:
        """Replace one side of what is stored, as it is now: a runner may have saved the other since."""
        with self._in_our_words():
            for tries_left in reversed(range(_STORE_TRIES)):
                try:
                    tokens = self._store.load()
                    new = self._new(config, grant, tokens.of(config.side))
                    self._store.save(replace(tokens.having(config.side, new), saved_at=self._now()))
                    break
                except ConfigError:
                    raise
                except SyncError:  # not now, or somebody else saved in between
                    if not tries_left:
                        raise
        return Saved(self._where, (self._remark,) if self._remark else ())

    def _new(self, config: SignInConfig, grant: Grant, old: SideTokens) -> SideTokens:
        now = self._now()
        return SideTokens(
            client_id=grant.client.client_id,
            client_secret=grant.client.client_secret,
            refresh_token=grant.refresh_token,
            access_token=grant.access_token,
            expires_at=grant.expires_at,
            obtained_at=now,
            signed_in_at=now,
            renewed_at=now,
            refresh_expires_at=grant.refresh_expires_at,
            seeded_from=hashlib.sha256(config.refresh_token.encode()).hexdigest() if config.refresh_token else "",
            extra=old.extra,
        )

    @contextlib.contextmanager
    def _in_our_words(self) -> Iterator[None]:
        """Name the place as the option did, where the store's faults name a setting that is not set."""
        try:
            yield
        except ConfigError as error:
            if not self._remark:
                raise
            pattern = re.compile(r"\b(TOKENS_FILE|TOKENS_SECRET_ID)\b")
            raise ConfigError([pattern.sub(lambda _: self._where, fault) for fault in error.faults]) from None


class _WritableFile(FileTokens):
    """A tokens file of which is found out by reading it that it will be writable."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._folder = Path(os.path.realpath(path)).parent

    def load(self) -> Tokens:
        """Return what the file holds. Raises ConfigError: or if its folder cannot be written to."""
        tokens = super().load()
        _check_folder(self._folder, "TOKENS_FILE")
        return tokens


class _CreatedSecret(SecretsManagerTokens):
    """A secret that is made when there is none; only then ``secretsmanager:CreateSecret`` is needed."""

    def load(self) -> Tokens:
        """Return what the secret holds; nothing of a secret that was made now."""
        try:
            return super().load()
        except ConfigError as error:
            if "(ResourceNotFoundException)" not in str(error):
                raise
        self._create()
        return super().load()

    def _create(self) -> None:
        """Make the secret, with an empty object in it. Raises ConfigError, StoreUnavailable."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._connected().create_secret(
                Name=self._secret_id, SecretString="{}", Description="OAuth tokens of gmail-outlook-syncer"
            )
        except ClientError as error:
            code = re.sub(r"[^A-Za-z0-9]", "", str(error.response.get("Error", {}).get("Code")))[:64]
            remedy = _CREATE_REMEDIES.get(code)
            if remedy is None:
                raise StoreUnavailable(f"Secrets Manager: {code}") from None
            raise ConfigError([f"TOKENS_SECRET_ID: {remedy} ({code})"]) from None
        except (BotoCoreError, ValueError) as error:
            raise StoreUnavailable(f"Secrets Manager: {type(error).__name__}") from None


_MAY_NOT: Final = (
    "there is no such secret, and it may not be made; allow secretsmanager:CreateSecret, or make it yourself with the "
    "value {}"
)
_CREATE_REMEDIES: Final[Mapping[str, str]] = {
    "AccessDeniedException": _MAY_NOT,
    "AccessDenied": _MAY_NOT,
    "ResourceExistsException": "the secret has no value; give it the value {}",
    "InvalidRequestException": "the secret is marked for deletion; restore it, or name another one",
    "ValidationException": "this cannot be the name of a secret",
    "InvalidParameterException": "this cannot be the name of a secret",
    "LimitExceededException": "the AWS account has too many secrets",
}


def _check_folder(folder: Path, what: str) -> None:
    """Raises ConfigError: a file cannot be put into this folder."""
    if not folder.is_dir():
        raise ConfigError([f"{what} is in a folder that does not exist: make the folder"])
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError([f"{what}: its folder is not writable, and the file is replaced as a whole: chmod u+w it"])
