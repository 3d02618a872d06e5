"""The way to DynamoDB: a client that gives up soon, and its errors made ours.

Nothing else of the product meets botocore's DynamoDB errors. A call ends in one of four ways:

- its answer;
- ``Refused``: a condition did not hold, and ``reasons`` tell which and against which item;
- ``Busy``, a StateUnavailable: throttled or in conflict with another writer, after a few more tries;
- StateUnavailable: cannot be used now; the text names the cause, the setting and the remedy.

The texts hold no credential, no address and no value of a record, so botocore's own words, which
may quote any of them, are not passed on.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from syncer.errors import ConfigError, StateUnavailable, SyncError

CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 3
ATTEMPTS: Final = 3
"""Three silent attempts with the pauses between them take 12 seconds, at worst 18: a cycle that
cannot reach its state has to end while the Lambda still has time to say so."""

_BUSY_TRIES: Final = 4
_BUSY_CODES: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "TransactionConflictException",
        "TransactionInProgressException",
        # The names that the reasons of a cancelled transaction have for the same:
        "ProvisionedThroughputExceeded",
        "ThrottlingError",
        "TransactionConflict",
    }
)
NOT_DYNAMODB: Final = "what answers is not DynamoDB: check AWS_ENDPOINT_URL and the network"
"""A proxy or a portal that says 200 to everything must not pass for an empty history."""

_CONDITION_FAILED: Final = frozenset({"ConditionalCheckFailedException", "ConditionalCheckFailed"})

_NO_CREDENTIALS: Final = (
    "no usable AWS credentials: give this program a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
_FORBIDDEN_CREDENTIALS: Final = (
    "AWS_CONTAINER_CREDENTIALS_FULL_URI names a host that the AWS SDK asks for no credentials: unset it, or name one"
    " that it does ask (this machine, or ECS's and EKS's own addresses)"
)
_BAD_CREDENTIALS: Final = (
    "AWS does not accept the credentials: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the clock of this machine"
)
_EXPIRED: Final = "the AWS credentials have expired: renew the session (AWS_SESSION_TOKEN) or the role's sign-in"
_BY_CODE: Final[Mapping[str, str]] = {
    "ResourceNotFoundException": "table {table} does not exist in {region}:"
    " run `syncer table create` or check DYNAMODB_TABLE, AWS_REGION",
    "ResourceInUseException": "table {table} in {region} is being made or changed: try again in a minute",
    "AccessDeniedException": "AWS denies {action} on table {table} in {region}:"
    " allow it in the policy of the role or user that this program runs as, or check DYNAMODB_TABLE, AWS_REGION",
    "ExpiredTokenException": _EXPIRED,
    "ExpiredToken": _EXPIRED,
    "UnrecognizedClientException": _BAD_CREDENTIALS,
    "InvalidSignatureException": _BAD_CREDENTIALS,
    "InvalidClientTokenId": _BAD_CREDENTIALS,
    "SignatureDoesNotMatch": _BAD_CREDENTIALS,
    "MissingAuthenticationTokenException": _NO_CREDENTIALS,
}

Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Reason:
    """What became of one action of a write that did not go through."""

    failed: bool
    """Its condition did not hold."""
    item: Mapping[str, Any] | None
    """The item as it stands, if its condition did not hold and there is one."""


class Refused(SyncError):
    """A condition did not hold, and nothing was written; one reason for each action, in their order."""

    def __init__(self, reasons: tuple[Reason, ...]) -> None:
        super().__init__("a condition did not hold")
        self.reasons = reasons


class Busy(StateUnavailable):
    """The call changed nothing, because DynamoDB had too much to do or another writer was at it."""


def make_client(region: str, endpoint_url: str | None = None) -> Any:
    """Build a DynamoDB client; no request is made.

    Raises StateUnavailable: the profile or the region is unknown to the SDK.
    Raises ConfigError: ``endpoint_url`` is no URL.
    """
    # Here, since most of a cold start is its import; and not boto3, which adds S3's transfers and resources to it.
    import botocore.session
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=4,
        tcp_keepalive=True,
        parameter_validation=False,  # a third of what a transaction costs here; DynamoDB checks all the same
    )
    with translated("", region):
        try:
            session = botocore.session.get_session()
            client = session.create_client("dynamodb", region_name=region, endpoint_url=endpoint_url, config=config)
        except ValueError as error:
            if "retrieve metadata" in str(error):
                raise StateUnavailable(_FORBIDDEN_CREDENTIALS) from None
            if "endpoint" not in str(error):
                raise
            raise ConfigError(["AWS_ENDPOINT_URL: not a URL"]) from None
    client.meta.events.register("before-parameter-build.dynamodb.TransactWriteItems", _set_aside)
    client.meta.events.register("before-call.dynamodb.TransactWriteItems", _put_in)
    return client


def _set_aside(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    """Keep a transaction's actions from the SDK's serializer, which walks through every attribute of a hundred items.

    They are written in DynamoDB's own protocol already.
    """
    context["actions"] = params.pop("TransactItems")


def _put_in(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    """Put the actions into the request, before it is signed."""
    body = {**json.loads(params["body"]), "TransactItems": context["actions"]}
    params["body"] = json.dumps(body, separators=(",", ":")).encode()


def call(
    client: Any, operation: str, request: Mapping[str, Any], *, table: str, sleep: Sleep | None = None
) -> Mapping[str, Any]:
    """Make one request; while DynamoDB is busy, a few more with growing pauses.

    A transaction gets a fresh ClientRequestToken each time it is made here, and keeps it through
    the SDK's own attempts: so AWS applies those once, and what was cancelled is never mistaken for
    the same request with other contents.

    Raises Refused: a condition did not hold. Raises StateUnavailable.
    """
    try:
        return _call_once(client, operation, request, table)
    except Busy:
        return _call_patiently(lambda: _call_once(client, operation, request, table), sleep)


def _call_patiently(once: Callable[[], Mapping[str, Any]], sleep: Sleep | None) -> Mapping[str, Any]:
    # Here, since only a busy DynamoDB needs it.
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    pause = sleep or time.sleep
    wait = wait_random_exponential(multiplier=0.2, max=2)
    pause(0.1)
    again = Retrying(
        sleep=pause,
        wait=wait,
        stop=stop_after_attempt(_BUSY_TRIES - 1),
        retry=retry_if_exception_type(Busy),
        reraise=True,
    )
    return again(once)


def _call_once(client: Any, operation: str, request: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    from botocore.exceptions import ClientError

    if operation == "transact_write_items":
        request = {**request, "ClientRequestToken": str(uuid.uuid4())}
    with translated(table, client.meta.region_name):
        try:
            answer: Mapping[str, Any] = getattr(client, operation)(**request)
        except ClientError as error:
            raise _meaning(error, table) from None
    if operation == "batch_get_item":
        if "Responses" not in answer:
            raise StateUnavailable(NOT_DYNAMODB)
        asked = [key for wanted in request["RequestItems"].values() for key in wanted["Keys"]]
        if len(unprocessed(answer)) >= len(asked):
            raise Busy(f"DynamoDB is too busy to read from table {table}: the next cycle tries again")
    return answer


def unprocessed(answer: Mapping[str, Any]) -> list[Any]:
    """Return the keys that an answer to BatchGetItem has left unread."""
    return [key for left in answer.get("UnprocessedKeys", {}).values() for key in left["Keys"]]


def _meaning(error: Any, table: str) -> Exception:
    """Return what an error reply tells the caller; the error itself if it is for ``translated``."""
    code = code_of(error)
    if code in _CONDITION_FAILED:
        return Refused((Reason(failed=True, item=error.response.get("Item")),))
    if code in _BUSY_CODES:
        return Busy(f"DynamoDB is too busy for table {table} ({code}): the next cycle tries again")
    if code != "TransactionCanceledException":
        return error if isinstance(error, Exception) else StateUnavailable(code)
    reasons = error.response.get("CancellationReasons", [])
    codes = {reason.get("Code", "None") for reason in reasons}
    if codes & _CONDITION_FAILED:
        return Refused(tuple(Reason(r.get("Code") in _CONDITION_FAILED, r.get("Item")) for r in reasons))
    if codes & _BUSY_CODES:
        return Busy(f"DynamoDB is too busy for table {table} ({', '.join(sorted(codes & _BUSY_CODES))})")
    named = ", ".join(sorted(codes - {"None"})) or "no reason given"
    return StateUnavailable(f"DynamoDB cancels a transaction on table {table} ({named})")


@contextmanager
def translated(table: str, region: str) -> Iterator[None]:
    """Turn every error of the SDK into StateUnavailable with a text that names cause and remedy."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise StateUnavailable(_reply_text(error, table, region)) from None
    except (BotoCoreError, ResponseParserError) as error:
        raise StateUnavailable(_sdk_text(error, region)) from None


