"""Changing values in a ``.env`` file: every other line stays as it is, and what is written reads back the same.

Lines are cut by python-dotenv's own parser, which is what reads the file (``config``). The new content is
read once more before it takes the old one's place, as a whole and with mode 0600.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from syncer.errors import ConfigError
from syncer.token_store import replace_file

MAX_BYTES: Final = 1 << 20
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@%+=,-]+")
"""Values that mean themselves without quotes, to python-dotenv and to a shell."""
_REMARK: Final = re.compile(
    r"""=[ \t]*(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^'"\r\n][^\r\n]*?|)([ \t]+#[^\r\n]*)\s*\Z""", re.DOTALL
)
"""What stands behind a value as a remark."""


def set_values(path: Path, values: Mapping[str, str]) -> bool:
    """Give each name its value in the file, which is made if it is not there; tell whether others could read it before.

    Raises ConfigError: the file cannot be read or replaced, or would not read back.
    """
    old, shared = read(path)
    try:
        replace_file(Path(os.path.realpath(path)), edited(old, values).encode())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError([f"{path} cannot be replaced: {reason}; its folder has to be writable, too"]) from None
    except ValueError as error:
        raise ConfigError([f"{path} {error}"]) from None
    return shared


def read(path: Path) -> tuple[str, bool]:
    """Return the file's text, empty if there is none, and whether others can read it. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            shared = bool(stat.S_IMODE(os.fstat(file.fileno()).st_mode) & (stat.S_IRWXG | stat.S_IRWXO))
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError([f"{path} is too large for a file of settings"])
        return data.decode("utf-8"), shared
    except FileNotFoundError:
        return "", False
    except OSError as error:
        raise ConfigError([f"{path} cannot be read: {error.strerror or type(error).__name__}"]) from None
    except UnicodeError:
        raise ConfigError([f"{path} is no UTF-8 text: mend it or take it away"]) from None


def edited(text: str, values: Mapping[str, str]) -> str:
    """Return the text with the values set: in place, else where their names stand as an empty remark, else at the end.

    Raises ValueError: the result would not read back.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    rest = dict(values)
    pieces: list[str] = []
    for binding in parse_stream(io.StringIO(text, newline="")):
        original, name = binding.original.string, binding.key or ""
        remark = re.fullmatch(r"(\s*)#\s?([A-Z][A-Z0-9_]*)=[ \t]*(\r?\n)?", original)
        if name in values:
            if name in rest:  # a second line of the same name would win over the first: it goes
                pieces.append(_replaced(original, _line(name, rest.pop(name)), newline))
        elif remark and remark[2] in rest and not _assigned_later(text, remark[2]):
            pieces.append(f"{remark[1]}{_line(remark[2], rest.pop(remark[2]))}{newline}")
        else:
            pieces.append(original)
    if rest and pieces and not pieces[-1].endswith(("\n", "\r")):
        pieces.append(newline)
    pieces += [f"{_line(name, value)}{newline}" for name, value in rest.items()]
    result = "".join(pieces)
    _verify(text, result, values)
    return result


def _replaced(original: str, line: str, newline: str) -> str:
    """Return the line in place of another of the same name, with what stood before and behind its assignment."""
    lead = re.match(r"(?:\s*)(?:export\s+)?", original)
    behind = _REMARK.search(original)
    return f"{lead[0] if lead else ''}{line}{behind[1] if behind else ''}{newline}"


def _assigned_later(text: str, name: str) -> bool:
    return any(binding.key == name for binding in parse_stream(io.StringIO(text)))


def _line(name: str, value: str) -> str:
    """Return an assignment; single quotes keep everything but themselves and the backslash."""
    if _PLAIN.fullmatch(value):
        return f"{name}={value}"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{quoted}'"


def _verify(old: str, new: str, values: Mapping[str, str]) -> None:
    """Raise ValueError: something would read otherwise than it should."""
    before = {name: b for name, b in _bindings(old).items() if name not in values}
    after = _bindings(new)
    if {**before, **values} != after or any(dotenv_values(stream=io.StringIO(new))[n] != v for n, v in values.items()):
        raise ValueError("cannot take the new values beside what is in it: mend its lines, or use another file")


def _bindings(text: str) -> dict[str, str | None]:
    return {binding.key: binding.value for binding in parse_stream(io.StringIO(text)) if binding.key}
