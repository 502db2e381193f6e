"""What `promcompat explain` shows in a terminal."""

import io

import pytest
from rich.console import Console

from promcompat.processes.explanation.view import lay_out_sql, show_explanation
from tests.unit.processes.test_explanation_text import EXPLANATION

TEXT = """\
vector at 1,200 steps
  sum(
    up
  )

tree
  aggregation sum(up)  evaluated once
  └── vectorSelector up  leaf 0

leaves
  leaf   rule          series   rows estimated   rows read      time
  ──────────────────────────────────────────────────────────────────
  0      last_sample    2,000           12,345      12,000   12.3 ms

leaf 0  {__name__="up", job=~"a|b"}
  samples after 2023-11-14T22:13:20Z up to 31690708-07-05T01:46:40Z
  rule          applies   reason
  ────────────────────────────────
  last_sample   yes       one step
  window_gaps   no        no gaps

  sql
  SELECT 1
  $1 = [1, 2]
  $2 = 60

  database plan
  Append
    -> Scan

stages
  stage               time
  ────────────────────────
  execTotalTime     2.50 s
  innerEvalTime   250.0 ms
"""


def shown(color_system: str | None) -> str:
    console = Console(
        file=io.StringIO(),
        width=100,
        force_terminal=color_system is not None,
        color_system=color_system,  # type: ignore[arg-type]
        highlight=False,
        _environ={},
    )
    show_explanation(EXPLANATION, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_explanation_is_laid_out() -> None:
    lines = [line.rstrip() for line in shown(None).splitlines()]
    assert "\n".join(lines) + "\n" == TEXT


def test_sql_is_coloured() -> None:
    assert "\x1b[94;49mSELECT" in shown("standard")


NESTED = (
    "(SELECT l.a FROM unnest($1::bigint[]) AS i (a) CROSS JOIN LATERAL "
    "(SELECT p.a FROM p WHERE p.a = i.a AND p.b < f($2) ORDER BY p.b LIMIT $3) AS l) LIMIT $4"
)
LAID_OUT = """\
(SELECT l.a
  FROM unnest($1::bigint[]) AS i (a)
  CROSS JOIN LATERAL (SELECT p.a
    FROM p
    WHERE p.a = i.a
    AND p.b < f($2)
    ORDER BY p.b
    LIMIT $3) AS l)
LIMIT $4"""


def test_clauses_are_lines() -> None:
    assert lay_out_sql(NESTED) == LAID_OUT


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "SELECT ' FROM (' || a AS FROMAGE",
        "SELECT extract(epoch FROM a)",
        "SELECT a)",
    ],
)
def test_a_statement_on_one_line_stays_as_it_is(statement: str) -> None:
    assert lay_out_sql(statement) == statement


def test_layout_changes_only_the_space_of_a_statement() -> None:
    assert lay_out_sql(NESTED).split() == NESTED.split()
