"""Whose account a token opens, and what a person is shown of an address."""

from __future__ import annotations

import base64
import json

import pytest

from syncer.errors import ConfigError
from syncer.sign_in import address_in, claims_of, is_same_account, load_gmail, masked
from syncer.sign_in_gmail import NEW_CLIENT, refusal


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ada.Lovelace@gmail.com", "adalovelace@googlemail.com", True),
        ("ada+mail@gmail.com", "ada@gmail.com", True),
        ("ada@gmail.com", "eve@gmail.com", False),
        ("a.da@company.example", "ada@company.example", False),
        ("Ada@Outlook.com", "ada@outlook.com", True),
    ],
)
def test_gmail_s_ways_to_write_an_address_are_one_account(one: str, other: str, same: bool) -> None:
    assert is_same_account(one, other) is same


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ada@gmail.com", "a...@gmail.com"),
        ("@gmail.com", "?...@gmail.com"),
        ("a@\x1b[31mred", "a...@??31mred"),
        ("no address", "?...@no?address"),
    ],
)
def test_an_address_is_shown_to_its_owner_alone(address: str, shown: str) -> None:
    assert masked(address) == shown


@pytest.mark.parametrize("token", ["", "a.b.c", "a", None, 7, "x." + base64.b64encode(b"[1]").decode() + "."])
def test_what_is_no_id_token_says_nothing(token: object) -> None:
    assert claims_of(token) == {}


def test_an_id_token_names_the_account() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"email": "ada@gmail.com", "name": 7}).encode()).decode().rstrip("=")
    assert address_in(claims_of(f"x.{claims}.y"), "name", "email") == "ada@gmail.com"
    assert address_in({"email": "two@at@signs"}, "email") == ""


def test_an_error_code_that_nobody_knows_is_named() -> None:
    assert "brand_new" in str(refusal("brand_new"))
    assert refusal("deleted_client").remedy == NEW_CLIENT  # type: ignore[union-attr]


def test_two_places_for_tokens_exclude_each_other_here_too() -> None:
    from pathlib import Path

    with pytest.raises(ConfigError, match="exclude each other"):
        load_gmail(Path("none"), {"GMAIL_EMAIL": "a@b", "TOKENS_FILE": "a", "TOKENS_SECRET_ID": "b"})
