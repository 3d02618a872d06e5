"""``syncer demo``, as a new user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.stack.pair import letter


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "syncer", "demo", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_it_shows_three_cycles_and_proves_what_it_claims(tmp_path: Path) -> None:
    shown = demo("--keep-logs", str(tmp_path))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "\nNO " not in shown.stdout
    assert "lies in the folder exactly once, octet for octet" in shown.stdout
    assert {file.name for file in tmp_path.iterdir()} == {
        *("table-create.jsonl", "cycle-1.jsonl", "cycle-2.jsonl", "cycle-3.jsonl")
    }


def test_it_copies_the_users_own_mail(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.eml").write_bytes(letter(number))
    shown = demo("--from", str(tmp_path))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "3 messages wait in the INBOX" in shown.stdout
    assert "2.eml" in shown.stdout


def test_a_folder_without_mail_is_named(tmp_path: Path) -> None:
    shown = demo("--from", str(tmp_path))
    assert shown.returncode == 2
    assert "holds no mail" in " ".join(shown.stdout.split())  # wrapped where the folder's name is long
