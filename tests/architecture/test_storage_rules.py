"""The rules of the storage engine: each has tests, and what can be read off the SQL holds."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_RULES = [f"R{number}" for number in range(1, 14)]
_COMMENT = re.compile(r"--.*")


def test_each_rule_names_the_tests_that_fail_without_it() -> None:
    """That these tests exist is checked in `test_documented_places`."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (R\d+) \| [^|]+ \| (.+) \|$", text, re.MULTILINE)
    assert [rule for rule, _ in rows] == _RULES
    assert all(re.search(r"`tests/[\w/]+\.py::test_\w+`", tests) for _, tests in rows)


def test_no_statement_truncates_a_table_or_alters_one_while_it_is_written() -> None:
    """Both lock out every reader, and what is truncated is missing in older snapshots."""
    for folder, words in (
        ("routines", r"\bTRUNCATE\s+(TABLE\s+)?(ONLY\s+)?promcompat\."),
        ("queries", r"\bTRUNCATE\b|\bALTER\s+TABLE\b"),
    ):
        for path in (ROOT / "sql" / folder).glob("*.sql"):
            found = re.search(words, _COMMENT.sub("", path.read_text(encoding="utf-8")))
            assert found is None, f"{path.name}: {found.group(0) if found else ''}"
