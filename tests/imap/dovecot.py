"""A Dovecot of one's own: Debian's IMAP server, started without root on free loopback ports, gone afterwards.

It serves TLS with the certificate it is handed, and knows two ways to sign in: XOAUTH2 with a token
that an introspection end point (RFC 7662) vouches for, which is what the program under test uses,
and a password for the tests themselves, on a second listener without TLS. Any user name will do; a
mailbox begins to exist with its first sign-in. Several instances may run at the same time.

What Dovecot does to mail (measured with 2.3.19, so compare only canonical CRLF mail byte for byte):
a bare LF becomes CRLF, NUL becomes 0x80, and an empty message is refused.

Failed sign-ins from one address are answered later and later (0.5, 4.5, 8.5, 15.5 seconds): plan few
of them for one instance, or call ``restart``, which forgets them.
"""

from __future__ import annotations

import contextlib
import grp
import imaplib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

HOST: Final = "localhost"
PASSWORD: Final = "loopback-only"
START_SECONDS: Final = 15.0
FETCH_AT_ONCE: Final = 200

T = TypeVar("T")

_CONFIG: Final = """
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/log
default_login_user = {user}
default_internal_user = {user}
default_internal_group = {group}
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{home}/server.pem
ssl_key = <{home}/server.key
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = no
auth_mechanisms = plain login xoauth2 oauthbearer
auth_failure_delay = 0 secs
auth_cache_size = 0
verbose_proctitle = yes
mail_location = maildir:{home}/mail/%u:LAYOUT=fs
# A power cut is not among the faults that tests provoke.
mail_fsync = never
first_valid_uid = 1
mail_max_userip_connections = 50
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {home}/oauth2.conf.ext
}}
passdb {{
  driver = static
  mechanisms = plain login
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={home}/mail/%u allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
mail_plugins = quota
protocol imap {{
  mail_plugins = quota imap_quota
}}
plugin {{
  quota = maildir:User quota
  quota_rule = *:storage=20G
}}
# Without root there is no chroot.
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {plain_port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
{extra}
"""

_OAUTH2_CONFIG: Final = """
introspection_mode = post
introspection_url = {url}
grant_url =
username_attribute = username
active_attribute = active
active_value = true
timeout_msecs = 5000
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the server has it."""

    uid: int
    raw: bytes
    internaldate: str
    """The server's own text, without quotes."""
    flags: frozenset[str]


