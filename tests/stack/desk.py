"""A person's machine: the real ``auth`` command in a process of its own, between servers where people can sign in."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncer.demo.authority import Account
from syncer.demo.certificates import Certificates
from syncer.model import Side
from tests.fakes import browse
from tests.fakes.consent import SignInAuthority
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.stack.pair import GMAIL, OUTLOOK, until


@dataclass(frozen=True, slots=True)
class Session:
    """What a person saw, and how it ended."""

    exit_code: int
    shown: str

    def says(self, *texts: str) -> bool:
        """Tell whether all of it was said, in this order and in any case. Raises AssertionError: it was not."""
        at = 0
        for text in texts:
            at = self.shown.lower().find(text.lower(), at) + len(text)
            if at < len(text):
                raise AssertionError(f"{text!r} was not said (in this order):\n{self.shown}")
        return True


@dataclass(slots=True)
class Running:
    """A command under way; what it shows goes to a file, of which nothing gets lost between two looks."""

    process: subprocess.Popen[bytes]
    screen: Path

    def wait_for(self, pattern: str) -> str:
        """Return what matches the pattern, once it is shown."""
        found: list[str] = []

        def look() -> bool:
            match = re.search(pattern, self.screen.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
            found.extend([match[0]] if match else [])
            assert match or self.process.poll() is None, self.screen.read_text(encoding="utf-8", errors="replace")
            return bool(match)

        try:
            until(look, 40)
        except BaseException:
            self.process.kill()
            self.end()
            raise
        return found[0]

    def end(self, pasted: str = "", *, send: signal.Signals | None = None) -> Session:
        """Paste something, or send a signal; wait for the end."""
        if send is not None:
            self.process.send_signal(send)
        try:
            self.process.communicate(pasted.encode(), timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        # Interrupted inside an exec, as some imports are, Python ends itself by the signal: a shell says 130 of either.
        code = 130 if self.process.returncode == -signal.SIGINT else self.process.returncode
        return Session(code, self.screen.read_text(encoding="utf-8", errors="replace"))


@dataclass(slots=True)
class Desk:
    """The machine, and the world around it."""

    authority: SignInAuthority
    source: FakeGmail
    destination: FakeOutlook
    gmail: Account
    outlook: Account
    folder: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def seen(self) -> str:
        """The page that the browser ended at."""
        return (self.folder / "seen.html").read_text(encoding="utf-8")

    def start(self, *arguments: str, choice: str = "allow", **settings: str) -> Running:
        """Start ``syncer auth`` with a browser in which somebody makes the choice."""
        browser = shlex.join([sys.executable, browse.__file__, choice, "%s"])
        screen = self.folder / f"screen-{len(list(self.folder.glob('screen-*')))}"
        with screen.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "syncer", "auth", *arguments],
                env={**self.environment, "BROWSER": browser, **settings},
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return Running(process, screen)

    def sign_in(self, *arguments: str, choice: str = "allow", **settings: str) -> Session:
        """Run it to its end."""
        return self.start(*arguments, choice=choice, **settings).end()

    def tokens(self, name: str = "tokens.json") -> dict[str, Any]:
        """Return what a tokens file holds."""
        kept: dict[str, Any] = json.loads((self.folder / name).read_text())
        return kept

    def opens(self, side: Side, refresh_token: str) -> bool:
        """Tell whether the authority gave this token, to the account of the settings."""
        grant = self.authority._grants.get(refresh_token)
        return grant is not None and grant.address == (GMAIL if side is Side.SOURCE else OUTLOOK)

    def secrets(self) -> list[str]:
        """Return every text that nobody may ever see."""
        with self.authority._lock:
            issued = [*self.authority._grants, *self.authority._access, *self.authority._codes]
        return [*issued, self.gmail.client_secret, GMAIL, OUTLOOK]


@contextmanager
def desk_of(certificates: Certificates, folder: Path) -> Iterator[Desk]:
    """Make one: nothing is configured but the addresses and the two OAuth clients."""
    with (
        SignInAuthority(certificates) as authority,
        FakeGmail(lambda u, t: authority.check(u, t, Side.SOURCE), certificates.server_context()) as source,
        FakeOutlook(lambda u, t: authority.check(u, t, Side.DESTINATION), certificates.server_context()) as destination,
    ):
        gmail, outlook = authority.add_account(Side.SOURCE, GMAIL), authority.add_account(Side.DESTINATION, OUTLOOK)
        authority.signs_in_as = {Side.SOURCE: gmail, Side.DESTINATION: outlook}
        ca = str(certificates.ca)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "COLUMNS": "80",
            "GMAIL_EMAIL": GMAIL,
            "GMAIL_CLIENT_ID": gmail.client_id,
            "GMAIL_CLIENT_SECRET": gmail.client_secret,
            "GMAIL_AUTH_URI": authority.gmail_auth_uri,
            "GMAIL_TOKEN_URI": authority.gmail_token_uri,
            "GMAIL_IMAP_HOST": "localhost",
            "GMAIL_IMAP_PORT": str(source.port),
            "OUTLOOK_EMAIL": OUTLOOK,
            "OUTLOOK_IMAP_HOST": "localhost",
            "OUTLOOK_IMAP_PORT": str(destination.port),
            "MS_CLIENT_ID": outlook.client_id,
            "MS_AUTHORITY": authority.ms_authority,
            "SSL_CERT_FILE": ca,
            "REQUESTS_CA_BUNDLE": ca,
            "SYNCER_TEST_SEEN": str(folder / "seen.html"),
        }
        yield Desk(authority, source, destination, gmail, outlook, folder, environment)
