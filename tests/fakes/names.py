"""Mailbox names on the wire: modified UTF-7 (RFC 3501 section 5.1.3), read strictly."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_SHIFTED: Final = re.compile(r"&([A-Za-z0-9+,]*)-")
_RUNS: Final = re.compile(r"[ -~]+|[^ -~]+")


def decode(wire: bytes) -> str:
    """Return the name that was meant.

    Raises ValueError: no modified UTF-7 (8-bit octets, a lone ``&``, bad base64, printable text in base64).
    """
    text = wire.decode("ascii")
    name = _SHIFTED.sub(lambda found: _unshift(found[1]) if found[1] else "&", text)
    if encode(name) != wire:  # covers every form that is not the one right form
        raise ValueError("not modified UTF-7")
    return name


def encode(name: str) -> bytes:
    """Return the name as it travels."""
    runs = _RUNS.findall(name)
    return "".join(
        run.replace("&", "&-") if run.isascii() and run.isprintable() else _shift(run) for run in runs
    ).encode()


def _shift(text: str) -> str:
    packed = base64.b64encode(text.encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
    return f"&{packed}-"


def _unshift(packed: str) -> str:
    try:
        octets = base64.b64decode(packed.replace(",", "/") + "=" * (-len(packed) % 4), validate=True)
        return octets.decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("not modified UTF-7") from error
