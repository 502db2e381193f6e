"""Only the row store names the table `sample`; everything else goes through it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("promcompat", "native_api", "promql", "sql")
ROW_STORE = {"sql/queries/samples.sql", "sql/samples/tables/sample_table.py"}
"""One file of statements, and one module for the name that COPY and pushdown need."""
SCHEMA = {"sql/queries/migration.sql"}
"""Beside migrations and routines: what moves and alters the tables of the schema."""
NAMED = re.compile(r"(?:\b(?:FROM|JOIN|INTO|UPDATE|TABLE|ONLY|COPY)\s+|\bpromcompat\.|')sample\b")


def _sql_files() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "sql" / "queries").glob("*.sql")):
        statements = [line for line in path.read_text().splitlines() if not line.startswith("--")]
        yield path.relative_to(ROOT).as_posix(), "\n".join(statements)


@cache
def _python_files() -> list[tuple[str, list[str]]]:
    """The path of each module, and the texts in it; parsing all takes seconds."""
    files = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            texts = [
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            files.append((path.relative_to(ROOT).as_posix(), texts))
    return files


def test_statements_on_samples_stand_in_one_file() -> None:
    named = {name for name, text in _sql_files() if NAMED.search(text)}
    assert named - SCHEMA == ROW_STORE & named


def test_python_takes_the_name_of_the_table_from_one_module() -> None:
    named = {name for name, texts in _python_files() if "sample" in texts}
    assert named & {name for name in named if name.startswith("sql/")} <= ROW_STORE


def test_python_has_no_statement_on_samples() -> None:
    named = {
        name
        for name, texts in _python_files()
        if any(NAMED.search(text) and "\n" not in text for text in texts)
    }
    assert named <= ROW_STORE


@pytest.mark.parametrize(
    "text", ["SELECT 1 FROM sample AS p", "DELETE FROM sample\nWHERE", "'sample'::regclass"]
)
def test_rule_sees_a_statement(text: str) -> None:
    assert NAMED.search(text)
