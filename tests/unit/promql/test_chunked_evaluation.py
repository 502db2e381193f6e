"""A grid evaluated in pieces gives what it gives as a whole."""

import json

import pytest

from promcompat.core.errors import ExecutionError
from promcompat.core.model import EvalRange
from promql.budget import QueryBudget
from promql.evaluation.chunks import Evaluation, evaluate_plan
from promql.evaluation.evaluator import EvaluationOptions
from promql.parsing.parser import parse_expr
from promql.parsing.type_checker import value_type
from promql.planning.planner import make_plan
from promql.values.matrix import Matrix, ScalarGrid
from tests.support.factories import make_labels
from tests.unit.promql.queries import Series, SeriesReader, steps

MINUTE = 60_000
DATA: Series = {
    make_labels("a", n="1"): steps([float(n % 7) for n in range(30)]),
    make_labels("a", n="2"): steps([float(n) for n in range(10)], start_ms=5 * MINUTE),
    make_labels("a", n="3"): steps([1.0, 2.0, 3.0], start_ms=25 * MINUTE),
    make_labels("b", n="1"): steps([2.0] * 30),
}


async def evaluate(
    text: str, cells_per_chunk: int, max_samples: int = 10**6, delayed: bool = False
) -> Evaluation:
    expr = parse_expr(text)
    plan = make_plan(
        expr,
        value_type(expr),
        EvalRange(0, 29 * MINUTE, MINUTE),
        lookback_ms=2 * MINUTE,
        default_subquery_step_ms=MINUTE,
    )
    blocks = await SeriesReader(DATA).select("t", plan.selections)
    options = EvaluationOptions(lookback_ms=2 * MINUTE, delayed_name_removal=delayed)
    budget = QueryBudget(float("inf"), max_samples)
    return evaluate_plan(plan, blocks, options, budget, cells_per_chunk)


def as_text(evaluation: Evaluation) -> str:
    value = evaluation.value
    if isinstance(value, ScalarGrid):
        return json.dumps(value.values.tolist())
    assert isinstance(value, Matrix)
    present = value.present.tolist()
    rows = zip(value.labels, value.values.tolist(), present, strict=True)
    return json.dumps(
        sorted(
            (repr(labels), [v if p else None for v, p in zip(row, mask, strict=True)])
            for labels, row, mask in rows
        )
    )


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "a",
        "time()",
        "sum(a)",
        "rate(a[5m])",
        "a offset 3m",
        "a - (a @ end())",
        "a - (a @ start())",
        "quantile(time() / 2000, a @ 600)",
        "a * on () group_left () topk(time() % 2, a{n='2'} @ 600)",
        "max_over_time(rate(a[3m])[6m:90s])",
        "max_over_time(a[6m:1m] offset 2m)",
        "a / on(n) b",
        "a or b",
        "topk(1, a)",
        "absent(a{n='3'})",
        "absent_over_time(a{n='3'}[1m])",
        'count_values("v", a)',
        "timestamp(a)",
        "sum(a) + sum(a offset 1m)",
        "vector(1) unless a",
    ],
)
async def test_pieces_equal_the_whole(text: str, delayed: bool) -> None:
    whole = await evaluate(text, 10**6, delayed=delayed)
    for cells in (1, 10, 40):
        assert as_text(await evaluate(text, cells, delayed=delayed)) == as_text(whole)


async def test_series_that_never_coexist_take_memory_for_their_samples_only() -> None:
    # As a whole the selector needs 3 x 30 cells, a piece of two steps no more than 2 x 2.
    assert as_text(await evaluate("count(a)", 1, max_samples=45)) == as_text(
        await evaluate("count(a)", 10**6)
    )
    with pytest.raises(ExecutionError, match="too many samples"):
        await evaluate("count(a)", 10**6, max_samples=45)


async def test_annotations_of_all_pieces_are_reported() -> None:
    evaluation = await evaluate("rate(b[5m])", 1)
    ((text, _),) = evaluation.annotations.infos
    assert text.startswith("metric might not be a counter")
