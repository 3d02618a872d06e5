"""The sample of a ``.env`` file shows every setting, at its default, and can be used as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncer import config

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"
SHOWN = {name: (mark, value) for mark, name, value in re.findall(r"(?m)^(#?)([A-Z][A-Z_]+)=(.*)$", EXAMPLE.read_text())}


def test_it_shows_the_settings_there_are() -> None:
    assert SHOWN.keys() == {setting.name for setting in config.SETTINGS}


@pytest.mark.parametrize("setting", [s for s in config.SETTINGS if s.default], ids=lambda setting: setting.name)
def test_what_is_commented_out_is_the_default(setting: config.Setting) -> None:
    assert SHOWN[setting.name] == ("#", setting.default)


def test_it_is_valid_as_it_is() -> None:
    loaded = config.load(env_file=EXAMPLE, environ={})
    assert loaded.outlook_target_folder == "Gmail"


def test_it_holds_no_secret() -> None:
    assert {SHOWN[setting.name][1] for setting in config.SETTINGS if setting.secret} == {""}
