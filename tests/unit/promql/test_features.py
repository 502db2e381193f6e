"""What a query may contain depends on the features that are enabled."""

import pytest

from promcompat.core.errors import BadDataError
from promcompat.core.model import EvalRange
from promql.engine import Engine, EngineOptions
from promql.features import ALL_FEATURES, DEFAULT_FEATURES, Feature
from promql.parsing.parser import parse_expr
from promql.query import Query
from promql.values.matrix import Matrix
from tests.support.factories import make_labels
from tests.unit.promql.queries import SeriesReader

NEEDS = [
    (
        Feature.EXPERIMENTAL_FUNCTIONS,
        "1 + step()",
        '1:5: parse error: function "step" is not enabled',
    ),
    (
        Feature.EXPERIMENTAL_FUNCTIONS,
        "limitk(1, foo)",
        "1:1: parse error: limitk() is experimental and must be enabled with"
        " --enable-feature=promql-experimental-functions",
    ),
    (
        Feature.BINOP_FILL_MODIFIERS,
        "foo + fill(1) bar",
        "1:1: parse error: binop fill modifiers are experimental and not enabled",
    ),
    (
        Feature.EXTENDED_RANGE_SELECTORS,
        "rate(foo[5m] anchored)",
        "1:6: parse error: anchored modifier is experimental and not enabled",
    ),
]


@pytest.mark.parametrize(("feature", "query", "error"), NEEDS)
def test_a_query_is_refused_without_the_feature_it_needs(
    feature: Feature, query: str, error: str
) -> None:
    assert parse_expr(query, features=frozenset([feature]))
    with pytest.raises(BadDataError) as refused:
        parse_expr(query, features=ALL_FEATURES - {feature})
    assert str(refused.value) == error


async def test_start_timestamps_have_no_result_without_their_feature() -> None:
    engine = Engine(SeriesReader({make_labels("begun"): [(0, 1.0)]}), EngineOptions())
    for text, n_series in (("begun", 1), ("start_timestamp(begun)", 0)):
        value = (await engine.run(Query("default", text, EvalRange.instant(0)))).value
        assert isinstance(value, Matrix)
        assert len(value.labels) == n_series


def test_durations_of_the_query_need_no_feature() -> None:
    assert parse_expr("rate(foo[max_of(step(), 5m)])", features=frozenset())


def test_experimental_functions_are_enabled_by_default() -> None:
    assert parse_expr("sort_by_label(foo, 'a')", features=DEFAULT_FEATURES)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (
            "foo[5m:1m] anchored",
            "1:1: parse error: anchored modifier is not supported for subqueries",
        ),
        ("(foo) smoothed", "1:1: parse error: smoothed modifier not implemented"),
        (
            "foo[5m] smoothed anchored",
            "1:1: parse error: anchored and smoothed modifiers cannot be used together",
        ),
        ("foo[step]", '1:9: parse error: unexpected "]" in subquery or range selector'),
    ],
)
def test_misplaced_modifiers_are_refused(query: str, error: str) -> None:
    with pytest.raises(BadDataError) as refused:
        parse_expr(query)
    assert str(refused.value).startswith(error)
