"""Answers with native histograms that are made, kept and joined in pieces."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from promcompat.core.errors import ExecutionError, QueryCanceledError
from promcompat.core.model import EvalRange, Labels, SampleBlock
from promcompat.querying.step_columns import join_steps, take_steps
from promql.budget import QueryBudget
from promql.evaluation.chunks import Evaluation, evaluate_plan
from promql.evaluation.evaluator import EvaluationOptions
from promql.functions import histogram_rates
from promql.histograms.arithmetic import total
from promql.histograms.combination import Combined
from promql.parsing.parser import parse_expr
from promql.parsing.type_checker import value_type
from promql.planning.planner import make_plan
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix
from promql.values.matrix_histograms import histogram_samples
from tests.support.factories import make_labels, mixed_column
from tests.support.histograms import histogram

MINUTE = 60_000
N_STEPS = 30
GRID = EvalRange(0, (N_STEPS - 1) * MINUTE, MINUTE)
Cell = float | tuple[float, tuple[int, ...], tuple[float, ...]]


def growing(number: int) -> HistogramColumns:
    side = [(1, float(number)), (3, 2.0 * number)]
    return histogram(1, count=3 * number, total=number, positive=side)


def block_of(series: dict[Labels, Sequence[float | HistogramColumns]]) -> SampleBlock:
    """Series with a sample at every minute, the last one now."""
    values, histograms = mixed_column(value for row in series.values() for value in row)
    times = [np.arange(N_STEPS - len(row), N_STEPS) * MINUTE for row in series.values()]
    offsets = np.cumsum([0, *(len(row) for row in series.values())], dtype=np.int64)
    return SampleBlock(tuple(series), np.concatenate(times), values, offsets, histograms=histograms)


BLOCK = block_of(
    {
        make_labels("h", n="1"): [growing(number) for number in range(N_STEPS)],
        make_labels("h", n="2"): [growing(number % 4) for number in range(9)],
        make_labels("h", n="3"): [1.0, 2.0, growing(1), growing(2), 4.0, 3.0],
        make_labels("h", n="4"): [float(number) for number in range(12)],
    }
)


def evaluate(
    text: str,
    cells_per_chunk: int = 10**6,
    max_bytes: int = 1 << 30,
    block: SampleBlock = BLOCK,
    budget: QueryBudget | None = None,
) -> Evaluation:
    expr = parse_expr(text)
    plan = make_plan(
        expr, value_type(expr), GRID, lookback_ms=2 * MINUTE, default_subquery_step_ms=MINUTE
    )
    options = EvaluationOptions(lookback_ms=2 * MINUTE)
    budget = budget or QueryBudget(float("inf"), 10**6, max_bytes)
    blocks = [block] * len(plan.selections)
    return evaluate_plan(plan, blocks, options, budget, cells_per_chunk)


def cells_of(value: object) -> dict[Labels, dict[int, Cell]]:
    """The samples of a matrix by step, histograms as count, indices and counts of buckets."""
    assert isinstance(value, Matrix)
    cells: dict[Labels, dict[int, Cell]] = {labels: {} for labels in value.labels}
    for row, step in np.argwhere(value.present).tolist():
        cells[value.labels[row]][step] = float(value.values[row, step])
    found = histogram_samples(value)
    if found is None:
        return cells
    for row, step, number in zip(found.rows, found.steps, found.numbers, strict=True):
        one = found.columns.take(np.array([number]))
        buckets = tuple(one.positive.indices.tolist()), tuple(one.positive.counts.tolist())
        cells[value.labels[row]][int(step)] = (float(one.counts[0]), *buckets)
    return cells


QUERIES = (
    "h",
    "rate(h[3m])",
    "last_over_time(h[5m])",
    "sum_over_time(h[2m])",
    "max_over_time(rate(h[3m])[5m:1m])",
    "sum_over_time(rate(h[3m])[5m:2m])",
    "changes(h[4m])",
    "h offset 2m",
)


@pytest.mark.parametrize("text", QUERIES)
def test_a_grid_in_pieces_gives_the_histograms_of_the_whole_grid(text: str) -> None:
    whole, pieces = evaluate(text), evaluate(text, cells_per_chunk=20)
    assert cells_of(pieces.value) == cells_of(whole.value)
    assert pieces.samples_per_step.tolist() == whole.samples_per_step.tolist()


def test_the_samples_of_a_range_are_counted_as_those_that_a_function_reads() -> None:
    of_range, of_function = (
        evaluate(text).samples_per_step.tolist() for text in ("h[4m]", "count_over_time(h[4m])")
    )
    assert of_range == of_function


RESET_BUCKET = histogram(1, count=95, total=9, positive=[(1, 1), (3, 94)])
"""With more observations than those before it, but with fewer in a bucket."""


@pytest.mark.parametrize("function", ["rate", "increase", "irate", "delta", "sum_over_time"])
def test_counts_without_buckets_are_those_with_them(function: str) -> None:
    one = [growing(number) for number in (*range(28, 31), *range(20, 24))]
    block = block_of({make_labels("h", n="1"): [*one, RESET_BUCKET, *one]})
    counts = evaluate(f"histogram_count({function}(h[4m]))", block=block).value
    whole = cells_of(evaluate(f"{function}(h[4m])", block=block).value)
    expected = {
        step: cell[0]
        for cells in whole.values()
        for step, cell in cells.items()
        if isinstance(cell, tuple)
    }
    assert expected
    assert list(cells_of(counts).values()) == [expected]


def test_a_query_wants_buckets_in_one_place_and_counts_in_another() -> None:
    text = "histogram_count(rate(h[4m])) and histogram_quantile(0.5, rate(h[4m])) > 0"
    assert cells_of(evaluate(text).value) == cells_of(
        evaluate("histogram_count(rate(h[4m])) > 0").value
    )


@pytest.mark.parametrize("text", [*QUERIES, "avg_over_time(h[4m])", "idelta(h[4m])"])
@pytest.mark.parametrize("terms", [1, 5])
def test_windows_in_cuts_give_the_histograms_of_all_windows_at_once(
    text: str, terms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cells_of(evaluate(text).value)
    monkeypatch.setattr(histogram_rates, "TERMS_PER_CUT", terms)
    assert cells_of(evaluate(text).value) == whole


def test_a_query_stops_between_the_cuts_of_a_window_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(histogram_rates, "TERMS_PER_CUT", 5)
    budget = QueryBudget(float("inf"), 10**6)

    def total_of_first_cut(*args: Any) -> Combined:
        budget.cancel()
        return total(*args)

    monkeypatch.setattr(histogram_rates, "total", total_of_first_cut)
    with pytest.raises(QueryCanceledError):
        evaluate("sum_over_time(h[4m])", budget=budget)


def test_pieces_of_a_grid_give_back_what_they_kept() -> None:
    needed = []
    for cells_per_chunk in (10**6, 8):
        budget = QueryBudget(float("inf"), 10**6)
        evaluate("sum(count_over_time(h[2m]))", cells_per_chunk, budget=budget)
        needed.append(budget.peak_bytes)
    assert needed[1] < needed[0]


@pytest.mark.parametrize("text", QUERIES)
def test_steps_of_two_answers_join_to_the_whole_answer(text: str) -> None:
    value = evaluate(text).value
    assert isinstance(value, Matrix)
    parts = [EvalRange(0, 12 * MINUTE, MINUTE), EvalRange(11 * MINUTE, GRID.end_ms, MINUTE)]
    taken = [(part, take_steps(value, GRID, part)) for part in parts]
    assert cells_of(join_steps(GRID, taken)) == cells_of(value)


def test_kept_steps_keep_only_the_histograms_that_they_have() -> None:
    value = evaluate("rate(h[3m])").value
    assert isinstance(value, Matrix)
    assert value.histograms is not None
    few = take_steps(value, GRID, EvalRange(27 * MINUTE, 28 * MINUTE, MINUTE))
    assert few.histograms is not None
    assert len(few.histograms) < len(value.histograms)


def test_a_window_counts_histograms_as_the_samples_they_are_like() -> None:
    # 176 bytes, two spans and two buckets of 8 bytes each, in units of 16 bytes.
    per_step = evaluate("count_over_time(h[2m])").samples_per_step
    assert per_step[10] == 2 * ((176 + 8 * 4) // 16)


def test_a_result_of_too_many_histograms_is_refused_before_it_is_made() -> None:
    large = block_of(
        {
            make_labels("h", n=str(number)): [
                histogram(0, count=9, positive=[(index, 1) for index in range(500)])
            ]
            * N_STEPS
            for number in range(20)
        }
    )
    with pytest.raises(ExecutionError, match="memory"):
        evaluate("rate(h[3m])", max_bytes=3 * large.histograms.n_bytes, block=large)  # type: ignore[union-attr]
