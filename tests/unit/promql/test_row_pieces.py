"""Operators give the same on pieces of a matrix as on all of it, and need little memory for it."""

import json
import time
import tracemalloc

import numpy as np
import pytest

from promcompat.core.model import EvalRange, SampleBlock
from promql.budget import QueryBudget
from promql.evaluation.chunks import evaluate_plan
from promql.evaluation.evaluator import EvaluationOptions
from promql.functions import classic_histograms
from promql.parsing.parser import parse_expr
from promql.parsing.type_checker import value_type
from promql.planning.planner import make_plan
from promql.values import range_vectors, row_pieces
from promql.values.matrix import Matrix, ScalarGrid
from promql.values.row_pieces import RowWriter, series_pieces, take_series
from tests.support.factories import make_block, make_labels
from tests.unit.promql.queries import Series, run_range, steps

N_STEPS = 23
DATA: Series = {
    **{
        make_labels("x", n=str(n), job=f"j{n % 3}"): steps(
            [float((n * 7 + k * k) % 11) - 3 if (n + k) % 5 else None for k in range(N_STEPS)]
        )
        for n in range(9)
    },
    make_labels("x", n="late", job="j0"): steps([1.0, -0.0, 0.0], start_ms=20 * 60_000),
    make_labels("z", n="late", job="j0"): steps([3.0, 4.0]),
    make_labels("x", n="huge", job="j1"): steps([1.7e308] * N_STEPS),
    **{
        make_labels("h", le=le, job=job): steps([float(k * number) for k in range(N_STEPS)])
        for number, le in enumerate(("1", "2", "+Inf"), 1)
        for job in "abc"
    },
}
QUERIES = [
    "x",
    "timestamp(x)",
    "abs(x)",
    "round(x, 0.5)",
    "clamp(x, -1, 4)",
    "hour(x * 4000)",
    "x ^ 2",
    "time() - x",
    "x + on(n) group_left() x",
    '{n="late"} + 1',
    *(
        f"{op}{grouping}({parameter}x)"
        for op, parameter in (
            ("sum", ""),
            ("avg", ""),
            ("min", ""),
            ("max", ""),
            ("count", ""),
            ("group", ""),
            ("stddev", ""),
            ("quantile", "0.3, "),
            ("topk", "2, "),
        )
        for grouping in ("", " by (job) ", " by (n) ")
    ),
    *(
        f"{name}(x[4m])"
        for name in (
            "rate",
            "irate",
            "delta",
            "deriv",
            "changes",
            "sum_over_time",
            "avg_over_time",
            "max_over_time",
            "stddev_over_time",
            "mad_over_time",
            "last_over_time",
            "ts_of_min_over_time",
        )
    ),
    "quantile_over_time(0.4, x[5m])",
    "predict_linear(x[5m], 60)",
    "double_exponential_smoothing(x[5m], 0.5, 0.5)",
    "max_over_time(rate(x[3m])[6m:90s])",
    "sum_over_time(x[3m] @ 600)",
    "absent_over_time(x{n='late'}[1m])",
    "histogram_quantile(0.5, h)",
    "histogram_fraction(0.5, 1.5, rate(h[3m]))",
]


async def answer_text(query: str) -> str:
    result = await run_range(query, DATA, N_STEPS)
    assert isinstance(result.value, Matrix)
    cells = np.where(result.value.present, result.value.values, np.nan)
    # With their bits, so that the sign of a zero counts.
    rows = zip(map(repr, result.value.labels), cells.view(np.int64).tolist(), strict=True)
    return json.dumps([sorted(rows), result.infos, result.stats.total_samples])


def cut_small(monkeypatch: pytest.MonkeyPatch, n_cells: int) -> None:
    for module in (row_pieces, classic_histograms):
        monkeypatch.setattr(module, "CELLS_PER_PIECE", n_cells)
    monkeypatch.setattr(row_pieces, "SAMPLES_PER_PIECE", 2 * n_cells)
    monkeypatch.setattr(range_vectors, "_VISITS_PER_PIECE", 2 * n_cells)


