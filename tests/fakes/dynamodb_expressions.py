"""DynamoDB's condition and update expressions, evaluated: as much of the language as this project speaks.

    condition   comparisons (= <> < <= > >=), attribute_exists, attribute_not_exists, begins_with, AND, OR, NOT, ()
    update      SET name = operand [+|- operand], if_not_exists(name, operand); REMOVE name

Operands are ``name``, ``#name`` and ``:value``; anything else is a ValidationError, as is a name or a value that
is given and not used, or used and not given: DynamoDB refuses those too. Syntax is read once per text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any, Final

Value = Mapping[str, Any]
"""An attribute as DynamoDB's protocol writes it: {type: value}."""
Item = Mapping[str, Value]

_TOKEN: Final = re.compile(r"\s*(?:(<>|<=|>=|[=<>(),+-])|([#:]?\w+))")
_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}
_ORDERED: Final = frozenset({"S", "N", "B"})


class ValidationError(Exception):
    """The request is one that DynamoDB refuses as it stands."""


@dataclass
class Given:
    """What a request gives its expressions, and what of it they used."""

    names: Mapping[str, str]
    values: Mapping[str, Value]
    used: set[str] = field(default_factory=set)

    def name(self, alias: str) -> str:
        if not alias.startswith("#"):
            return alias
        if alias not in self.names:
            raise ValidationError(f"an expression attribute name used in expression is not defined: {alias}")
        self.used.add(alias)
        return self.names[alias]

    def value(self, alias: str) -> Value:
        if alias not in self.values:
            raise ValidationError(f"an expression attribute value used in expression is not defined: {alias}")
        self.used.add(alias)
        return self.values[alias]

    def check_all_used(self) -> None:
        if left := {*self.names, *self.values} - self.used:
            raise ValidationError(f"unused in expressions: keys: {{{', '.join(sorted(left))}}}")


Operand = Callable[[Item, Given], Value | None]
Condition = Callable[[Item, Given], bool]
Change = Callable[[Item, Given], tuple[str, Value | None]]
"""The attribute it changes, and what that becomes; None: it goes."""


def holds(condition: str | None, item: Item, given: Given) -> bool:
    """Tell whether a condition holds for an item, which is empty if there is none. Raises ValidationError."""
    return condition is None or _condition(condition)(item, given)


def updated(expression: str | None, item: Item, given: Given) -> dict[str, Value]:
    """Return what an update makes of an item: every operand is read before anything is written."""
    changes = [change(item, given) for change in _update(expression)] if expression else []
    if len({name for name, _ in changes}) < len(changes):
        raise ValidationError("two document paths overlap with each other")
    result = dict(item)
    for name, value in changes:
        if value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def forget() -> None:
    """Let go of what was read so far: every different expression is kept, read once."""
    _condition.cache_clear()
    _update.cache_clear()


@cache
def _condition(text: str) -> Condition:
    reader = _Reader(text)
    condition = reader.either()
    reader.end()
    return condition


