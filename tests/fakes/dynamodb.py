"""DynamoDB on the wire and in memory: as much of it as this project asks for, fast, and telling the truth.

``Tables`` applies requests, each as a whole under one lock; ``FakeDynamoDB`` is the HTTP server around
it, which lets every request take ``latency`` seconds and does to it what ``dynamodb_faults`` plans or
what ``on_request`` says. What is not spoken here is a ValidationException, never a guess. Held to the
same contract suite as moto.

Not here: expiry (TTL may lag by days), capacity, streams, pages of a Query, signatures.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from tests.fakes.dynamodb_expressions import Given, Item, ValidationError, holds, updated
from tests.fakes.dynamodb_faults import Answer, Delay, Fault, FaultPlan, Hang, Late, LostReply, Page, ReadOnly, Reset

MAX_ACTIONS: Final = 100
"""Of one TransactWriteItems, and keys of one BatchGetItem."""
MAX_ITEM: Final = 400 << 10
TOKEN_SECONDS: Final = 600.0
"""For so long a ClientRequestToken makes a repeated transaction the same one."""

Key = tuple[str, ...]
Request = dict[str, Any]
Reply = dict[str, Any]
OnRequest = Callable[[str, Request], Fault]
"""Told of every request in the thread that serves it, before it is applied; what it returns is done to it."""


class Failed(Exception):
    """An error reply."""

    def __init__(self, code: str, message: str = "", **more: Any) -> None:
        super().__init__(code)
        self.answer = Answer(400, code, message or code, more)


class Table:
    """Items by their key."""

    def __init__(self, name: str, definition: Request) -> None:
        self.name = name
        self.definition = definition
        self.keys = [part["AttributeName"] for part in definition["KeySchema"]]
        self.items: dict[Key, Item] = {}
        self.ttl: Mapping[str, Any] = {"TimeToLiveStatus": "DISABLED"}

    def key_of(self, attributes: Item, *, exact: bool) -> Key:
        """Return the key among ``attributes``, which are nothing else if ``exact``. Raises ValidationError."""
        try:
            key = tuple(attributes[name]["S"] for name in self.keys)
        except KeyError:
            key = ()
        if not key or not all(key) or (exact and len(attributes) != len(key)):
            raise ValidationError("The provided key element does not match the schema")
        return key

    def described(self) -> Reply:
        return {
            "TableName": self.name,
            "TableStatus": "ACTIVE",
            "KeySchema": self.definition["KeySchema"],
            "AttributeDefinitions": self.definition["AttributeDefinitions"],
            "ItemCount": len(self.items),
        }


class Tables:
    """All tables, and what may be asked of them: ``apply``."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.tables: dict[str, Table] = {}
        self._now = now
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[float, bytes]] = {}
        """When a transaction with this token went through, and what it was."""
        self._operations: Mapping[str, Callable[[Request], Reply]] = {
            "CreateTable": self._create_table,
            "DescribeTable": lambda request: {"Table": self._table(request).described()},
            "DescribeTimeToLive": lambda request: {"TimeToLiveDescription": self._table(request).ttl},
            "UpdateTimeToLive": self._update_ttl,
            "UpdateContinuousBackups": self._keep_backups,
            "GetItem": self._get,
            "BatchGetItem": self._batch_get,
            "Query": self._query,
            "PutItem": lambda request: self._write("Put", request),
            "UpdateItem": lambda request: self._write("Update", request),
            "DeleteItem": lambda request: self._write("Delete", request),
            "TransactWriteItems": self._transact,
        }

    def apply(self, operation: str, request: Request) -> Reply:
        """Apply one request, all of it or nothing. Raises Failed."""
        if operation not in self._operations:
            raise Failed("UnknownOperationException", operation)
        with self._lock:
            try:
                return self._operations[operation](request)
            except ValidationError as error:
                raise Failed("ValidationException", str(error)) from None

    def items(self, table: str) -> list[Item]:
        """Return what a table holds, as copies: here an item is replaced, and never changed."""
        with self._lock:
            return copy.deepcopy(list(self.tables[table].items.values()))

    def snapshot(self) -> dict[str, dict[Key, Item]]:
        """Return the items of all tables, for ``restore``."""
        with self._lock:
            return {name: dict(table.items) for name, table in self.tables.items()}

    def restore(self, snapshot: Mapping[str, Mapping[Key, Item]]) -> None:
        """Put all items back to what they were. No request that is under way is remembered."""
        with self._lock:
            self._tokens.clear()
            for name, items in snapshot.items():
                self.tables[name].items = dict(items)

    # -- tables

    def _table(self, request: Request) -> Table:
        name = request.get("TableName", "")
        if name not in self.tables:
            raise Failed("ResourceNotFoundException", f"Requested resource not found: Table: {name} not found")
        return self.tables[name]

    def _create_table(self, request: Request) -> Reply:
        name = request["TableName"]
        if name in self.tables:
            raise Failed("ResourceInUseException", f"Table already exists: {name}")
        self.tables[name] = Table(name, request)
        return {"TableDescription": self.tables[name].described()}

    def _update_ttl(self, request: Request) -> Reply:
        table, wanted = self._table(request), request["TimeToLiveSpecification"]
        if wanted["Enabled"] and table.ttl["TimeToLiveStatus"] == "ENABLED":
            raise ValidationError("TimeToLive is already enabled")
        status = "ENABLED" if wanted["Enabled"] else "DISABLED"
        table.ttl = {"TimeToLiveStatus": status, "AttributeName": wanted["AttributeName"]}
        return {"TimeToLiveSpecification": wanted}

    def _keep_backups(self, request: Request) -> Reply:
        self._table(request)
        return {"ContinuousBackupsDescription": {"ContinuousBackupsStatus": "ENABLED"}}

    # -- reading

    def _get(self, request: Request) -> Reply:
        _understood(request, "Key", "ConsistentRead")
        table = self._table(request)
        item = table.items.get(table.key_of(request["Key"], exact=True))
        return {} if item is None else {"Item": item}

    def _batch_get(self, request: Request) -> Reply:
        responses: dict[str, list[Item]] = {}
        for name, wanted in request["RequestItems"].items():
            _understood(wanted, "Keys", "ConsistentRead")
            table = self._table({"TableName": name})
            keys = [table.key_of(key, exact=True) for key in wanted["Keys"]]
            if not 0 < len(keys) <= MAX_ACTIONS:
                raise ValidationError("Too many items requested for the BatchGetItem call")
            if len(set(keys)) < len(keys):
                raise ValidationError("Provided list of item keys contains duplicates")
            responses[name] = [table.items[key] for key in keys if key in table.items]
        return {"Responses": responses, "UnprocessedKeys": {}}

    def _query(self, request: Request) -> Reply:
        _understood(request, "KeyConditionExpression", "ConsistentRead")
        table, given = self._table(request), _given(request)
        condition = request["KeyConditionExpression"]
        found = [item for key, item in sorted(table.items.items()) if holds(condition, item, given)]
        return {"Items": found, "Count": len(found)}

    # -- writing

    def _write(self, kind: str, request: Request) -> Reply:
        table, key, old, new, given = self._planned(kind, request)
        wanted = request.get("ReturnValues", "NONE")
        if wanted not in ("NONE", "ALL_OLD", *(["ALL_NEW"] if kind == "Update" else ())):
            raise ValidationError(f"ReturnValues {wanted} is not spoken here")
        if not _allowed(request, old, given):
            more = {"Item": old} if old and _wants_item(request) else {}
            raise Failed("ConditionalCheckFailedException", "The conditional request failed", **more)
        _store(table, key, new)
        shown = {"NONE": None, "ALL_OLD": old, "ALL_NEW": new}[wanted]
        return {"Attributes": shown} if shown else {}

    def _transact(self, request: Request) -> Reply:
        _understood(request, "TransactItems", "ClientRequestToken")
        token, asked = request.get("ClientRequestToken"), _digest(request["TransactItems"])
        if token is not None:
            since, known = self._tokens.get(token, (float("-inf"), b""))
            if self._now() - since < TOKEN_SECONDS:
                if known != asked:
                    raise Failed("IdempotentParameterMismatchException")
                return {}
        actions = [next(iter(action.items())) for action in request["TransactItems"]]
        if not 0 < len(actions) <= MAX_ACTIONS or any(len(action) != 1 for action in request["TransactItems"]):
            raise ValidationError("Member must have length less than or equal to 100")
        planned = [self._planned(kind, its) for kind, its in actions]
        if len({(table.name, key) for table, key, *_ in planned}) < len(planned):
            raise ValidationError("Transaction request cannot include multiple operations on one item")
        reasons: list[dict[str, Any]] = []
        for (_, its), (_, _, old, _, given) in zip(actions, planned, strict=True):
            failed = not _allowed(its, old, given)
            reason = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
            more = {"Item": old} if failed and old and _wants_item(its) else {}
            reasons.append({**reason, **more} if failed else {"Code": "None"})
        if codes := [reason["Code"] for reason in reasons if reason["Code"] != "None"]:
            told = f"Transaction cancelled, please refer cancellation reasons for specific reasons {codes}"
            raise Failed("TransactionCanceledException", told, CancellationReasons=reasons)
        for table, key, _, new, _ in planned:
            _store(table, key, new)
        if token is not None:
            self._tokens[token] = (self._now(), asked)
        return {}

    def _planned(self, kind: str, request: Request) -> tuple[Table, Key, Item, Item | None, Given]:
        """Return what a write is about: where, what is there, what would be there, and what it gave for that."""
        table, given = self._table(request), _given(request)
        common = ("ConditionExpression", "ReturnValues", "ReturnValuesOnConditionCheckFailure")
        if kind == "Put":
            _understood(request, "Item", *common)
            key = table.key_of(request["Item"], exact=False)
            return table, key, table.items.get(key, {}), request["Item"], given
        if kind not in ("Update", "Delete"):
            raise ValidationError(f"{kind} is not spoken here")
        _understood(request, "Key", *common, *(["UpdateExpression"] if kind == "Update" else ()))
        key = table.key_of(request["Key"], exact=True)
        old = table.items.get(key, {})
        if kind == "Delete":
            return table, key, old, None, given
        new = updated(request.get("UpdateExpression"), {**old, **request["Key"]}, given)
        if table.key_of(new, exact=False) != key:
            raise ValidationError("Cannot update attribute. This attribute is part of the key")
        return table, key, old, new, given


