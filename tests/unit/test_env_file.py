"""Changing values in a .env file: what else is in it stays, and values read back through the settings' own reader."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest
from environs import FileAwareEnv
from hypothesis import given
from hypothesis import strategies as st

from syncer.config import what_wins_over
from syncer.env_file import edited, set_values
from syncer.errors import ConfigError

TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60).filter(
    lambda text: "${" not in text  # which the reader takes for a reference; see below
)


def reads(path: Path, name: str) -> str:
    env = FileAwareEnv()
    env.read_env(path, recurse=False, override=True)
    return str(env.str(name))


@given(TOKENS, TOKENS)
def test_every_token_reads_back_as_it_was(first: str, second: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        set_values(path, {"A_TOKEN": first, "B_TOKEN": second})
        set_values(path, {"B_TOKEN": first})
        assert (reads(path, "A_TOKEN"), reads(path, "B_TOKEN")) == (first, first)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "A=new\n"),
        ("A=old\n", "A=new\n"),
        ("A=old", "A=new\n"),
        ("B=1", "B=1\nA=new\n"),
        ("export A='o # l' # mine\nB=1\n", "export A=new # mine\nB=1\n"),
        ('A="o # ld"\nB=1\n', "A=new\nB=1\n"),
        ("A= # mine\nB=1\n", "A=new # mine\nB=1\n"),
        ("A='two\nlines'  # mine\nB=1 # b\n", "A=new  # mine\nB=1 # b\n"),
        ("A=old # mine\n", "A=new # mine\n"),
        ("# A stands here\n#A=\nB=1\n", "# A stands here\nA=new\nB=1\n"),
        ("#A=\nA=old\n", "#A=\nA=new\n"),
        ("#A=example\n", "#A=example\nA=new\n"),
        ("A=1\nB=2\nA=3\n", "A=new\nB=2\n"),
        ("B='two\nlines'\nA=old\n", "B='two\nlines'\nA=new\n"),
        ("B=1\r\nA=old\r\n", "B=1\r\nA=new\r\n"),
        ("\n\n  A=old\n\n", "\n\n  A=new\n\n"),
    ],
)
def test_only_the_line_itself_changes(before: str, after: str) -> None:
    assert edited(before, {"A": "new"}) == after


@pytest.mark.parametrize("value", ["${HOME}", "two\nlines ${A}"])
def test_what_would_not_read_back_is_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("B=1\n")
    with pytest.raises(ConfigError, match="use another file"):
        set_values(path, {"A": value})
    assert path.read_text() == "B=1\n"


def test_the_file_is_its_owner_s_alone_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.env", tmp_path / ".env"
    real.write_text("B=1\n")
    real.chmod(0o644)
    link.symlink_to(real)
    assert set_values(link, {"A": "1"}) is True
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert set_values(link, {"A": "2"}) is False
    assert real.read_text() == "B=1\nA=2\n"
    assert sorted(tmp_path.iterdir()) == [link, real]


def test_a_file_that_is_no_text_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=\xff\n")
    with pytest.raises(ConfigError, match="no UTF-8 text"):
        set_values(path, {"A": "1"})
    assert path.read_bytes() == b"A=\xff\n"


def test_a_value_that_something_else_overrides_is_named_with_what_does(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    set_values(
        path, {"GMAIL_CLIENT_ID": "a", "GMAIL_CLIENT_SECRET": "b", "GMAIL_REFRESH_TOKEN": "c", "MS_CLIENT_ID": "d"}
    )
    path.write_text(path.read_text() + "MS_CLIENT_ID_FILE=/run/id\n")
    written = {"GMAIL_CLIENT_ID": "a", "GMAIL_CLIENT_SECRET": "b", "GMAIL_REFRESH_TOKEN": "c", "MS_CLIENT_ID": "d"}
    environ = {"GMAIL_CLIENT_ID": "a", "GMAIL_CLIENT_SECRET": "old", "GMAIL_REFRESH_TOKEN_FILE": "/run/token"}
    assert what_wins_over(written, env_file=path, environ=environ) == {
        "GMAIL_CLIENT_SECRET": "GMAIL_CLIENT_SECRET in the environment",
        "GMAIL_REFRESH_TOKEN": "GMAIL_REFRESH_TOKEN_FILE in the environment",
        "MS_CLIENT_ID": f"MS_CLIENT_ID_FILE in {path}",
    }
