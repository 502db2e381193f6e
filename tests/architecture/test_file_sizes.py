"""Files stay small enough to be read in one go."""

from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).parents[2]
_SOURCE_LIMIT = 500
_TEST_LIMIT = 800
_FOLDERS = dict.fromkeys(["promcompat", "native_api", "promql", "sql"], _SOURCE_LIMIT) | {
    "tests": _TEST_LIMIT,
    "conformance": _TEST_LIMIT,
}


def _count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(("folder", "limit"), _FOLDERS.items())
def test_no_file_is_too_long(folder: str, limit: int) -> None:
    files = [path for path in (_CHECKOUT / folder).rglob("*.py") if "_pb2" not in path.name]
    assert files
    too_long = {
        str(path.relative_to(_CHECKOUT)): lines
        for path in files
        if (lines := _count_lines(path)) > limit
    }
    assert too_long == {}


def test_no_module_is_named_after_nothing() -> None:
    meaningless = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    found = [
        str(path.relative_to(_CHECKOUT))
        for folder in _FOLDERS
        for path in (_CHECKOUT / folder).rglob("*.py")
        if path.stem in meaningless or path.parent.name in meaningless
    ]
    assert found == []
