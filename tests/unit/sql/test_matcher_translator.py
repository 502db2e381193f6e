"""Matchers to SQL text and parameters."""

import numpy as np
import pytest

from sql.database.statements import Params
from sql.series.matcher_translator import (
    MAX_TERMS,
    SeriesCondition,
    series_statement,
    translate_matchers,
)
from tests.support.factories import make_matcher

IDS = np.array([3, 5], np.int64)


def translate(*matchers: tuple[str, str, str]) -> tuple[SeriesCondition, list[object]]:
    params = Params()
    condition = translate_matchers([make_matcher(*matcher) for matcher in matchers], params)
    return condition, params.values


@pytest.mark.parametrize(
    ("matcher", "text", "values"),
    [
        (("__name__", "=", "up"), "s.metric_name = $1", ["up"]),
        (("__name__", "=", ""), "s.metric_name = $1", [""]),
        (("__name__", "!=", "up"), "NOT (s.metric_name = $1)", ["up"]),
        (("__name__", "=~", "a|b"), "s.metric_name = ANY($1::text[])", [["a", "b"]]),
        (("job", "=", "x"), "s.labels @> $1::jsonb", ['{"job":"x"}']),
        (("job", "=", ""), "NOT s.labels ? $1::text", ["job"]),
        (("job", "!=", ""), "NOT (NOT s.labels ? $1::text)", ["job"]),
        (
            ("job", "!=", "x"),
            "NOT (coalesce(s.labels ->> $1::text = ANY($2::text[]), FALSE))",
            ["job", ["x"]],
        ),
        (
            ("job", "=~", "x|y"),
            "coalesce(s.labels ->> $1::text = ANY($2::text[]), FALSE)",
            ["job", ["x", "y"]],
        ),
        (
            ("job", "=~", "x|"),
            "(coalesce(s.labels ->> $1::text = ANY($2::text[]), FALSE) OR NOT s.labels ? $1::text)",
            ["job", ["x"]],
        ),
        (
            ("job", "=~", "^(x|y):80$"),
            "coalesce(s.labels ->> $1::text = ANY($2::text[]), FALSE)",
            ["job", ["x:80", "y:80"]],
        ),
        (("job", "=~", ".*"), "TRUE", []),
        (("job", "!~", ".*"), "NOT (TRUE)", []),
        (("job", "=~", ".+"), "NOT (NOT s.labels ? $1::text)", ["job"]),
        (("job", "=", "a\0b"), "FALSE", []),
        (("a\0b", "=", "x"), "FALSE", []),
        (("a\0b", "!=", "x"), "TRUE", []),
        (("a\ud800b", "=~", "|x"), "TRUE", []),
    ],
)
def test_matcher_becomes_condition(
    matcher: tuple[str, str, str], text: str, values: list[object]
) -> None:
    condition, params = translate(matcher)
    assert condition.text == text
    assert params == values
    assert condition.residual == condition.residual_names == ()


def test_equalities_share_one_containment() -> None:
    condition, params = translate(("a", "=", "1"), ("__name__", "=", "up"), ("b", "=", "2"))
    assert condition.text == "s.labels @> $2::jsonb AND s.metric_name = $1"
    assert params == ["up", '{"a":"1","b":"2"}']


def test_contradicting_equalities_are_both_kept() -> None:
    condition, params = translate(("a", "=", "1"), ("a", "=", "2"))
    assert condition.text.count("$") == 3
    assert params == ["a", ["2"], '{"a":"1"}']


def test_regular_expressions_are_left_to_re2() -> None:
    condition, params = translate(("a", "=~", "x.*"), ("__name__", "!~", "y+"), ("b", "=~", "c?"))
    assert condition.text == "TRUE"
    assert params == []
    assert [matcher.name for matcher in condition.residual] == ["a", "b"]
    assert [matcher.name for matcher in condition.residual_names] == ["__name__"]


def test_thousands_of_matchers_fit_into_a_statement() -> None:
    condition, params = translate(
        *((f"a{n}", "!=", "x") for n in range(5_000)), *((f"b{n}", "=~", "x.*") for n in range(900))
    )
    assert condition.text.count(" AND ") == MAX_TERMS - 1
    assert len(params) == 2 * MAX_TERMS
    assert len(condition.residual) == 5_900 - MAX_TERMS
    statement = series_statement(7, condition, Params(list(params)), None)
    assert statement.text.startswith("SELECT s.id, s.labels::text AS labels FROM")


def test_series_statement_packs_ids_without_residuals() -> None:
    params = Params()
    condition = translate_matchers([make_matcher("__name__", "=", "up")], params)
    statement = series_statement(7, condition, params, None)
    assert statement.text == (
        "SELECT string_agg(int8send(s.id), ''::bytea ORDER BY s.id) AS ids"
        " FROM series AS s WHERE (s.tenant_id = $2) AND (s.metric_name = $1)"
    )
    assert statement.params == ("up", 7)


def test_series_statement_fetches_what_residuals_look_at() -> None:
    params = Params()
    condition = translate_matchers([make_matcher("a", "=~", "x.*")], params)
    statement = series_statement(7, condition, params, ["up", "down"])
    assert statement.text == (
        "SELECT s.id, coalesce(s.labels ->> $3::text, '') AS v0 FROM series AS s"
        " WHERE (s.tenant_id = $1) AND (s.metric_name = ANY($2::text[])) ORDER BY s.id"
    )
    assert statement.params == (7, ["up", "down"], "a")