@cache
def _update(text: str) -> tuple[Change, ...]:
    reader = _Reader(text)
    changes = tuple(reader.clauses())
    reader.end()
    return changes


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at = 0
        text = text.strip()
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise ValidationError(f"Invalid expression: syntax error at {text[at : at + 20]!r}")
            self._tokens.append(token[1] or token[2])
            at = token.end()
        self._at = 0

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise ValidationError(f"Invalid expression: syntax error; token: {self._tokens[self._at]}")

    def _take(self, *wanted: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at].upper() in wanted:
            self._at += 1
            return self._tokens[self._at - 1].upper()
        return None

    def _need(self, token: str) -> None:
        if self._take(token) is None:
            raise ValidationError(f"Invalid expression: {token} is missing")

    def _word(self, sigil: str) -> str:
        if self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.startswith(sigil) or (sigil == "#" and token[0].isalpha()):
                self._at += 1
                return token
        raise ValidationError(f"Invalid expression: {sigil}name expected")

    # -- conditions

    def either(self) -> Condition:
        parts = [self._both()]
        while self._take("OR"):
            parts.append(self._both())
        # All of them are asked: what is used must not depend on the item.
        return lambda item, given: True in [part(item, given) for part in parts]

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("AND"):
            parts.append(self._one())
        return lambda item, given: False not in [part(item, given) for part in parts]

    def _one(self) -> Condition:
        if self._take("NOT"):
            inner = self._one()
            return lambda item, given: not inner(item, given)
        if self._take("("):
            inner = self.either()
            self._need(")")
            return inner
        function = self._take("ATTRIBUTE_EXISTS", "ATTRIBUTE_NOT_EXISTS", "BEGINS_WITH")
        if function is None:
            return self._comparison()
        self._need("(")
        alias = self._word("#")
        if function == "BEGINS_WITH":
            self._need(",")
            prefix = self._operand()
            self._need(")")
            return lambda item, given: _begins(item.get(given.name(alias)), prefix(item, given))
        self._need(")")
        wanted = function == "ATTRIBUTE_EXISTS"
        return lambda item, given: (given.name(alias) in item) is wanted

    def _comparison(self) -> Condition:
        left = self._operand()
        sign = self._take("=", "<>", *_COMPARISONS)
        if sign is None:
            raise ValidationError("Invalid expression: a comparison is missing")
        right = self._operand()
        return lambda item, given: _compare(sign, left(item, given), right(item, given))

    # -- updates

    def clauses(self) -> Iterator[Change]:
        seen: set[str] = set()
        while clause := self._take("SET", "REMOVE"):
            if clause in seen:
                raise ValidationError(f'The "{clause}" section can only be used once in an update expression')
            seen.add(clause)
            yield self._change(clause)
            while self._take(","):
                yield self._change(clause)

    def _change(self, clause: str) -> Change:
        alias = self._word("#")
        if clause == "REMOVE":
            return lambda item, given: (given.name(alias), None)
        self._need("=")
        value = self._sum()

        def change(item: Item, given: Given) -> tuple[str, Value]:
            new = value(item, given)
            if new is None:
                raise ValidationError("The provided expression refers to an attribute that does not exist in the item")
            return given.name(alias), new

        return change

    def _sum(self) -> Operand:
        left = self._operand()
        sign = self._take("+", "-")
        if sign is None:
            return left
        right = self._operand()

        def add(item: Item, given: Given) -> Value:
            one, other = left(item, given), right(item, given)
            if one is None or other is None or "N" not in one or "N" not in other:
                raise ValidationError("An operand in the update expression has an incorrect data type")
            more = Decimal(other["N"])
            return {"N": str(Decimal(one["N"]) + (more if sign == "+" else -more))}

        return add

    def _operand(self) -> Operand:
        if self._take("IF_NOT_EXISTS"):
            self._need("(")
            alias = self._word("#")
            self._need(",")
            default = self._operand()
            self._need(")")

            def known(item: Item, given: Given) -> Value | None:
                found, instead = item.get(given.name(alias)), default(item, given)
                return instead if found is None else found

            return known
        if self._at < len(self._tokens) and self._tokens[self._at].startswith(":"):
            value = self._word(":")
            return lambda item, given: given.value(value)
        name = self._word("#")
        return lambda item, given: item.get(given.name(name))


def _compare(sign: str, left: Value | None, right: Value | None) -> bool:
    """Compare as DynamoDB does: an absent attribute is like nothing, other types are never greater or less."""
    if left is None or right is None:
        return sign == "<>" and left is not right
    (kind, one), (other_kind, other) = next(iter(left.items())), next(iter(right.items()))
    if kind == other_kind == "N":
        one, other = Decimal(one), Decimal(other)
    if sign in ("=", "<>"):
        return (kind == other_kind and one == other) is (sign == "=")
    return kind == other_kind and kind in _ORDERED and _COMPARISONS[sign](one, other)


def _begins(value: Value | None, prefix: Value | None) -> bool:
    return value is not None and prefix is not None and "S" in value and value["S"].startswith(prefix.get("S", "\0"))
