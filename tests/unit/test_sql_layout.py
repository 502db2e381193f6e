"""Statements laid out for people."""

import pytest

from promcompat.processes.sql_layout import lay_out_sql

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
def test_the_rest_stays(statement: str) -> None:
    assert lay_out_sql(statement) == statement


def test_only_space_changes() -> None:
    assert lay_out_sql(NESTED).split() == NESTED.split()
