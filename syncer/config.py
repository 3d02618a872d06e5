"""Environment -> one frozen ``Config``; every fault is named at once. Nobody else reads the settings.

Owns the table of settings (``SETTINGS``): names, defaults, help. The loader reads by that table, the
command line prints it, and a test compares it with the README, so the three cannot drift apart.

The library is environs rather than pydantic-settings: both collect all errors and read ``NAME_FILE``
variants, but environs is imported in a third of the time, and a Lambda pays for imports at every cold
start. Four of its gaps are closed here (``_Environment``): a file that cannot be read is one more fault
instead of an exception that hides the others; an empty value counts as unset; a ``.env`` file never
wins over the real environment, not even by a ``NAME_FILE``; and defaults pass the same checks as values.

Promises: reading settings never writes to the process's own environment, and neither a fault nor the ``repr`` of a
``Config`` shows a secret or an address.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from environs import EnvValidationError, FileAwareEnv, ValidationError

from syncer.errors import ConfigError
from syncer.model import Endpoint, Side

MICROSOFT_AUTHORITY: Final = "https://login.microsoftonline.com"
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAX_FILE_BYTES: Final = 65536
"""What a ``NAME_FILE`` may hold at most: the longest tokens are a few thousand octets."""
_DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class InitialSync:
    """What of the mail that is already there is copied on the first run, or after UIDVALIDITY changed."""

    kind: Literal["window", "new", "all", "since"]
    since: date | None = None
    """Only for ``since``: copy what arrived on this day or later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting, checked. A field is named like its setting, in lower case; None means not given."""

    gmail_email: str = field(repr=False)
    outlook_email: str = field(repr=False)
    outlook_target_folder: str
    outlook_create_folder: bool
    outlook_mark_seen: bool
    gmail_source_folder: str
    aws_region: str
    dynamodb_table: str
    aws_endpoint_url: str | None
    sync_interval_seconds: int
    sync_idle: bool
    health_file: Path | None
    healthcheck_ping_url: str | None = field(repr=False)
    status_port: int | None
    status_host: str
    log_level: str
    gmail_client_id: str | None = field(repr=False)
    gmail_client_secret: str | None = field(repr=False)
    gmail_refresh_token: str | None = field(repr=False)
    ms_client_id: str | None = field(repr=False)
    ms_client_secret: str | None = field(repr=False)
    ms_tenant: str
    ms_refresh_token: str | None = field(repr=False)
    tokens_file: Path | None
    tokens_secret_id: str | None
    initial_sync: InitialSync
    resync_window_hours: int
    max_message_bytes: int
    max_attempts: int
    in_doubt_settle_seconds: int
    lease_seconds: int
    imap_timeout_seconds: int
    gmail_daily_bytes: int
    """0 means no limit."""
    outlook_max_messages_per_second: float
    """0 means no limit."""
    outlook_connections: int
    uid_ttl_days: int
    fail_ttl_days: int
    gmail_imap_host: str
    gmail_imap_port: int
    outlook_imap_host: str
    outlook_imap_port: int
    gmail_auth_uri: str
    gmail_token_uri: str
    ms_authority: str
    """Without the tenant and without a slash at its end."""

    def endpoint(self, side: Side) -> Endpoint:
        """Return where a side's mail server is."""
        if side is Side.SOURCE:
            return Endpoint(self.gmail_imap_host, self.gmail_imap_port, self.imap_timeout_seconds, "GMAIL_IMAP_HOST")
        return Endpoint(self.outlook_imap_host, self.outlook_imap_port, self.imap_timeout_seconds, "OUTLOOK_IMAP_HOST")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a person is told about one setting."""

    name: str
    default: str
    """As it would be written; empty if there is none."""
    secret: bool
    help: str
    required: bool = False
    """Always, whatever else is set."""


_Parser = Callable[[str], object]
"""Text -> value. Raises ValidationError: with a sentence that lacks its subject, the name of the setting."""


def _integer(lowest: int, highest: int) -> _Parser:
    """Return a parser of whole numbers between the two, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not lowest <= int(text) <= highest:
            raise ValidationError(f"has to be a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def _number(lowest: float, highest: float) -> _Parser:
    """Return a parser of decimal numbers between the two, both included."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", text) or not lowest <= float(text) <= highest:
            raise ValidationError(f"has to be a number from {lowest:g} to {highest:g}")
        return float(text)

    return parse


def _pattern(pattern: str, fault: str) -> _Parser:
    """Return a parser of texts that match as a whole."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValidationError(fault)
        return text

    return parse


def _flag(text: str) -> bool:
    """Read true or false, in the ways people write them."""
    value = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in value:
        raise ValidationError("has to be true or false")
    return value[text.lower()]


def _log_level(text: str) -> str:
    """Read the name of a log level, in any case."""
    if text.upper() not in LOG_LEVELS:
        raise ValidationError(f"has to be one of {', '.join(LOG_LEVELS)}")
    return text.upper()


def _initial_sync(text: str) -> InitialSync:
    """Read which mail the first run copies."""
    match text.lower():
        case "window" | "new" | "all" as kind:
            return InitialSync(kind)
    try:
        # fromisoformat takes more forms than we promise: 20260131, 2026-W05-6.
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return InitialSync("since", date.fromisoformat(text))
    except ValueError:
        pass  # the 31st of February
    raise ValidationError("has to be window, new, all or a date like 2026-01-31")


def _address(text: str) -> str:
    """Read an e-mail address, in lower case.

    Both providers ignore case in addresses, and the address is part of the records' key: another
    way of writing it would be another account, and its mail would be copied once more. It is the
    user of XOAUTH2, too, where a control character separates fields (PROVIDERS 3).
    """
    local, _, domain = text.partition("@")
    if not (local and domain) or "@" in domain or not _is_one_word(text):
        raise ValidationError("has to be one e-mail address, like name@example.com")
    return text.lower()


def _word(text: str) -> str:
    """Read an id, a secret or a token."""
    if not _is_one_word(text):
        raise ValidationError("has a space, a line break or another character that cannot be part of it")
    return text


def _path(text: str) -> Path:
    """Read the name of a file; ``~`` is the home folder."""
    _refuse_controls(text)
    try:
        return Path(text).expanduser()
    except RuntimeError:  # nobody's home
        raise ValidationError("starts with ~, but there is no home folder here") from None


def _mailbox(text: str) -> str:
    """Read the name of a mailbox, with ``/`` between its levels."""
    _refuse_controls(text)
    if "" in text.split("/"):
        raise ValidationError("has an empty level: no / at either end, and no // in it")
    return text


def _url(*schemes: str) -> _Parser:
    """Return a parser of URLs that have a host, and neither user name nor query nor fragment."""
    starts = " or ".join(f"{scheme}://" for scheme in schemes)

    def parse(text: str) -> str:
        try:
            url = urlsplit(text)
            complete = bool(url.hostname) and url.port != 0
        except ValueError:  # a port that is no number, brackets that do not match
            complete = False
        if not complete or url.scheme not in schemes or {"@", "?", "#"} & set(text) or not _is_one_word(text):
            raise ValidationError(f"has to be a URL that starts with {starts}")
        return text

    return parse


def _refuse_controls(text: str) -> None:
    """Raise ValidationError: control characters, or octets that are no UTF-8 (they arrive as surrogates).

    Not ``isprintable``: it refuses the joiners that emoji are made of, and folders may be named so.
    """
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValidationError("has a control character, or one that is not UTF-8, in it")


def _is_one_word(text: str) -> bool:
    return text.isprintable() and not any(character.isspace() for character in text)


_host = _pattern(
    r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+", "has to be a host name alone: no URL, and the port has its own setting"
)
_https = _url("https")


_http = _url("http")


def _https_or_loopback(text: str) -> object:
    """Read a URL of TLS, or of this machine, where nobody listens in (RFC 8252 section 7.3)."""
    loopback = re.match(r"http://(localhost|127\.0\.0\.1|\[::1\])[:/]", text)
    return _http(text) if loopback else _https(text)


_port = _integer(1, 65535)


def _row(
    name: str, default: str, parse: _Parser, text: str, *, secret: bool = False, required: bool = False
) -> tuple[Setting, _Parser]:
    return Setting(name, default, secret, text, required), parse


_TABLE: Final[tuple[tuple[Setting, _Parser], ...]] = (
    _row("GMAIL_EMAIL", "", _address, "address of the Gmail account that is read", required=True),
    _row(
        "OUTLOOK_EMAIL", "", _address, "primary address of the Outlook.com account that gets the copies", required=True
    ),
    _row("OUTLOOK_TARGET_FOLDER", "Gmail", _mailbox, "folder for the copies; / between levels"),
    _row("OUTLOOK_CREATE_FOLDER", "true", _flag, "make that folder if it is missing"),
    _row("OUTLOOK_MARK_SEEN", "false", _flag, "mark copies as read"),
    _row("GMAIL_SOURCE_FOLDER", "INBOX", _mailbox, "label whose mail is copied"),
    _row(
        "AWS_REGION",
        "",
        _pattern(r"[a-z0-9]+(-[a-z0-9]+)*", "has to be the name of an AWS region, like eu-central-1"),
        "AWS region of the DynamoDB table (and of the secret)",
        required=True,
    ),
    _row(
        "DYNAMODB_TABLE",
        "",
        _pattern(r"[A-Za-z0-9_.-]{3,255}", "has to be a table's name: 3 to 255 letters, digits and _ . -"),
        "DynamoDB table with the sync state",
        required=True,
    ),
    _row("AWS_ENDPOINT_URL", "", _url("https", "http"), "another address of the AWS services, for tests"),
    _row("SYNC_INTERVAL_SECONDS", "300", _integer(1, _DAY), "daemon: pause between cycles"),
    _row("SYNC_IDLE", "false", _flag, "daemon: also wake within seconds when mail arrives (IMAP IDLE)"),
    _row("HEALTH_FILE", "", _path, "daemon: file for `syncer health`, best in memory; none is written if not set"),
    _row(
        "HEALTHCHECK_PING_URL",
        "",
        _url("https", "http"),
        "monitor that is told of each cycle: URL/start, URL, URL/fail (healthchecks.io and its like)",
        secret=True,
    ),
    _row("STATUS_PORT", "", _port, "daemon: port of a small status page, with /healthz and /metrics; none if not set"),
    _row("STATUS_HOST", "127.0.0.1", _host, "address that page listens on; 0.0.0.0 is every one, for your LAN alone"),
    _row("LOG_LEVEL", "INFO", _log_level, "least severe log lines shown: " + ", ".join(LOG_LEVELS)),
    _row("GMAIL_CLIENT_ID", "", _word, "id of your Google OAuth client (type Desktop app)"),
    _row("GMAIL_CLIENT_SECRET", "", _word, "secret of that client", secret=True),
    _row("GMAIL_REFRESH_TOKEN", "", _word, "what the Gmail account's owner got by signing in once", secret=True),
    _row("MS_CLIENT_ID", "", _word, "application (client) id of your Microsoft app registration"),
    _row("MS_CLIENT_SECRET", "", _word, "secret of that app, if it has one; public clients have none", secret=True),
    _row(
        "MS_TENANT",
        "consumers",
        _pattern(r"[A-Za-z0-9.-]+", "has to be consumers, or a tenant's name or id"),
        "who may sign in; personal accounts need consumers",
    ),
    _row("MS_REFRESH_TOKEN", "", _word, "what the Outlook.com account's owner got by signing in once", secret=True),
    _row("TOKENS_FILE", "", _path, "JSON file in which tokens are kept and renewed"),
    _row("TOKENS_SECRET_ID", "", _word, "Secrets Manager secret in which tokens are kept and renewed"),
    _row(
        "INITIAL_SYNC",
        "window",
        _initial_sync,
        "mail copied by the first run, or after UIDVALIDITY changed: window (the last RESYNC_WINDOW_HOURS), "
        "new (only what arrives from now on), all, or a date YYYY-MM-DD",
    ),
    _row("RESYNC_WINDOW_HOURS", "24", _integer(0, 87600), "length of that window"),
    _row(
        "MAX_MESSAGE_BYTES", "36700160", _integer(1, 2**31 - 1), "larger messages are recorded as failed, not fetched"
    ),
    _row("MAX_ATTEMPTS", "5", _integer(1, 100), "tries before a message is given up and reported"),
    _row("IN_DOUBT_SETTLE_SECONDS", "600", _integer(0, _DAY), "pause between the two looks for a copy in doubt"),
    _row("LEASE_SECONDS", "300", _integer(1, _DAY), "how long a silent run keeps others from working"),
    _row("IMAP_TIMEOUT_SECONDS", "60", _integer(1, 3600), "longest wait for one answer of a mail server"),
    _row("GMAIL_DAILY_BYTES", "1200000000", _integer(0, 10**12), "octets fetched from Gmail in a day; 0 = no limit"),
    _row("OUTLOOK_MAX_MESSAGES_PER_SECOND", "4", _number(0, 1000), "pace of the copies; 0 = no limit"),
    _row("OUTLOOK_CONNECTIONS", "1", _integer(1, 16), "connections that store copies at the same time"),
    _row("UID_TTL_DAYS", "400", _integer(1, 36500), "how long the record of a copied message is kept"),
    _row("FAIL_TTL_DAYS", "90", _integer(1, 36500), "how long the record of a failed message is kept"),
    _row("GMAIL_IMAP_HOST", "imap.gmail.com", _host, "Gmail's IMAP server"),
    _row("GMAIL_IMAP_PORT", "993", _port, "its port (TLS)"),
    _row("OUTLOOK_IMAP_HOST", "outlook.office365.com", _host, "Outlook.com's IMAP server"),
    _row("OUTLOOK_IMAP_PORT", "993", _port, "its port (TLS)"),
    _row("GMAIL_AUTH_URI", "https://accounts.google.com/o/oauth2/v2/auth", _https_or_loopback, "Google's sign-in page"),
    _row("GMAIL_TOKEN_URI", "https://oauth2.googleapis.com/token", _https_or_loopback, "Google's token endpoint"),
    _row("MS_AUTHORITY", MICROSOFT_AUTHORITY, _https, "Microsoft's identity platform, without the tenant"),
)

SETTINGS: Final[tuple[Setting, ...]] = tuple(setting for setting, _ in _TABLE)
"""Every setting there is, in the order in which help shows them."""


def load(*, env_file: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check all settings.

    ``env_file`` (``.env``, for local use) need not exist, and its values count only where ``environ``
    (the process's environment if None) has none. Raises ConfigError: with every fault there is.
    """
    found = inspect(env_file=env_file, environ=environ)
    if found.faults:
        raise ConfigError(found.faults)
    return found.config


def load_part(
    names: Collection[str],
    *,
    optional: Collection[str] = (),
    env_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read all settings, but demand and check these alone: for a command that reads no others; see ``load_some``.

    Of the rest, what is wrong or missing is as if nobody had set it; an ``optional`` one that is missing is empty.
    Raises ConfigError: one of ``names`` is wrong.
    """
    load_some(names, optional=optional, env_file=env_file, environ=environ)
    return inspect(env_file=env_file, environ=environ).config


@dataclass(frozen=True, slots=True)
class Inspection:
    """The settings as far as they can be used."""

    config: Config
    """What is wrong has its default here, and an empty text or None where it has none."""
    faults: tuple[str, ...]
    """One sentence for each, as in ConfigError."""
    wrong: frozenset[str]
    """Names of the settings that the faults are about."""


def inspect(*, env_file: Path | None = None, environ: Mapping[str, str] | None = None) -> Inspection:
    """Read all settings, and tell what is wrong instead of raising it; see ``load``."""
    env = _Environment(os.environ if environ is None else environ)
    if env_file is not None:
        env.read_file(env_file)
    values: dict[str, Any] = {setting.name.lower(): env.value_of(setting, parse) for setting, parse in _TABLE}
    faults = env.faults()
    combined = _combination_faults(env, values)
    faults += combined.values()
    wrong = {setting.name for setting in SETTINGS if env.has_fault(setting.name)}
    for setting, parse in _TABLE:
        if setting.name in wrong:
            fallback = parse(setting.default) if setting.default else "" if setting.required else None
            values[setting.name.lower()] = fallback
    config = Config(**{**values, "ms_authority": _without_tenant(values["ms_authority"], values["ms_tenant"])})
    return Inspection(config, tuple(faults), frozenset(wrong.union(*combined)))


def _without_tenant(authority: str, tenant: str) -> str:
    """Return the URL of the identity platform: people copy it with the tenant at its end."""
    return authority.rstrip("/").removesuffix(f"/{tenant}").rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableConfig:
    """What is needed to make the table, before anybody has signed in anywhere."""

    aws_region: str
    dynamodb_table: str
    aws_endpoint_url: str | None
    log_level: str


TABLE_SETTINGS: Final = ("AWS_REGION", "DYNAMODB_TABLE", "AWS_ENDPOINT_URL", "LOG_LEVEL")
RECORDS_SETTINGS: Final = ("GMAIL_EMAIL", "OUTLOOK_EMAIL", *TABLE_SETTINGS)
"""What it takes to read the records of two accounts."""


def load_table(*, env_file: Path | None = None, environ: Mapping[str, str] | None = None) -> TableConfig:
    """Read and check the settings of the table alone; see ``load``. Raises ConfigError."""
    return TableConfig(**load_some(TABLE_SETTINGS, env_file=env_file, environ=environ))


def load_health_file(*, env_file: Path | None = None, environ: Mapping[str, str] | None = None) -> Path | None:
    """Read HEALTH_FILE alone; see ``load``. Raises ConfigError."""
    path: Path | None = load_some(("HEALTH_FILE",), env_file=env_file, environ=environ)["health_file"]
    return path


def load_some(
    names: Collection[str],
    *,
    optional: Collection[str] = (),
    env_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Read and check these settings alone, for a command that has to work before the others are there.

    Returns values by the names of ``Config``'s fields. What a cycle requires is required here too,
    but for ``optional``. Raises ConfigError: with every fault there is.
    """
    env = _Environment(os.environ if environ is None else environ)
    if env_file is not None:
        env.read_file(env_file)
    values: dict[str, Any] = {
        setting.name.lower(): env.value_of(
            replace(setting, required=setting.required and setting.name not in optional), parse
        )
        for setting, parse in _TABLE
        if setting.name in names
    }
    faults = env.faults()
    if {"TOKENS_FILE", "TOKENS_SECRET_ID"} <= set(names):
        faults += _two_stores(env)
    if faults:
        raise ConfigError(faults)
    if "ms_authority" in values:
        values["ms_authority"] = _without_tenant(values["ms_authority"], values.get("ms_tenant", ""))
    return values


def what_wins_over(
    values: Mapping[str, str], *, env_file: Path, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return those settings of which ``env_file`` holds one of these values in vain, with what counts instead.

    What counts is named as a person would look for it, never by its value.
    """
    real = os.environ if environ is None else environ
    env = _Environment({})
    env.read_file(env_file)
    winners: dict[str, str] = {}
    for name, value in values.items():
        file = f"{name}_FILE"
        if env.read().get(file, "").strip():
            winners[name] = f"{file} in {env_file}"
        if real.get(name, "").strip() not in ("", value):
            winners[name] = f"{name} in the environment"
        if real.get(file, "").strip():
            winners[name] = f"{file} in the environment"
    return winners


def lend_to_libraries(env_file: Path) -> None:
    """Hand what the AWS SDK and the TLS libraries read for themselves from ``.env`` on to them.

    For the command line alone: AWS credentials and a private CA stand in the same file as the
    settings, and these libraries know the process's environment only. What is set there wins.
    """
    env = _Environment({})
    env.read_file(env_file)
    for name, value in env.read().items():
        if name.startswith("AWS_") or name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
            os.environ.setdefault(name, value)


def _two_stores(env: _Environment) -> list[str]:
    """Return the fault of naming two places for the tokens."""
    if not (env.is_given("TOKENS_FILE") and env.is_given("TOKENS_SECRET_ID")):
        return []
    return ["TOKENS_FILE and TOKENS_SECRET_ID exclude each other: tokens are kept in one place, unset one of them"]


def _combination_faults(env: _Environment, values: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """Return what is wrong with settings that are right on their own, by the names of the settings."""
    if faults := _two_stores(env):
        return {("TOKENS_FILE", "TOKENS_SECRET_ID"): faults[0]}
    if env.is_given("TOKENS_FILE") or env.is_given("TOKENS_SECRET_ID"):
        return {}
    needed = ("GMAIL_CLIENT_ID", "GMAIL_CLIENT_SECRET", "GMAIL_REFRESH_TOKEN", "MS_CLIENT_ID", "MS_REFRESH_TOKEN")
    where = "unless TOKENS_FILE or TOKENS_SECRET_ID says where it is kept"
    return {
        (name,): f"{name} is required, {where}{env.remark_on(name)}"
        for name in needed
        if values[name.lower()] is None and not env.has_fault(name)
    }


class _Environment(FileAwareEnv):
    """The settings as texts: from files, the environment, the ``.env`` file, the table of defaults."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(eager=False, strip_whitespace=True)
        self.add_parser("parsed", lambda text, parse: None if text is None else parse(text))
        self._real = environ
        self._file_faults: dict[str, str] = {}
        self._parse_faults: Mapping[str, list[str]] = {}
        self._remarks: dict[str, str] = {}

    def read_file(self, path: Path) -> None:
        """Read a ``.env`` file, into this object alone."""
        try:
            self.read_env(path, recurse=False)
        except (OSError, ValueError) as error:
            self._file_faults[str(path)] = f"{path} cannot be read ({_why(error)}): mend it or take it away"

    def read(self) -> Mapping[str, str]:
        """Return what the file held."""
        return {name: value for name, value in self._environ.items() if value}

    def value_of(self, setting: Setting, parse: _Parser) -> object:
        """Return the value of one setting, or None; faults are kept for ``faults``."""
        return self.parsed(setting.name, ... if setting.required else None, parse=parse)

    def is_given(self, name: str) -> bool:
        """Tell whether somebody set it, rightly or not."""
        return any(source.get(key, "").strip() for source in self._sources() for key in (name, f"{name}_FILE"))

    def remark_on(self, name: str) -> str:
        """Return what else is to be said where ``name`` is missing."""
        return self._remarks.get(name, "")

    def faults(self) -> list[str]:
        """Return one sentence for each fault so far, and take no further questions."""
        try:
            self.seal()
        except EnvValidationError as error:
            if isinstance(error.error_messages, Mapping):  # always: the other kind comes from eager parsing only
                self._parse_faults = error.error_messages
        sentences = [*self._file_faults.values()]
        for name, messages in self._parse_faults.items():
            if name not in self._file_faults:  # what was not read was not parsed either
                sentences += [f"{name} {self._in_our_words(name, text)}" for text in messages]
        return sentences

    def _in_our_words(self, name: str, message: str) -> str:
        """Return a fault's sentence; environs' only own one says that a required value is missing."""
        if message != "Environment variable not set.":
            return message
        return f"is required: {_BY_NAME[name].help}{self.remark_on(name)}"

    def has_fault(self, name: str) -> bool:
        """Tell whether ``faults`` had something to say about this setting."""
        return name in self._file_faults or name in self._parse_faults

    def _sources(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        return self._real, self._environ  # the latter is where environs keeps what read_env found

    def _get_value(self, env_key: str, default: Any) -> Any:
        """Return the text of a setting: the one door through which environs asks for values."""
        for source in self._sources():
            file = source.get(f"{env_key}_FILE", "").strip()
            text = self._content_of(env_key, file) if file else source.get(env_key, "").strip()
            if text:
                return text
        return _BY_NAME[env_key].default or default

    def _content_of(self, name: str, file: str) -> str:
        """Return what the file of a setting holds; one that cannot be read is a fault, an empty one a remark."""
        try:
            with Path(file).open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise ValueError("it is too large for a setting")
            text = data.decode("utf-8-sig").strip()
        except (OSError, ValueError) as error:
            self._file_faults[name] = f"{name}_FILE names a file that cannot be read ({_why(error)})"
            return ""
        if not text:
            self._remarks[name] = f" ({name}_FILE names an empty file)"
        return text


_BY_NAME: Final[Mapping[str, Setting]] = {setting.name: setting for setting in SETTINGS}


def _why(error: OSError | ValueError) -> str:
    """Return why a file cannot be read, without a word of what is in it."""
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return "it is no UTF-8 text" if isinstance(error, UnicodeError) else str(error)
