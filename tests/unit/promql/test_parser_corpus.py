"""Expressions of real dashboards, alerts and test scripts parse, and print back to themselves."""

from pathlib import Path

import pytest

from promql.parsing.parse_errors import ParseError
from promql.parsing.parser import parse_expr
from promql.parsing.printer import prettify, print_expr
from tests.promqltest.script import Eval
from tests.promqltest.script_parser import read_script
from tests.promqltest.suites import own_scripts, shared_folder, upstream_scripts
from tests.support.strategies import canonical

QUERY_FILES = sorted((shared_folder() / "queries").glob("*.txt"))
ABSENT = pytest.mark.skip(
    reason=f"the collected queries are not at {shared_folder()}/queries; "
    "PROMCOMPAT_SHARED_DIR names another place"
)


def by_name(paths: list[Path]) -> list[object]:
    return [pytest.param(path, id=path.name) for path in paths] or [
        pytest.param(Path(), id="none", marks=ABSENT)
    ]


def check_query(query: str) -> None:
    expr = parse_expr(query)
    for text in (print_expr(expr), prettify(expr)):
        assert canonical(parse_expr(text)) == canonical(expr), query


@pytest.mark.parametrize("path", by_name(QUERY_FILES))
def test_collected_query_prints_back(path: Path) -> None:
    queries = path.read_text("utf-8").splitlines()
    assert queries
    for query in queries:
        check_query(query)


@pytest.mark.parametrize("path", by_name([*own_scripts(), *upstream_scripts()]))
def test_expression_of_script_prints_back(path: Path) -> None:
    commands = [command for case in read_script(path).cases for command in case.commands]
    evals = [command for command in commands if isinstance(command, Eval)]
    assert evals
    for command in evals:
        try:
            expr = parse_expr(command.expr)
        except ParseError:
            assert command.expectation.failure is not None, command.expr
            continue
        # As in Prometheus, a range of less than a millisecond is printed as one of none.
        if "[0s]" not in print_expr(expr):
            check_query(command.expr)