def _allowed(request: Request, old: Item, given: Given) -> bool:
    """Tell whether the condition holds. Raises ValidationError: a name or value was given and not used."""
    allowed = holds(request.get("ConditionExpression"), old, given)
    given.check_all_used()
    return allowed


def _digest(asked: object) -> bytes:
    """Return by what a request is known again, as the SDK repeats it: in the same order."""
    return hashlib.sha256(json.dumps(asked).encode()).digest()


def _given(request: Request) -> Given:
    return Given(request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {}))


def _understood(request: Request, *parameters: str) -> None:
    """Raise ValidationError: the request has a parameter that would go unheeded."""
    common = {"TableName", "ExpressionAttributeNames", "ExpressionAttributeValues", "ReturnConsumedCapacity"}
    if left := request.keys() - common - {*parameters}:
        raise ValidationError(f"not spoken here: {', '.join(sorted(left))}")


def _wants_item(request: Request) -> bool:
    return bool(request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD")


def _store(table: Table, key: Key, new: Item | None) -> None:
    if new is None:
        table.items.pop(key, None)
        return
    if _size(new) > MAX_ITEM:
        raise ValidationError("Item size has exceeded the maximum allowed size")
    table.items[key] = new


def _size(value: object) -> int:
    """Return about how many octets an item, or a part of it, takes."""
    if isinstance(value, Mapping):
        return sum(len(name) + _size(part) for name, part in value.items())
    return sum(map(_size, value)) if isinstance(value, list) else len(str(value))


class FakeDynamoDB(FaultPlan):
    """The server; a context manager. ``tables`` may be looked at, and shared with another server, at any time."""

    def __init__(self, *, latency: float = 0.0, on_request: OnRequest | None = None) -> None:
        super().__init__()
        self.tables = Tables()
        self.latency = latency
        """Seconds that every request takes, its work included."""
        self.on_request = on_request
        self._late: list[tuple[str, Request]] = []
        self._closing = threading.Event()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._guard = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, name="FakeDynamoDB accepts", daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        self._listener.close()
        with self._guard:
            connections = dict(self._connections)
        for sock, thread in connections.items():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join(10)

    def let_late_ones_in(self) -> int:
        """Apply the requests that were held back; return how many they were."""
        with self._guard:
            late, self._late = self._late, []
        for operation, request in late:
            with contextlib.suppress(Failed):
                self.tables.apply(operation, request)
        return len(late)

    # -- threads

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(sock,), name="FakeDynamoDB connection", daemon=True)
            with self._guard:
                self._connections[sock] = thread
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock, sock.makefile("rb") as requests, contextlib.suppress(OSError):
                while (asked := _read(requests)) is not None:
                    said = self._answer(*asked)
                    if said is None:
                        sock.shutdown(socket.SHUT_RDWR)
                        return
                    sock.sendall(_http(*said))
        finally:
            with self._guard:
                self._connections.pop(sock, None)

    # -- one request

    def _answer(self, operation: str, body: bytes) -> tuple[int, bytes] | None:
        """Return status and body; None: the connection ends without a word."""
        began = time.monotonic()
        request = json.loads(body)
        fault = self.next_fault(operation, request)
        if self.on_request is not None:
            fault = fault or self.on_request(operation, request)
        if isinstance(fault, Delay):
            self._closing.wait(fault.seconds)
            began += fault.seconds
        said = self._done(operation, request, fault)
        left = began + self.latency - time.monotonic()
        if self.latency and left > 0:
            self._closing.wait(left)
        return said

    def _done(self, operation: str, request: Request, fault: Fault) -> tuple[int, bytes] | None:
        if isinstance(fault, Answer):
            return fault.status, fault.body()
        if isinstance(fault, Page):
            return 200, fault.body
        if isinstance(fault, Hang):
            self._closing.wait()
        if isinstance(fault, Late):
            with self._guard:
                self._late.append((operation, request))
        if isinstance(fault, Hang | Late | Reset):
            return None
        if isinstance(fault, ReadOnly):
            return 200, json.dumps(self._read_some(request, fault.keys)).encode()
        try:
            said = 200, json.dumps(self.tables.apply(operation, request)).encode()
        except Failed as failed:
            said = failed.answer.status, failed.answer.body()
        return None if isinstance(fault, LostReply) else said

    def _read_some(self, request: Request, keys: int) -> Reply:
        ((table, wanted),) = request["RequestItems"].items()
        some = {table: {**wanted, "Keys": wanted["Keys"][:keys]}}
        read = self.tables.apply("BatchGetItem", {"RequestItems": some}) if keys else {"Responses": {table: []}}
        return {**read, "UnprocessedKeys": {table: {**wanted, "Keys": wanted["Keys"][keys:]}}}


def _read(stream: Any) -> tuple[str, bytes] | None:
    """Return operation and body of the next request; None: the client has gone."""
    operation, length = "", 0
    if not stream.readline():
        return None
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"x-amz-target":
            operation = value.strip().decode().rpartition(".")[2]
        elif name.lower() == b"content-length":
            length = int(value)
    return operation, stream.read(length)


def _http(status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} {'OK' if status == 200 else 'Bad Request'}\r\n"
        f"Content-Type: application/x-amz-json-1.0\r\nx-amz-crc32: {zlib.crc32(body)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
