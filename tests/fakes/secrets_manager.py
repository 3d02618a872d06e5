"""One secret of AWS Secrets Manager, by the words of its service model (botocore, secretsmanager 2017-10-17).

moto differs where compare-and-swap rests on it: after UpdateSecretVersionStage has moved AWSCURRENT, its
GetSecretValue without a stage goes on with the version before, and nothing ever ends a version. Here:

- each staging label is on one version; AWSPREVIOUS goes to where AWSCURRENT left;
- a label that is on another version moves only if RemoveFromVersionId names that one;
- versions without a label are gone once there are more than a hundred, but not within 24 hours of their
  making; more than that at once is a LimitExceededException.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Final

from botocore.exceptions import ClientError

KEPT: Final = 100
DAY: Final = 86_400.0


class Secret:
    """Has the methods of a boto3 client that a token store calls."""

    def __init__(self, now: Callable[[], float], value: str = "{}") -> None:
        self._now = now
        self._numbers = count(1)
        self.values: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        """Staging label -> the version that has it."""
        self.after: dict[str, Callable[[], object]] = {}
        """By operation: what happens when it is done, before its answer arrives. Once."""
        self.puts: list[float] = []
        self._made: dict[str, float] = {}
        self.put_secret_value(SecretId="", SecretString=value)

    def get_secret_value(self, *, SecretId: str, VersionStage: str = "AWSCURRENT") -> dict[str, Any]:  # noqa: N803
        version = self.labels[VersionStage]
        return self._answer("get_secret_value", VersionId=version, SecretString=self.values[version])

    def put_secret_value(
        self,
        *,
        SecretId: str,  # noqa: N803
        SecretString: str,  # noqa: N803
        VersionStages: list[str] | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        now = self._now()
        unlabelled = [v for v in self.values if v not in self.labels.values() and self._made[v] <= now - DAY]
        for version in unlabelled[: max(0, len(self.values) - KEPT + 1)]:
            del self.values[version]
        if len(self.values) >= KEPT:
            raise _error("LimitExceededException", "PutSecretValue")
        version = f"version-{next(self._numbers)}"
        self.values[version], self._made[version] = SecretString, now
        self.puts.append(now)
        for label in VersionStages or ["AWSCURRENT"]:
            self._move(label, version)
        return self._answer("put_secret_value", VersionId=version)

    def update_secret_version_stage(
        self,
        *,
        SecretId: str,  # noqa: N803
        VersionStage: str,  # noqa: N803
        MoveToVersionId: str,  # noqa: N803
        RemoveFromVersionId: str,  # noqa: N803
    ) -> dict[str, Any]:
        if self.labels.get(VersionStage) != RemoveFromVersionId:
            raise _error("InvalidParameterException", "UpdateSecretVersionStage")
        if MoveToVersionId not in self.values:
            raise _error("ResourceNotFoundException", "UpdateSecretVersionStage")
        self._move(VersionStage, MoveToVersionId)
        return self._answer("update_secret_version_stage")

    def _move(self, label: str, version: str) -> None:
        if label == "AWSCURRENT" and label in self.labels:
            self.labels["AWSPREVIOUS"] = self.labels[label]
        self.labels[label] = version

    def _answer(self, operation: str, **content: str) -> dict[str, Any]:
        self.after.pop(operation, lambda: None)()
        return content


def _error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "the secret's name and more"}}, operation)
