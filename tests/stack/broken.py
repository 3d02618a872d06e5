"""Things that can be broken on purpose, each with the cause that ``syncer doctor`` has to name first.

``docs/doctor.md`` shows this list, and a test compares the two.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
import trustme

from syncer.demo.authority import GMAIL_SCOPE, HTML_WELCOME_PAGE, SERVER_BUSY
from syncer.demo.authority import Answer as TokenAnswer
from syncer.dynamodb_records import Item, fail_item, fail_sk, partition_key, uid_item, uid_sk, watermark_item
from syncer.model import (
    FailRecord,
    Fence,
    Fingerprint,
    Identity,
    MessageKey,
    Side,
    Status,
    UidRecord,
    Watermark,
)
from syncer.uid_set import UidSet
from tests.fakes.dynamodb_faults import DENIED, Answer, Page
from tests.fakes.dynamodb_proxy import DynamoDBProxy
from tests.fakes.faults import FOREVER, TOO_MANY_CONNECTIONS, WEB_LOGIN, on, throttled
from tests.fakes.gmail import FakeGmail
from tests.stack.pair import GMAIL, OUTLOOK, FakePair, letter

DAY: Final = 86_400.0
OPERATIONS: Final = (
    *("DescribeTable", "DescribeTimeToLive", "GetItem", "BatchGetItem", "UpdateItem", "PutItem", "DeleteItem"),
    *("TransactWriteItems", "Query"),
)
_numbers = itertools.count(1)

Settings = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scene:
    """A pair of accounts in order, and what is put in its way for one test."""

    pair: FakePair
    folder: Path
    undo: ExitStack

    # -- AWS

    @property
    def client(self) -> Any:
        given = self.pair.stack.aws.environment()
        keys = {name.lower(): given[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        made = boto3.client("dynamodb", endpoint_url=self.pair.stack.aws.endpoint, region_name="eu-west-1", **keys)
        self.undo.callback(made.close)
        return made

    def table(self, *records: Item, keys: tuple[str, str] = ("PK", "SK"), ttl: bool = True) -> Settings:
        """Make a table of this test's own."""
        name = f"syncer-broken-{next(_numbers)}"
        roles = dict(zip(keys, ("HASH", "RANGE"), strict=True))
        client = self.client
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in roles],
            KeySchema=[{"AttributeName": key, "KeyType": role} for key, role in roles.items()],
        )
        if ttl:
            specification = {"Enabled": True, "AttributeName": "ttl"}
            client.update_time_to_live(TableName=name, TimeToLiveSpecification=specification)
        for record in records:
            client.put_item(TableName=name, Item=record)
        return {"DYNAMODB_TABLE": name}

    def remembering(self, watermark: Watermark, *records: Item, **lease: Mapping[str, str]) -> Settings:
        """Make a table in which cycles have left a watermark."""
        return self.table({**key_of("WATERMARK"), **watermark_item(watermark), **lease}, *records)

    def proxy(self, fault: Answer | Page, *operations: str) -> Settings:
        """Have AWS answer these operations in its own way."""
        upstream = urlsplit(self.pair.stack.aws.endpoint)
        proxy = self.undo.enter_context(DynamoDBProxy(str(upstream.hostname), upstream.port or 0))
        for operation in operations:
            proxy.plan_always(operation, fault)
        return {"AWS_ENDPOINT_URL": proxy.url}

    def secret(self, value: str | None = "{}") -> Settings:
        given = self.pair.stack.aws.environment()
        keys = {name.lower(): given[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        endpoint = self.pair.stack.aws.endpoint
        name = f"tokens-{next(_numbers)}"
        client = boto3.client("secretsmanager", endpoint_url=endpoint, region_name="eu-west-1", **keys)
        if value is not None:
            client.create_secret(Name=name, SecretString=value)
        client.close()
        return {"TOKENS_FILE": "", "TOKENS_SECRET_ID": name}

    # -- certificates

    def gmail_with(self, issued: trustme.LeafCert | trustme.CA, ca: trustme.CA | None = None) -> Settings:
        """Put another Gmail in its place, with this certificate; ``ca`` is trusted as well."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pem = self.folder / "server.pem"
        if isinstance(issued, trustme.CA):
            pem.write_bytes(issued.cert_pem.bytes() + issued.private_key_pem.bytes())
        else:
            pem.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        context.load_cert_chain(pem)
        authority = self.pair.stack.authority
        server = self.undo.enter_context(FakeGmail(lambda u, t: authority.check(u, t, Side.SOURCE), context))
        trusted = self.folder / "trusted.pem"
        ours = Path(self.pair.stack.program.environment["SSL_CERT_FILE"]).read_bytes()
        trusted.write_bytes(ours + (ca.cert_pem.bytes() if ca else b""))
        return {"GMAIL_IMAP_PORT": str(server.port), "SSL_CERT_FILE": str(trusted)}

    # -- the clock

    def clock(self, ahead: float) -> Settings:
        """Set the clock of the program's machine."""
        text = f"import time\nreal = time.time\ntime.time = lambda: real() + {ahead}\n"
        (self.folder / "sitecustomize.py").write_text(text)
        before = self.pair.stack.program.environment["PYTHONPATH"]
        return {"PYTHONPATH": f"{self.folder}{os.pathsep}{before}"}


def key_of(sk: str) -> Item:
    return {"PK": {"S": partition_key(GMAIL, OUTLOOK)}, "SK": {"S": sk}}


def worked(**changes: Any) -> Watermark:
    """Return the watermark of a program that works."""
    done = Watermark(
        uidvalidity=1,
        last_uid=3,
        horizon=3,
        completed_at=time.time() - 60,
        source_mailbox="INBOX",
        destination_mailbox="Gmail",
    )
    return replace(done, **changes)


def in_doubt(claimed_at: float, uidvalidity: int = 15, unclear: str = "") -> Item:
    key = MessageKey(1, 3)
    record = UidRecord(
        key,
        Status.PENDING,
        Identity("1278455344230334865"),
        attempt="a" * 32,
        run_id="a-run",
        claimed_at=claimed_at,
        fence=Fence(uidvalidity, 1),
        fingerprint=Fingerprint("", 0, "", "", ""),
        internaldate="22-Nov-2026 10:00:00 +0000",
        unclear=unclear,
    )
    return {**key_of(uid_sk(key)), **uid_item(record)}


def failure(*, given_up: bool) -> Item:
    key = MessageKey(1, 2)
    now = time.time()
    record = FailRecord(key, "BAD Command Argument Error. 11", 2, now, now + 3600, given_up=given_up)
    return {**key_of(fail_sk(key)), **fail_item(record, int(now + 90 * DAY))}


Break = Callable[[Scene], Settings]


@dataclass(frozen=True, slots=True)
class Broken:
    """One broken thing."""

    what: str
    cause: str
    """Name of the check that has to be named first."""
    exit_code: int
    by: Break
    says: str
    """What has to be read in the first cause or its remedy."""


def _given(**settings: str) -> Break:
    return lambda _: settings


def _denied(*operations: str) -> Break:
    return lambda scene: scene.proxy(DENIED, *operations)


def _refused(code: str) -> Break:
    return lambda scene: scene.proxy(Answer(400, code, "no"), *OPERATIONS)


def _page(body: bytes, *operations: str) -> Break:
    return lambda scene: scene.proxy(Page(body), *operations)


def _remembered(*records: Item, **changes: Any) -> Break:
    return lambda scene: scene.remembering(worked(**changes), *records)


def _certificate(*names: str, begins: int = -10, ends: int = 300, trusted: bool = True) -> Break:
    """Give Gmail's server a certificate that is valid from and until so many days from now."""

    def by(scene: Scene) -> Settings:
        ca, now = trustme.CA(), datetime.now(UTC)
        first, last = now + timedelta(days=begins), now + timedelta(days=ends)
        issued = ca.issue_cert(*(names or ("localhost",)), not_before=first, not_after=last)
        return scene.gmail_with(issued, ca if trusted else None)

    return by


def _closed_port(setting: str) -> Break:
    def by(_: Scene) -> Settings:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return {setting: str(listener.getsockname()[1])}

    return by


def _plain_server(scene: Scene) -> Settings:
    return {"GMAIL_IMAP_PORT": str(scene.undo.enter_context(FakeGmail(lambda _u, _t: True)).port)}


def _tokens(text: str, mode: int = 0o600) -> Break:
    def by(scene: Scene) -> Settings:
        path = scene.folder / "broken.json"
        path.write_text(text)
        path.chmod(mode)
        return {"TOKENS_FILE": str(path)}

    return by


def _secret(fault: Answer | None, *operations: str, value: str | None = "{}") -> Break:
    return lambda scene: {**scene.secret(value), **(scene.proxy(fault, *operations) if fault else {})}


def _no_store(scene: Scene) -> Settings:
    return {**scene.remembering(worked()), "TOKENS_FILE": ""}


def _answered(side: Side, answer: TokenAnswer) -> Break:
    def by(scene: Scene) -> Settings:
        scene.pair.stack.authority.answer_next(side, answer)
        return {}

    return by


def _scope(side: Side, scope: str) -> Break:
    def by(scene: Scene) -> Settings:
        scopes = scene.pair.stack.authority.scopes
        scene.undo.callback(scopes.__setitem__, side, scopes[side])
        scopes[side] = scope
        return {}

    return by


def _testing(scene: Scene) -> Settings:
    token = scene.pair.stack.authority.issue_access_token(scene.pair.stack.gmail)
    answer = TokenAnswer.of(
        200,
        access_token=token,
        expires_in=3599,
        scope=GMAIL_SCOPE,
        token_type="Bearer",
        refresh_token_expires_in=518400,
    )
    return _answered(Side.SOURCE, answer)(scene)


def _gmail(verb: str, action: Any) -> Break:
    def by(scene: Scene) -> Settings:
        scene.pair.source.misbehave(on(verb), action, times=FOREVER)
        return {}

    return by


def _outlook(verb: str, action: Any) -> Break:
    def by(scene: Scene) -> Settings:
        scene.pair.destination.misbehave(on(verb), action, times=FOREVER)
        return {}

    return by


def _not_connected(scene: Scene) -> Settings:
    scene.pair.destination.lose_backend()
    return {}


def _full_folder(scene: Scene) -> Settings:
    inbox = scene.pair.source.inbox
    uids = [inbox.add(letter(1), msgid=n).uid for n in range(1000 - len(inbox.uids))]
    scene.undo.callback(lambda: [inbox.remove(uid) for uid in uids])
    return {}


def _append_limit(scene: Scene) -> Settings:
    server = scene.pair.destination
    before = server.capabilities

    def smaller(*, signed_in: bool) -> str:
        return f"{before(signed_in=signed_in)} APPENDLIMIT=1048576"

    server.capabilities = smaller  # type: ignore[method-assign]
    scene.undo.callback(setattr, server, "capabilities", before)
    return {}


def _with_lease(seconds: float) -> Break:
    def by(scene: Scene) -> Settings:
        until = {"N": str(int(time.time() + seconds))}
        return scene.remembering(worked(), lease_owner={"S": "another run"}, lease_until=until, generation={"N": "7"})

    return by


def _folder_made_anew(scene: Scene) -> Settings:
    watermark = worked(open={1: UidSet([3])})
    gone = scene.pair.destination.mailbox("Gmail").uidvalidity - 1
    return scene.remembering(watermark, in_doubt(time.time() - 900, gone))


def _in_doubt(scene: Scene) -> Settings:
    there = scene.pair.destination.mailbox("Gmail").uidvalidity
    return scene.remembering(worked(open={1: UidSet([3])}), in_doubt(time.time() - 900, there))


def _undecidable(scene: Scene) -> Settings:
    there = scene.pair.destination.mailbox("Gmail").uidvalidity
    return scene.remembering(worked(open={1: UidSet([3])}), in_doubt(time.time() - 900, there, "it may have moved"))


def _later(seconds: float) -> float:
    return time.time() + seconds


NOWHERE: Final = "no-such-host.invalid"
CREATING: Final = json.dumps({"Table": {"TableStatus": "CREATING"}}).encode()
REVOKED: Final = "revoked-token"

BROKEN: Final[tuple[Broken, ...]] = (
    Broken("a port that is no number", "settings", 78, _given(GMAIL_IMAP_PORT="imap"), "GMAIL_IMAP_PORT"),
    Broken("both addresses missing", "settings", 78, _given(GMAIL_EMAIL="", OUTLOOK_EMAIL=""), "OUTLOOK_EMAIL"),
    Broken("two places for tokens", "settings", 78, _given(TOKENS_SECRET_ID="tokens"), "exclude each other"),
    Broken("this machine's clock three hours ahead", "clock", 75, lambda s: s.clock(3 * 3600 + 9), "3 hours ahead"),
    Broken("this machine's clock 100 seconds behind", "clock", 0, lambda s: s.clock(-100), "100 seconds behind"),
    Broken(
        "an AWS endpoint that does not exist",
        "dns.dynamodb",
        75,
        _given(AWS_ENDPOINT_URL=f"http://{NOWHERE}"),
        "AWS_ENDPOINT_URL",
    ),
    Broken("a Gmail host name that does not exist", "dns.gmail_imap", 75, _given(GMAIL_IMAP_HOST=NOWHERE), NOWHERE),
    Broken(
        "an Outlook.com host name that does not exist",
        "dns.outlook_imap",
        75,
        _given(OUTLOOK_IMAP_HOST=NOWHERE),
        NOWHERE,
    ),
    Broken(
        "a Google sign-in host that does not exist",
        "dns.gmail_token",
        75,
        _given(GMAIL_TOKEN_URI=f"https://{NOWHERE}/token"),
        NOWHERE,
    ),
    Broken(
        "a Microsoft sign-in host that does not exist",
        "dns.microsoft_token",
        75,
        _given(MS_AUTHORITY=f"https://{NOWHERE}"),
        NOWHERE,
    ),
    Broken("an expired certificate", "tls.gmail_imap", 75, _certificate(ends=-1), "has expired on"),
    Broken("a certificate that is not valid yet", "tls.gmail_imap", 75, _certificate(begins=2), "set the clock"),
    Broken(
        "a certificate for another host",
        "tls.gmail_imap",
        75,
        _certificate("elsewhere.example"),
        "for elsewhere.example",
    ),
    Broken("a certificate of an unknown authority", "tls.gmail_imap", 75, _certificate(trusted=False), "SSL_CERT_FILE"),
    Broken("a self-signed certificate", "tls.gmail_imap", 75, lambda s: s.gmail_with(trustme.CA()), "signed by itself"),
    Broken(
        "`REQUESTS_CA_BUNDLE` not set for a private sign-in service",
        "tls.gmail_token",
        75,
        _given(REQUESTS_CA_BUNDLE=""),
        "REQUESTS_CA_BUNDLE",
    ),
    Broken(
        "`REQUESTS_CA_BUNDLE` names a file that is not there",
        "tls.gmail_token",
        75,
        _given(REQUESTS_CA_BUNDLE="/nowhere.pem"),
        "REQUESTS_CA_BUNDLE",
    ),
    Broken(
        "`SSL_CERT_FILE` names a file that is not there",
        "tls.gmail_imap",
        75,
        _given(SSL_CERT_FILE="/nowhere.pem"),
        "correct SSL_CERT_FILE",
    ),
    Broken(
        "a port where nothing listens", "tls.outlook_imap", 75, _closed_port("OUTLOOK_IMAP_PORT"), "nothing listens"
    ),
    Broken("a port that does not speak TLS", "tls.gmail_imap", 75, _plain_server, "does not speak TLS"),
    Broken(
        "no AWS credentials",
        "aws.credentials",
        75,
        _given(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", AWS_EC2_METADATA_DISABLED="true", HOME="/nonexistent"),
        "AWS_ACCESS_KEY_ID",
    ),
    Broken(
        "AWS credentials that AWS does not know",
        "aws.credentials",
        75,
        _refused("UnrecognizedClientException"),
        "AWS_SECRET_ACCESS_KEY",
    ),
    Broken(
        "an AWS session that has expired", "aws.credentials", 75, _refused("ExpiredTokenException"), "renew the session"
    ),
    Broken(
        "a portal that answers everything with its own page",
        "aws.credentials",
        75,
        _page(b"{}", *OPERATIONS),
        "AWS_ENDPOINT_URL",
    ),
    Broken(
        "a table that does not exist",
        "dynamodb.table",
        75,
        _given(DYNAMODB_TABLE="no-such-table"),
        "syncer table create",
    ),
    Broken("a table that is still being made", "dynamodb.table", 75, _page(CREATING, "DescribeTable"), "is CREATING"),
    Broken("another program's table", "dynamodb.keys", 78, lambda s: s.table(keys=("id", "sort")), "PK (S), SK (S)"),
    Broken("TTL off", "dynamodb.ttl", 0, lambda s: s.table(ttl=False), "syncer table create"),
    Broken(
        "`dynamodb:BatchGetItem` denied", "dynamodb.batch_get_item", 75, _denied("BatchGetItem"), "denies dynamodb:"
    ),
    Broken("`dynamodb:UpdateItem` denied", "dynamodb.update_item", 75, _denied("UpdateItem"), "denies dynamodb:"),
    Broken("`dynamodb:PutItem` denied", "dynamodb.put_item", 75, _denied("PutItem"), "denies dynamodb:PutItem"),
    Broken("`dynamodb:DeleteItem` denied", "dynamodb.delete_item", 75, _denied("DeleteItem"), "denies dynamodb:"),
    Broken(
        "transactions denied", "dynamodb.transact_write_items", 75, _denied("TransactWriteItems"), "denies dynamodb:"
    ),
    Broken(
        "a damaged record of progress",
        "records.watermark",
        75,
        lambda s: s.table({**key_of("WATERMARK"), "last_uid": {"S": "x"}}),
        "WATERMARK",
    ),
    Broken("a lease held far beyond `LEASE_SECONDS`", "records.lease", 0, _with_lease(7200), "its clock is ahead"),
    Broken(
        "`GMAIL_SOURCE_FOLDER` changed",
        "records.folders",
        78,
        _remembered(source_mailbox="Label"),
        "set GMAIL_SOURCE_FOLDER back",
    ),
    Broken(
        "`OUTLOOK_TARGET_FOLDER` changed with a message in doubt",
        "records.folders",
        78,
        _remembered(destination_mailbox="Old", open={1: UidSet([3])}),
        "OUTLOOK_TARGET_FOLDER back",
    ),
    Broken("no place for tokens", "tokens.place", 0, _no_store, "TOKENS_FILE"),
    Broken("a token file that others can read", "tokens.read", 78, _tokens("{}", 0o644), "chmod 600"),
    Broken("a damaged token file", "tokens.read", 78, _tokens("not JSON"), "TOKENS_FILE"),
    Broken(
        "a token file in a folder that is not there",
        "tokens.read",
        78,
        _given(TOKENS_FILE="/no/such/tokens.json"),
        "make the folder",
    ),
    Broken(
        "a token file in a folder that cannot be written",
        "tokens.write",
        78,
        _given(TOKENS_FILE="/proc/self/tokens.json"),
        "writable",
    ),
    Broken("a secret that does not exist", "tokens.read", 78, _secret(None, value=None), "create it"),
    Broken(
        "`secretsmanager:GetSecretValue` denied",
        "tokens.read",
        78,
        _secret(DENIED, "GetSecretValue"),
        "secretsmanager:GetSecretValue",
    ),
    Broken(
        "`secretsmanager:PutSecretValue` denied",
        "tokens.write",
        78,
        _secret(DENIED, "PutSecretValue"),
        "secretsmanager:PutSecretValue",
    ),
    Broken("nobody signed in at Google", "gmail.token", 78, _given(GMAIL_REFRESH_TOKEN=""), "syncer auth gmail"),
    Broken("nobody signed in at Microsoft", "outlook.token", 78, _given(MS_REFRESH_TOKEN=""), "syncer auth outlook"),
    Broken("Google's consent withdrawn", "gmail.refresh", 77, _given(GMAIL_REFRESH_TOKEN=REVOKED), "syncer auth gmail"),
    Broken(
        "Microsoft's consent withdrawn", "outlook.refresh", 77, _given(MS_REFRESH_TOKEN=REVOKED), "syncer auth outlook"
    ),
    Broken(
        "a wrong Google client secret",
        "gmail.refresh",
        77,
        _given(GMAIL_CLIENT_SECRET="GOCSPX-another"),
        "GMAIL_CLIENT_SECRET",
    ),
    Broken("Google's sign-in service down", "gmail.refresh", 75, _answered(Side.SOURCE, SERVER_BUSY), "try again"),
    Broken(
        "a portal before Microsoft's sign-in service",
        "outlook.refresh",
        75,
        _answered(Side.DESTINATION, HTML_WELCOME_PAGE),
        "try again",
    ),
    Broken("Google's box for the mail not ticked", "gmail.scope", 77, _scope(Side.SOURCE, "openid"), "tick the box"),
    Broken(
        "Microsoft's permission for IMAP not granted",
        "outlook.scope",
        77,
        _scope(Side.DESTINATION, "openid"),
        "syncer auth outlook",
    ),
    Broken("a Google project in Testing", "gmail.forecast", 0, _testing, "In production"),
    Broken(
        "Gmail asked to be left alone",
        "gmail.hold",
        75,
        lambda s: _remembered(not_before={Side.SOURCE: _later(3000)})(s),
        "left alone until",
    ),
    Broken(
        "Outlook.com asked to be left alone",
        "outlook.hold",
        75,
        lambda s: _remembered(not_before={Side.DESTINATION: _later(300)})(s),
        "left alone until",
    ),
    Broken(
        "another Gmail account signed in", "gmail.sign_in", 77, _given(GMAIL_EMAIL="other@gmail.example"), "GMAIL_EMAIL"
    ),
    Broken(
        "an alias instead of the Outlook.com address",
        "outlook.sign_in",
        77,
        _given(OUTLOOK_EMAIL="alias@outlook.example"),
        "primary address",
    ),
    Broken("Google wants to see a person", "gmail.sign_in", 77, _gmail("AUTHENTICATE", WEB_LOGIN), "in a web browser"),
    Broken(
        "too many connections to Gmail",
        "gmail.sign_in",
        75,
        _gmail("AUTHENTICATE", TOO_MANY_CONNECTIONS),
        "wait 10 min",
    ),
    Broken(
        "a label that does not exist",
        "gmail.mailbox",
        78,
        lambda s: {**s.table(), "GMAIL_SOURCE_FOLDER": "Nowhere"},
        "GMAIL_SOURCE_FOLDER",
    ),
    Broken("Gmail's folder size limit", "gmail.size_limit", 0, _full_folder, "Do not limit"),
    Broken(
        "the Gmail mailbox numbered anew", "gmail.uidvalidity", 0, _remembered(uidvalidity=9), "copies nothing twice"
    ),
    Broken("IMAP switched off in Outlook.com", "outlook.reach", 75, _not_connected, "Forwarding and IMAP"),
    Broken("Outlook.com throttles", "outlook.reach", 75, _outlook("STATUS", throttled(180_000)), "wait 3 min"),
    Broken(
        "a server that takes smaller messages only",
        "outlook.append_limit",
        0,
        _append_limit,
        "MAX_MESSAGE_BYTES=1048576",
    ),
    Broken(
        "a missing folder that may not be made",
        "outlook.folder",
        78,
        _given(OUTLOOK_TARGET_FOLDER="New", OUTLOOK_CREATE_FOLDER="false"),
        "OUTLOOK_CREATE_FOLDER=true",
    ),
    Broken(
        "a folder name that Outlook.com reserves",
        "outlook.folder",
        78,
        _given(OUTLOOK_TARGET_FOLDER="Files"),
        "keeps the name",
    ),
    Broken("the folder made anew, with a message in doubt", "outlook.uidvalidity", 0, _folder_made_anew, "made anew"),
    Broken("Outlook.com refuses everything", "records.outages", 0, _remembered(outages=3), "is full"),
    Broken(
        "a message that failed",
        "records.failing",
        0,
        lambda s: s.remembering(worked(failing={1: UidSet([2])}, next_try_at=_later(3600)), failure(given_up=False)),
        "Error. 11",
    ),
    Broken(
        "a message that was given up",
        "records.given_up",
        0,
        lambda s: s.remembering(worked(), failure(given_up=True)),
        "UID 2",
    ),
    Broken("a message in doubt", "records.in_doubt", 0, _in_doubt, "15 minutes"),
    Broken("a message in doubt of which no look can tell", "records.in_doubt", 0, _undecidable, "no look can tell"),
    Broken(
        "no good cycle for three hours",
        "records.last_cycle",
        0,
        lambda s: _remembered(completed_at=_later(-3 * 3600))(s),
        "syncer daemon",
    ),
    Broken(
        "no good cycle for three days",
        "records.last_cycle",
        75,
        lambda s: _remembered(completed_at=_later(-3 * DAY))(s),
        "3 days ago",
    ),
    Broken("`dynamodb:GetItem` denied", "dynamodb.get_item", 0, _denied("GetItem"), "dynamodb:GetItem"),
)


@contextmanager
def scene(pair: FakePair, folder: Path) -> Iterator[Scene]:
    """Give a test a pair in order; what it broke is whole again afterwards."""
    with ExitStack() as undo:
        undo.callback(pair.source.faults.clear)
        undo.callback(pair.destination.faults.clear)
        undo.callback(pair.destination.regain_backend)
        yield Scene(pair, folder, undo)
