"""DynamoDB: credentials, the table, and each permission by a call that cannot change anything.

The writes carry a condition that nothing can meet, on a record that is not there, in the partition of the
two accounts (so that a policy which allows that partition only is tried as it is). Refused by its
condition means: allowed. AWS bills each as one write.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from syncer.config import Config
from syncer.diagnosis import Check, Found, fail, not_tried, ok, warn
from syncer.dynamodb_client import NOT_DYNAMODB, Refused, call, code_of, make_client, translated
from syncer.dynamodb_records import partition_key
from syncer.dynamodb_table import KEY_SCHEMA, TTL_ATTRIBUTE
from syncer.dynamodb_writes import conditional
from syncer.errors import StateUnavailable
from syncer.model import EXIT_CONFIG

SETTINGS: Final = ("AWS_REGION", "DYNAMODB_TABLE", "AWS_ENDPOINT_URL")
NEVER: Final = "attribute_exists(#PK) AND attribute_not_exists(#PK)"

_NOT_ACCEPTED: Final = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "MissingAuthenticationTokenException",
        "ExpiredTokenException",
        "ExpiredToken",
        "IncompleteSignature",
    }
)
_DENIED: Final = frozenset({"AccessDeniedException", "AccessDenied"})
_ALLOW: Final = "allow {} on the table in the policy of the role or user that runs this"

USABLE: Final = (
    "dynamodb.batch_get_item",
    "dynamodb.update_item",
    "dynamodb.put_item",
    "dynamodb.delete_item",
    "dynamodb.transact_write_items",
)
"""The checks that prove DynamoDB can be read and written, without which nothing else may be touched."""


class State:
    """The table, as this program's credentials see it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = config.dynamodb_table
        self._made: Any = None
        self._description: Mapping[str, Any] | None = None
        key = partition_key(config.gmail_email, config.outlook_email)
        self._key = {"PK": {"S": key}, "SK": {"S": f"DOCTOR#{uuid.uuid4().hex}"}}

    def checks(self) -> list[Check]:
        """Return the checks, credentials first."""
        write = conditional(NEVER, {":one": {"N": "1"}}, "SET #doctor = :one")
        plain = conditional(NEVER, {})
        at = {"TableName": self._table}
        calls: list[tuple[str, str, Mapping[str, Any]]] = [
            ("batch_get_item", "read records", {"RequestItems": {self._table: {"Keys": [self._key]}}}),
            ("update_item", "update a record", {**at, "Key": self._key, **write}),
            ("put_item", "put a record", {**at, "Item": self._key, **plain}),
            ("delete_item", "delete a record", {**at, "Key": self._key, **plain}),
            (
                "transact_write_items",
                "write records, all or none",
                {"TransactItems": [{"Put": {**at, "Item": self._key, **plain}}]},
            ),
        ]
        table = ("dynamodb.table", "dynamodb.keys")
        return [
            Check("aws.credentials", "AWS credentials", self._credentials, ("tls.dynamodb",), SETTINGS),
            Check("dynamodb.table", "table in DynamoDB", self._is_there, ("aws.credentials",), SETTINGS),
            Check("dynamodb.keys", "keys of the table", self._keys, ("dynamodb.table",), SETTINGS),
            Check("dynamodb.ttl", "expiry of old records", self._ttl, ("dynamodb.table",), SETTINGS),
            *(
                Check(f"dynamodb.{name}", title, lambda n=name, r=request: self._allowed(n, r), table, SETTINGS)  # type: ignore[misc]
                for name, title, request in calls
            ),
        ]

    def last_check(self) -> Check:
        """Return the check of what a cycle can do without: its warning must not hide one that matters more."""
        needs = ("dynamodb.table", "dynamodb.keys")
        return Check("dynamodb.get_item", "read one record (dry run)", self._get, needs, SETTINGS)

    @property
    def client(self) -> Any:
        """The client, made when first asked for. Raises StateUnavailable, ConfigError."""
        if self._made is None:
            self._made = make_client(self._config.aws_region, self._config.aws_endpoint_url)
        return self._made

    def _credentials(self) -> Found:
        import boto3

        try:
            client = self.client
            # What refuses to say who is asking says so to any request; this one reads nothing.
            code, said, answer = self._attempt("batch_get_item", {"RequestItems": {self._table: {"Keys": [self._key]}}})
            credentials = boto3.Session().get_credentials()
        except StateUnavailable as error:
            return split(error)
        if said is not None and (code in _NOT_ACCEPTED or not code):
            return said
        if said is None and "Responses" not in answer:
            return _NOT_DYNAMODB
        found = getattr(credentials, "method", None) or "the SDK"
        return ok(f"accepted in {client.meta.region_name}; found by: {found}")

    def _attempt(self, operation: str, request: Mapping[str, Any]) -> tuple[str, Found | None, Mapping[str, Any]]:
        """Make a call; return the name of the error, the fault it stands for, and the answer if there is no fault."""
        from botocore.exceptions import ClientError

        code, answer = "", {}
        try:
            with translated(self._table, self.client.meta.region_name):
                try:
                    answer = getattr(self.client, operation)(**request)
                except ClientError as error:
                    code = code_of(error)
                    raise
        except StateUnavailable as error:
            return code, split(error), {}
        return code, None, answer

    def _is_there(self) -> Found:
        code, said, answer = self._attempt("describe_table", {"TableName": self._table})
        if code in _DENIED:
            return not_tried("AWS denies dynamodb:DescribeTable here; a cycle does not need it")
        if said is not None:
            return said
        if "Table" not in answer:
            return _NOT_DYNAMODB
        self._description = answer["Table"]
        status = str(answer["Table"].get("TableStatus"))
        if status in ("ACTIVE", "UPDATING"):
            return ok(f"{self._table} is {status}")
        return fail(f"table {self._table} is {status}", "try again in a minute; if it stays, look at it in the console")

    def _keys(self) -> Found:
        if self._description is None:
            return not_tried("the table may not be described; the calls below prove them")
        types = {a["AttributeName"]: a["AttributeType"] for a in self._description["AttributeDefinitions"]}
        schema = self._description["KeySchema"]
        found = {k["KeyType"]: (k["AttributeName"], types.get(k["AttributeName"])) for k in schema}
        shown = ", ".join(f"{name} ({kind})" for _, (name, kind) in sorted(found.items()))
        if found == KEY_SCHEMA:
            return ok(shown)
        words = f"table {self._table} has the keys {shown}; needed are PK (S), SK (S)"
        return fail(words, "set DYNAMODB_TABLE to another name, then: syncer table create", EXIT_CONFIG)

    def _ttl(self) -> Found:
        code, said, answer = self._attempt("describe_time_to_live", {"TableName": self._table})
        if code in _DENIED:
            return not_tried("AWS denies dynamodb:DescribeTimeToLive here; a cycle does not need it")
        if said is not None:
            return said
        found = answer.get("TimeToLiveDescription", {})
        if found.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
            return warn("off: old records stay for ever, and cost", "syncer table create")
        if found.get("AttributeName") != TTL_ATTRIBUTE:
            return warn(
                f"on, but not by the attribute {TTL_ATTRIBUTE}: old records stay, and cost",
                f"switch it to {TTL_ATTRIBUTE} in the console",
            )
        return ok(f"on, by the attribute {TTL_ATTRIBUTE}")

    def _allowed(self, operation: str, request: Mapping[str, Any]) -> Found:
        """Try a call that a cycle needs."""
        try:
            call(self.client, operation, request, table=self._table)
        except Refused:
            return ok("allowed")
        except StateUnavailable as error:
            return split(error)
        if operation == "batch_get_item":
            return ok("allowed")
        # It cannot have been met. A proxy that says yes to everything must not pass for a table.
        return _NOT_DYNAMODB

    def _get(self) -> Found:
        code, said, _ = self._attempt("get_item", {"TableName": self._table, "Key": self._key})
        if code in _DENIED:
            return warn("denied; only `syncer run-once --dry-run` needs it", _ALLOW.format("dynamodb:GetItem"))
        return said or ok("allowed")


def split(error: Exception) -> Found:
    """Return a failure from a text that names the cause, then after a colon the remedy."""
    words, _, remedy = str(error).partition(": ")
    return fail(words, remedy or "try again in a minute")


_NOT_DYNAMODB: Final = split(StateUnavailable(NOT_DYNAMODB))
