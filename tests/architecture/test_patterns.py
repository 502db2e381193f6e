"""Regular expressions mean the same in every Python that the project supports."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_POSSESSIVE_GROUP = re.compile(r"\(.+\)(?:[*+?]|\{[0-9,]+\})\+")


def test_no_group_has_a_possessive_quantifier() -> None:
    """Before 3.11.5, what a group matched of an attempt that failed was kept (gh-106052).

    After a single character or class, such as `[a-z]*+`, such quantifiers are right.
    """
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("promcompat", "promql", "sql", "native_api")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if _POSSESSIVE_GROUP.search(line)
    ]
    assert found == []
