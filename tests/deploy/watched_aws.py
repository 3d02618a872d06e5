"""The embedded AWS, watched: what is asked of it, which IAM actions that needs, and refusals at will."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from syncer.demo.aws import EmbeddedAws

SERVICES: Final = {"DynamoDB_20120810": "dynamodb", "secretsmanager": "secretsmanager"}
PARTS: Final = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
"""A transaction has no action of its own: it needs those of its parts."""


class WatchedAws:
    """Stands before the application that answers; the account behind it is untouched."""

    def __init__(self, aws: EmbeddedAws) -> None:
        self.actions: Counter[str] = Counter()
        """IAM actions, by how often they were needed."""
        self.requests: list[tuple[str, dict[str, Any]]] = []
        """Operations with what was asked."""
        self.refused: dict[str, str] = {}
        """Operation -> the error with which it is answered from now on."""
        self._answer = aws._application
        aws._application = self  # type: ignore[assignment]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        service, _, operation = str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        asked = json.loads(body or b"{}")
        self.requests.append((operation, asked))
        if service in SERVICES:
            self.actions.update(f"{SERVICES[service]}:{name}" for name in _actions(operation, asked))
        if operation in self.refused:
            start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.1")])
            return [json.dumps({"__type": self.refused[operation], "message": "no"}).encode()]
        answer: Iterable[bytes] = self._answer(environ, start_response)
        return answer


def _actions(operation: str, asked: dict[str, Any]) -> list[str]:
    if operation != "TransactWriteItems":
        return [operation]
    return [PARTS[kind] for part in asked["TransactItems"] for kind in part]
