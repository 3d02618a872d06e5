"""Whether a token file could be replaced, without touching it."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncer.doctor.store import is_mounted

TABLE = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
67 44 254:0 /srv/tokens.json /data/tokens.json rw,relatime - ext4 /dev/vda rw
68 44 254:0 /srv/x /data/my\040tokens.json rw,relatime - ext4 /dev/vda rw
""".lstrip()


@pytest.mark.parametrize(
    ("path", "mounted"),
    [
        ("/data/tokens.json", True),
        ("/data/my tokens.json", True),
        ("/data/other.json", False),
        ("/data", False),
    ],
)
def test_a_file_that_was_mounted_by_itself_is_known(tmp_path: Path, path: str, mounted: bool) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)
    assert is_mounted(Path(path), tmp_path / "mountinfo") is mounted


def test_without_a_table_of_mounts_nothing_is_mounted(tmp_path: Path) -> None:
    assert not is_mounted(Path("/proc"), tmp_path / "no such table")