def code_of(error: Any) -> str:
    """Return the name of the error in an error reply."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _reply_text(error: Any, table: str, region: str) -> str:
    """Return what a reply with an error means to the person who runs this."""
    code = code_of(error)
    message = str(error.response.get("Error", {}).get("Message", ""))
    if code == "ValidationException" and "key" in message and "schema" in message:
        return (
            f"table {table} in {region} has other keys than PK and SK: DYNAMODB_TABLE may name another program's table"
        )
    # The reply names the action that the policy lacks: a transaction needs those of its parts.
    denied = re.search(r"perform: ([A-Za-z]+:[A-Za-z]+)", message)
    action = denied[1] if denied else f"dynamodb:{error.operation_name}"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
    fallback = "DynamoDB refuses {action} on table {table} in {region} ({code}, HTTP {status})"
    return _BY_CODE.get(code, fallback).format(table=table, region=region, action=action, code=code, status=status)


def _sdk_text(error: Exception, region: str) -> str:
    """Return what an error of the SDK itself means to the person who runs this."""
    from botocore import exceptions as boto

    kind = type(error).__name__
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)):
        return f"{_NO_CREDENTIALS} ({kind})"
    if isinstance(error, (boto.ProfileNotFound, boto.ConfigNotFound, boto.ConfigParseError)):
        return f"the AWS profile cannot be read: check AWS_PROFILE and AWS_CONFIG_FILE ({kind})"
    if isinstance(error, (boto.NoRegionError, boto.InvalidRegionError)):
        return f"no usable AWS region: check AWS_REGION ({kind})"
    if isinstance(error, boto.SSLError):
        return (
            f"the TLS certificate of DynamoDB's endpoint is not trusted: check AWS_CA_BUNDLE, AWS_ENDPOINT_URL ({kind})"
        )
    if isinstance(error, (boto.ConnectionError, boto.HTTPClientError)):
        return f"DynamoDB in {region} does not answer: check the network, AWS_REGION, AWS_ENDPOINT_URL ({kind})"
    return f"the AWS SDK fails: {kind}"
