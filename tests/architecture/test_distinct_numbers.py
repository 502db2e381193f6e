"""Distinct numbers are found by sorting; see `promcompat.core.distinct_numbers`."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("promcompat", "native_api", "promql", "sql")
DISTINCT = {"unique", "union1d", "intersect1d", "setdiff1d", "setxor1d"}
"""The functions of numpy that look for distinct numbers, each in its own way."""
SORTS = {"return_index", "return_inverse", "return_counts", "axis", "assume_unique"}
"""With one of these arguments they sort, or need not look."""


def _hashes(call: ast.Call) -> bool:
    function = call.func
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "np"
        and function.attr in DISTINCT
        and not any(keyword.arg in SORTS for keyword in call.keywords)
    )


def test_distinct_numbers_are_found_by_sorting() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: np.{ast.unparse(node)[3:60]}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _hashes(node)
    ]
    assert found == [], "use promcompat.core.distinct_numbers.distinct"
