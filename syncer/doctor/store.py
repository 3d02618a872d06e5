"""The token store: may it be read, and could a new refresh token be kept.

What is written leaves everything as it was. In the folder of a file, a second file comes and goes. A
secret is given the very version it has: with the version's own id and the same content, "the operation
succeeds but does nothing" (PutSecretValue, ClientRequestToken), but it needs the permission all the
same, and makes no version that would count against the quota (PROVIDERS 11).
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

from syncer.config import Config
from syncer.diagnosis import Check, Found, fail, ok, warn
from syncer.errors import ConfigError
from syncer.model import EXIT_CONFIG
from syncer.token_store import StoreUnavailable, TokenStore

STORE_SETTINGS: Final = ("TOKENS_FILE", "TOKENS_SECRET_ID")
MOUNTS: Final = Path("/proc/self/mountinfo")


class Store:
    """The place that the settings name."""

    def __init__(self, config: Config, store: TokenStore, needs: tuple[str, ...]) -> None:
        """``needs`` are the checks before which no secret is read."""
        self._config = config
        self._store = store
        self._needs = needs

    def checks(self) -> list[Check]:
        """Return the checks: a place, reading, writing."""
        return [
            Check("tokens.place", "place for tokens", self._place, (), STORE_SETTINGS),
            Check("tokens.read", "read the tokens", self._read, (*self._needs, "tokens.place"), STORE_SETTINGS),
            Check("tokens.write", "keep a new token", self._write, ("tokens.read",), STORE_SETTINGS),
        ]

    def _place(self) -> Found:
        if self._config.tokens_file is not None:
            return ok("a file (TOKENS_FILE)")
        if self._config.tokens_secret_id is not None:
            return ok("Secrets Manager (TOKENS_SECRET_ID)")
        return warn(
            "none: a new Microsoft token cannot be kept, and the old one ends after 90 days",
            "set TOKENS_FILE=tokens.json",
        )

    def _read(self) -> Found:
        try:
            stored = self._store.load()
        except ConfigError as error:
            return _fault(error)
        except StoreUnavailable as error:
            return fail(error.reason, "try again in a minute")
        held = sum(bool(known.refresh_token) for known in stored.sides.values())
        if self._store.read_only:
            return ok(f"{held} refresh tokens in the environment")
        return ok(f"readable, {held or 'no'} refresh tokens in it")

    def _write(self) -> Found:
        if self._config.tokens_file is not None:
            return _file_could_be_replaced(self._config.tokens_file)
        if self._config.tokens_secret_id is not None:
            return self._secret_could_be_put(self._config.tokens_secret_id)
        return warn("no: the environment cannot be written", "set TOKENS_FILE=tokens.json")

    def _secret_could_be_put(self, secret_id: str) -> Found:
        from botocore.exceptions import BotoCoreError, ClientError

        client = _client(self._config)
        try:
            current = client.get_secret_value(SecretId=secret_id, VersionStage="AWSCURRENT")
            content = {name: current[name] for name in ("SecretString", "SecretBinary") if name in current}
            client.put_secret_value(SecretId=secret_id, ClientRequestToken=current["VersionId"], **content)
        except ClientError as error:
            return _why_not_put(str(error.response.get("Error", {}).get("Code")))
        except BotoCoreError as error:
            return fail(f"Secrets Manager: {type(error).__name__}", "try again in a minute")
        return ok("writable (tried with the version it has: nothing changed)")


def _why_not_put(code: str) -> Found:
    if code in ("AccessDeniedException", "AccessDenied"):
        return fail(
            "TOKENS_SECRET_ID: AWS denies secretsmanager:PutSecretValue, so a new token would be lost",
            "allow secretsmanager:PutSecretValue on this secret",
            EXIT_CONFIG,
        )
    if code in ("LimitExceededException", "ThrottlingException"):
        return warn("TOKENS_SECRET_ID: written too often of late", "look for another program that writes this secret")
    safe = "".join(filter(str.isalnum, code))[:64]
    return fail(f"TOKENS_SECRET_ID cannot be written ({safe})", "look at the secret in the console", EXIT_CONFIG)


def _client(config: Config) -> Any:
    import boto3
    from botocore.config import Config as BotoConfig

    return boto3.client(
        "secretsmanager",
        region_name=config.aws_region,
        endpoint_url=config.aws_endpoint_url,
        config=BotoConfig(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}),
    )


def _file_could_be_replaced(path: Path) -> Found:
    """Make a file beside it and take it away again; ``path`` itself is not touched."""
    target = Path(os.path.realpath(path))
    if is_mounted(target):
        remedy = "mount the folder into the container, not the file"
        return fail("TOKENS_FILE is mounted by itself: it cannot be replaced as a whole", remedy, EXIT_CONFIG)
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.doctor."):
            pass
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        remedy = "make the folder of TOKENS_FILE writable for the user that runs this"
        return fail(f"the folder of TOKENS_FILE cannot be written ({why})", remedy, EXIT_CONFIG)
    return ok("its folder is writable")


def is_mounted(path: Path, table: Path = MOUNTS) -> bool:
    """Tell whether a file is a mount of its own, as one that a container was given: ``os.path.ismount`` may not see it.

    Where the system keeps no such table, nothing is.
    """
    try:
        lines = table.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    # proc_pid_mountinfo(5): the fifth field is the mount point; blanks and the like are octal there.
    points = {re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split()[4]) for line in lines if line}
    return str(path) in points


def _fault(error: ConfigError) -> Found:
    words, _, remedy = error.faults[0].partition(": ")
    return fail(words, remedy or "correct it", EXIT_CONFIG)