@pytest.mark.parametrize("query", QUERIES)
async def test_pieces_equal_the_whole(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await answer_text(query)
    assert json.loads(whole)[0]
    for n_cells in (1, 9, 60):
        cut_small(monkeypatch, n_cells)
        assert await answer_text(query) == whole, n_cells


def test_pieces_of_series_have_few_cells_and_samples() -> None:
    offsets = np.concatenate(([0], np.cumsum([10] * 1000 + [5_000_000] + [10] * 1000)))
    pieces = series_pieces(offsets, 1000)
    assert [piece.start for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]
    assert (pieces[0].start, pieces[-1].stop) == (0, 2001)
    alone = [piece for piece in pieces if piece.start <= 1000 < piece.stop]
    assert all(
        (piece.stop - piece.start) * 1000 <= row_pieces.CELLS_PER_PIECE + 1000 for piece in pieces
    )
    assert alone[0].stop - alone[0].start <= 2 * row_pieces.CELLS_PER_PIECE // 1000


def test_series_taken_share_their_samples() -> None:
    block = make_block({make_labels("x", n=str(n)): [(n, 1.0), (n + 5, 2.0)] for n in range(4)})
    part = take_series(block, slice(1, 3))
    assert part.labels == block.labels[1:3]
    assert part.offsets.tolist() == [0, 2, 4]
    assert part.timestamps.tolist() == [1, 6, 2, 7]
    assert np.shares_memory(part.values, block.values)


def test_rows_without_a_sample_are_left_out() -> None:
    labels = [make_labels("x", n=str(n)) for n in range(5)]
    writer = RowWriter(5, 2)
    for first, rows in ((0, [[0, 0], [1, 0]]), (2, [[0, 0]]), (3, [[0, 1], [1, 1]])):
        values, present = writer.next_rows(len(rows))
        values[:], present[:] = np.arange(first, first + len(rows))[:, None], np.array(rows, bool)
        writer.close_rows(slice(first, first + len(rows)))
    matrix = writer.matrix(labels, np.array([True, False, True, True, False]))
    assert list(matrix.labels) == [labels[1], labels[3], labels[4]]
    assert matrix.values[:, 0].tolist() == [1.0, 3.0, 4.0]
    assert matrix.present.tolist() == [[True, False], [False, True], [True, True]]
    assert matrix.drop_name.tolist() == [False, True, False]


N_SERIES, N_SAMPLES = 300, 1000
STEP_MS = 15_000
UNCOUNTED_BYTES = 10_000_000
MEASURED = [
    "x",
    "-x",
    "x @ 100",
    "x or y",
    "x + x",
    "x ^ 2.5",
    "sum by (n) (x)",
    "avg by (n) (x)",
    "min(x)",
    "quantile(0.5, x)",
    "quantile by (n) (0.5, x)",
    "topk(299, x)",
    "year(x)",
    "clamp(x, 1, 2)",
    "exp(x)",
    "rate(x[5m])",
    "deriv(x[5m])",
    "max_over_time(x[5m])",
    "ts_of_max_over_time(x[5m])",
    "avg_over_time(x[1h])",
    "quantile_over_time(0.9, x[1h])",
    "max_over_time(rate(x[5m])[10m:1m])",
    "rate(x[5m]) / on(n) rate(y[5m])",
    "histogram_quantile(0.9, rate(h[5m]))",
    "sum(rate(x[5m]))",
    "max_over_time(vector(1)[1h:50ms])",
]


def filled_block(name: str) -> SampleBlock:
    bounds = ("1", "2", "+Inf")
    labels = sorted(
        (
            make_labels(name, le=bounds[n % 3], n=f"{n // 3 if name == 'h' else n:04}")
            for n in range(N_SERIES)
        ),
        key=lambda labels: labels.pairs,
    )
    times = np.tile(np.arange(N_SAMPLES) * STEP_MS, N_SERIES)
    values = np.random.default_rng(1).integers(0, 1000, len(times)).astype(np.float64)
    return SampleBlock(tuple(labels), times, values, np.arange(N_SERIES + 1) * N_SAMPLES)


BLOCKS = {name: filled_block(name) for name in ("x", "y", "h")}


@pytest.mark.parametrize("query", MEASURED)
def test_what_is_counted_is_what_is_taken(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (row_pieces, classic_histograms):
        monkeypatch.setattr(module, "CELLS_PER_PIECE", 1 << 13)
    expr = parse_expr(query)
    grid = EvalRange(0, (N_SAMPLES - 1) * STEP_MS, STEP_MS)
    plan = make_plan(
        expr, value_type(expr), grid, lookback_ms=300_000, default_subquery_step_ms=60_000
    )
    blocks = [BLOCKS[selection.matchers[0].value] for selection in plan.selections]
    budget = QueryBudget(time.monotonic() + 600, 10**9)
    tracemalloc.start()
    try:
        value = evaluate_plan(plan, blocks, EvaluationOptions(lookback_ms=300_000), budget).value
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(value, Matrix | ScalarGrid)
    assert taken <= 1.25 * budget.peak_bytes + UNCOUNTED_BYTES