class Dovecot:
    """One server, running between ``__enter__`` and ``__exit__``."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        introspection_url: str,
        *,
        extra: str = "",
        parent: Path = Path("/tmp"),
    ) -> None:
        """Prepare a server; ``extra`` is put at the end of its configuration, where the last word counts."""
        self.host = HOST
        self.port = 0
        """TLS from the first byte; XOAUTH2 and passwords."""
        self.plain_port = 0
        """No TLS: for the tests' own connections."""
        self._certificate = certificate
        self._key = key
        self._introspection_url = introspection_url
        self._extra = extra
        self._parent = parent
        self._user, self._group, self._identity = _run_as()
        self._home = parent / "not-started"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str:
        """Return why no server can be started here; empty if it can."""
        return "" if _binary("dovecot") else "no dovecot here (on Debian: apt-get install dovecot-imapd)"

    def __enter__(self) -> Self:
        # Not pytest's tmp_path: the path of a Unix socket has to fit in 108 bytes, and its parents
        # have to be open to the user the server runs as.
        self._home = Path(tempfile.mkdtemp(prefix="dv-", dir=self._parent))
        try:
            for folder in ("run", "state", "mail"):
                (self._home / folder).mkdir()
            shutil.copy(self._certificate, self._home / "server.pem")
            shutil.copy(self._key, self._home / "server.key")
            if self._identity:
                for path in (self._home, *self._home.iterdir()):
                    shutil.chown(path, self._user, self._group)
            self._start_on_free_ports()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(signal.SIGKILL)  # an orderly end takes a second, and what it would save is removed here
        shutil.rmtree(self._home, ignore_errors=True)

    # --- the server -----------------------------------------------------------------------------

    def restart(self, *, extra: str | None = None) -> None:
        """Stop and start on the same ports, mail kept; ``extra`` replaces the extra configuration."""
        if extra is not None:
            self._extra = extra
        self._stop()
        self._start()

    def kill(self) -> None:
        """End every process of the server at once, as a power cut would; ``restart`` brings it back."""
        self._stop(signal.SIGKILL)

    def log(self) -> str:
        """Return what the server has logged so far."""
        try:
            return (self._home / "log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def imap_processes(self, user: str) -> list[int]:
        """Return the process ids of the sessions that ``user`` has open."""
        return [pid for pid, title in self._children() if title.startswith(f"dovecot/imap [{user} ")]

    @contextlib.contextmanager
    def stalled(self, user: str) -> Iterator[None]:
        """Hold every session that ``user`` has open: sockets stay up, nothing answers, until the block ends."""
        held = self.imap_processes(user)
        assert held, f"{user} has no session to hold"
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in held:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def doveadm(self, *arguments: str) -> str:
        """Run ``doveadm`` on this server as its own user, and return what it printed."""
        command = [_binary("doveadm"), "-c", str(self._home / "dovecot.conf"), *arguments]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, **self._identity
        )
        if done.returncode:
            raise RuntimeError(f"doveadm {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def set_uidvalidity(self, user: str, uidvalidity: int, mailbox: str = "INBOX") -> None:
        """Give the mailbox another UIDVALIDITY; the UIDs stay."""
        self.doveadm("mailbox", "update", "-u", user, "--uid-validity", str(uidvalidity), mailbox)

    # --- the mail -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def session(self, user: str) -> Iterator[imaplib.IMAP4]:
        """Sign in with the password, on the listener without TLS; sign out at the end."""
        client = imaplib.IMAP4("127.0.0.1", self.plain_port, timeout=60)
        try:
            client.login(_quoted(user), PASSWORD)
            yield client
        finally:
            with contextlib.suppress(imaplib.IMAP4.error, OSError):
                client.logout()

    def deliver(self, user: str, raw: bytes, internaldate: str, mailbox: str = "INBOX") -> int:
        """Store one message, as if it had just arrived, and return its UID."""
        return self.deliver_all(user, [(raw, internaldate)], mailbox)[0]

    def deliver_all(self, user: str, mail: Iterable[tuple[bytes, str]], mailbox: str = "INBOX") -> list[int]:
        """Store messages (bytes and INTERNALDATE, ``17-Jul-2026 02:44:25 +0200``) in their order; return their UIDs.

        The mailbox is made if it is missing.
        """
        uids = []
        with self.session(user) as client:
            if client.status(_quoted(mailbox), "(UIDNEXT)")[0] != "OK":
                _ok(client.create(_quoted(mailbox)))
            for raw, internaldate in mail:
                # imaplib's own append makes CRLF out of every line end; what is handed in here is sent as it is.
                client.literal = raw  # type: ignore[assignment]  # typeshed says str; bytes are sent
                answer = client._simple_command("APPEND", _quoted(mailbox), f'"{internaldate}"')
                uids.append(int(_ok(answer)[0].split(b"]", 1)[0].split()[-1]))
        return uids

    def messages(self, user: str, mailbox: str = "INBOX") -> list[Stored]:
        """Return every message of the mailbox, by UID; none if there is no such mailbox. Sets no flag."""
        with self.session(user) as client:
            if client.select(_quoted(mailbox), readonly=True)[0] != "OK":
                return []
            uids = _ok(client.uid("SEARCH", "ALL"))[0].split()
            found = []
            for start in range(0, len(uids), FETCH_AT_ONCE):
                uid_set = b",".join(uids[start : start + FETCH_AT_ONCE]).decode()
                parts = client.uid("FETCH", uid_set, "(UID INTERNALDATE FLAGS BODY.PEEK[])")[1]
                found += [_stored(part[0], part[1]) for part in parts if isinstance(part, tuple)]
            return sorted(found, key=lambda message: message.uid)

    def uidvalidity(self, user: str, mailbox: str = "INBOX") -> int:
        """Return the mailbox's UIDVALIDITY."""
        with self.session(user) as client:
            said = _ok(client.status(_quoted(mailbox), "(UIDVALIDITY)"))[0]
            return int(said.rsplit(b"UIDVALIDITY", 1)[1].strip(b" )"))

    def mailboxes(self, user: str) -> list[str]:
        """Return the names of the user's mailboxes, in modified UTF-7 as the server sends them."""
        with self.session(user) as client:
            return sorted(_unquoted(line) for line in _ok(client.list()) if isinstance(line, bytes))

    def delete(self, user: str, uid: int, mailbox: str = "INBOX") -> None:
        """Remove one message for good, as a person does who deletes or moves it."""
        with self.session(user) as client:
            _ok(client.select(_quoted(mailbox)))
            _ok(client.uid("STORE", str(uid), "+FLAGS", r"(\Deleted)"))
            _ok(client.uid("EXPUNGE", str(uid)))

    # --- inside ---------------------------------------------------------------------------------

    def _start_on_free_ports(self) -> None:
        # Dovecot wants to be told its ports, and another process may take one before Dovecot does.
        for chance in (2, 1, 0):
            self.port, self.plain_port = _free_ports(2)
            try:
                return self._start()
            except RuntimeError:
                if not chance or "Address already in use" not in self.log():
                    raise
                self._stop()
        return None

    def _start(self) -> None:
        config = self._home / "dovecot.conf"
        config.write_text(
            _CONFIG.format(
                home=self._home,
                user=self._user,
                group=self._group,
                password=PASSWORD,
                tls_port=self.port,
                plain_port=self.plain_port,
                extra=self._extra,
            )
        )
        (self._home / "oauth2.conf.ext").write_text(_OAUTH2_CONFIG.format(url=self._introspection_url))
        self._process = subprocess.Popen(
            [_binary("dovecot"), "-F", "-c", str(config)],
            # Its children keep these open: a pipe would hang whoever waits for its end.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=self._home,
            **self._identity,
        )
        give_up_at = time.monotonic() + START_SECONDS
        while not self._greets():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"dovecot does not answer; its log:\n{self.log()}{self._complaint()}")
            time.sleep(0.02)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.plain_port), 5) as connection:
                connection.settimeout(5)
                return connection.recv(4) == b"* OK"
        except OSError:
            return False

    def _complaint(self) -> str:
        """Return what is wrong with the configuration: the server tells that to its standard error only."""
        command = [_binary("doveconf"), "-c", str(self._home / "dovecot.conf"), "-n"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stderr

    def _children(self) -> list[tuple[int, str]]:
        """Return process id and title of every process of this server."""
        assert self._process is not None
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended since
                pid = int(folder.name)
                if os.getsid(pid) == self._process.pid:
                    title = (folder / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
                    found.append((pid, title.decode(errors="replace")))
        return found

    def _stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if how == signal.SIGTERM:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        # What is left: everything after a kill; a session that a test held and never let go.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)


def _run_as() -> tuple[str, str, dict[str, Any]]:
    """Return user and group of the server, and the arguments that start a process as them.

    Dovecot as root would take other liberties than Dovecot as anybody: root starts it as the user its
    package made.
    """
    root = os.geteuid() == 0
    entry = pwd.getpwnam("dovecot") if root else pwd.getpwuid(os.geteuid())
    group = grp.getgrgid(entry.pw_gid).gr_name
    return entry.pw_name, group, {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []} if root else {}


def _binary(name: str) -> str:
    """Return the program's path; empty if it is not installed. An ordinary user's PATH may lack the sbin folders."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])) or ""


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _ok(answer: tuple[str, T]) -> T:
    kind, data = answer
    if kind != "OK":
        raise RuntimeError(f"the server said {kind}: {data!r}")
    return data


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquoted(listed: bytes) -> str:
    """Return the mailbox name at the end of a LIST answer."""
    match = re.fullmatch(rb'\(.*?\) (?:".+?"|NIL) (?:"(?P<quoted>.*)"|(?P<atom>\S+))', listed)
    assert match, listed
    return (match["atom"] or re.sub(rb"\\(.)", rb"\1", match["quoted"])).decode()


def _stored(head: bytes, raw: bytes) -> Stored:
    match = re.search(rb'UID (\d+) INTERNALDATE "([^"]+)" FLAGS \(([^)]*)\)', head)
    assert match, head
    return Stored(int(match[1]), raw, match[2].decode(), frozenset(match[3].decode().split()))
