"""Where the embedded servers listen, and what clients call that place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Place:
    """An address to listen on, and the host name under which clients reach it, which the certificate vouches for."""

    address: str
    name: str


LOOPBACK: Final = Place("127.0.0.1", "localhost")
