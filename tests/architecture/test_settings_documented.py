"""Every setting is explained where users look for it, and nothing else is."""

import os
import re
from pathlib import Path

import pytest

from promcompat.configuration.settings import Settings
from promcompat.configuration.text import env_name

_PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
_SETTINGS = {env_name(field) for field in Settings.model_fields}


@pytest.fixture(scope="module")
def documented() -> set[str]:
    """The variables that the page names; a branch on which it is not written yet may wait."""
    if not _PAGE.is_file() and os.environ.get("CI") != "true":
        pytest.skip("docs/settings.md does not exist; CI fails without it")
    return set(re.findall(r"\bPROMCOMPAT_[A-Z_]+\b", _PAGE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("variable", sorted(_SETTINGS))
def test_setting_is_documented(variable: str, documented: set[str]) -> None:
    assert variable in documented


def test_documented_settings_exist(documented: set[str]) -> None:
    assert documented <= _SETTINGS
