"""Native histograms in SQL: what functions say of them, and rows that hold them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from promcompat.core.bucket_bounds_kernels import exponential_bound
from promcompat.core.histograms.columns import Histograms
from promql.histograms.bucket_kernels import view_of
from promql.histograms.listed_buckets import listed_buckets
from promql.histograms.statistics_kernels import quantiles
from promql.values.histogram_columns import HistogramColumns
from sql.samples.codec.histogram_rows import encode_histogram_rows
from tests.support.histograms import histogram_columns, histogram_of

pytestmark = pytest.mark.integration
SLOW = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
HINTS = ["unknown", "reset", "not_reset", "gauge"]
CLOSED = {(False, True): 0, (True, False): 1, (True, True): 3}


class Sql:
    """Asks a migrated database about histograms."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(url))

    def ask(self, question: str, *arguments: object) -> list[tuple[Any, ...]]:
        """The rows of the answer."""
        rows = self._runner.run(self._connection.fetch(question, *arguments))
        return [tuple(row) for row in rows]

    def close(self) -> None:
        """End the session."""
        self._runner.run(self._connection.close())
        self._runner.close()


@pytest.fixture
def sql(plain_database_url: str) -> Iterator[Sql]:
    opened = Sql(plain_database_url)
    yield opened
    opened.close()


def row_of(histogram: Histograms) -> bytes:
    return encode_histogram_rows(histogram)[0]


def same(one: object, other: object) -> bool:
    return np.array_equal(np.array(one, float), np.array(other, float), equal_nan=True)


@settings(max_examples=25, suppress_health_check=SLOW)
@given(histogram=histogram_columns(max_size=1))
def test_sql_reads_a_row_as_promql_does(sql: Sql, histogram: Histograms) -> None:
    expected = HistogramColumns.of(histogram)
    ((found,),) = sql.ask("SELECT histogram_of_row($1)", row_of(histogram))
    floats = [expected.counts, expected.sums, expected.zero_thresholds, expected.zero_counts]
    assert same(
        [found["count"], found["sum"], found["zero_threshold"], found["zero_count"]],
        [column[0] for column in floats],
    )
    for side, buckets in (("positive", expected.positive), ("negative", expected.negative)):
        assert found[f"{side}_indexes"] == buckets.indices.tolist()
        assert same(found[f"{side}_counts"], buckets.counts)
    assert found["schema"] == expected.schemas[0]
    assert found["custom_bounds"] == histogram.bounds.cells.tolist()
    assert found["counter_reset_hint"] == HINTS[expected.hints[0]]


@settings(max_examples=25, suppress_health_check=SLOW)
@given(histogram=histogram_columns(max_size=1))
def test_buckets_are_those_of_promql(sql: Sql, histogram: Histograms) -> None:
    expected = listed_buckets(HistogramColumns.of(histogram))
    rows = sql.ask("SELECT * FROM histogram_buckets(histogram_of_row($1))", row_of(histogram))
    assert same(
        [row[:3] for row in rows] or np.empty((0, 3)),
        np.column_stack([expected.lowers, expected.uppers, expected.counts]),
    )
    assert [CLOSED[row[3:]] for row in rows] == expected.closed.tolist()


def test_bounds_are_those_of_prometheus_to_the_bit(sql: Sql) -> None:
    schemas = np.repeat(np.arange(-4, 9), 40)
    edges = np.concatenate([np.arange(-1080, -1060), np.arange(1010, 1030)])
    indexes = np.array(
        [
            edge << schema if schema > 0 else edge >> -schema
            for schema, edge in zip(schemas.tolist(), np.tile(edges, 13).tolist(), strict=True)
        ]
    )
    schemas = np.concatenate([schemas, np.full(512, 8)])
    indexes = np.concatenate([indexes, np.arange(-256, 256)])
    rows = sql.ask(
        "SELECT histogram_bound(w.s, w.i) FROM unnest($1::int[], $2::int[]) AS w (s, i)",
        schemas.tolist(),
        indexes.tolist(),
    )
    expected = [exponential_bound(*key) for key in zip(schemas, indexes, strict=True)]
    assert [row[0] for row in rows] == expected


EXPONENTIAL = histogram_of(
    schema=1,
    count=20,
    sum_=30.0,
    zero_threshold=0.001,
    zero_count=2,
    positive_spans=[(-1, 2), (2, 1)],
    positive=[3, 5, 4],
    negative_spans=[(0, 2)],
    negative=[5, 1],
)
CUSTOM = histogram_of(
    schema=-53,
    count=9,
    sum_=9.0,
    positive_spans=[(0, 4)],
    positive=[2, 3, 0, 4],
    bounds=[-1.0, 0.5, 2.0],
)
ONE_SIDED = histogram_of(
    count=4, sum_=2.0, zero_threshold=0.5, zero_count=3, positive_spans=[(1, 1)], positive=[1]
)
WITH_NAN = histogram_of(count=9, sum_=float("nan"), positive_spans=[(1, 2)], positive=[3, 4])
NOTHING = histogram_of()


@pytest.mark.parametrize("histogram", [EXPONENTIAL, CUSTOM, ONE_SIDED, WITH_NAN, NOTHING])
def test_quantiles_are_those_of_promql(sql: Sql, histogram: Histograms) -> None:
    wanted = np.array([-0.1, 0, 0.1, 0.25, 0.49, 0.5, 0.75, 0.9, 0.99, 1, 1.1, float("nan")])
    columns = HistogramColumns.of(histogram)
    results, notes = np.empty(len(wanted)), np.empty(len(wanted), np.uint8)
    rows = np.zeros(len(wanted), np.int64)
    quantiles(view_of(columns), columns.counts, columns.sums, rows, wanted, results, notes)
    found = sql.ask(
        "SELECT histogram_quantile(q, histogram_of_row($1)) FROM unnest($2::float8[]) AS q",
        row_of(histogram),
        wanted.tolist(),
    )
    np.testing.assert_allclose([row[0] for row in found], results, rtol=1e-12)


def test_count_sum_and_schema_of_a_histogram(sql: Sql) -> None:
    functions = "histogram_count(h), histogram_sum(h), histogram_schema(h)"
    question = f"SELECT {functions} FROM histogram_of_row($1) AS h"  # noqa: S608
    assert sql.ask(question, row_of(EXPONENTIAL)) == [(20, 30, 1)]
