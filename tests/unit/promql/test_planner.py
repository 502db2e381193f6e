"""The plan of a query: what is fetched, what is resolved, what is evaluated once."""

from collections.abc import Sequence

import pytest

from promcompat.core.errors import BadDataError
from promcompat.core.model import METRIC_NAME, EvalRange, SelectHints, SeriesSelection
from promql.ast import Call, MatrixSelector, SubqueryExpr, VectorSelector
from promql.parsing.parser import parse_expr
from promql.parsing.type_checker import value_type
from promql.planning.plan import Plan
from promql.planning.planner import make_plan

MINUTE = 60_000
HOUR = 60 * MINUTE


def plan(text: str, eval_range: EvalRange | None = None) -> Plan:
    expr = parse_expr(text)
    return make_plan(
        expr,
        value_type(expr),
        eval_range or EvalRange(HOUR, 2 * HOUR, MINUTE),
        lookback_ms=5 * MINUTE,
        default_subquery_step_ms=MINUTE,
    )


def bounds(selections: Sequence[SeriesSelection]) -> list[tuple[int, int]]:
    """Start and end of each selection, in minutes from the start of the query."""
    return [((s.start_ms - HOUR) // MINUTE, (s.end_ms - HOUR) // MINUTE) for s in selections]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("foo", (-5, 60)),
        ("foo offset 10m", (-15, 50)),
        ("foo offset -10m", (5, 70)),
        ("foo @ 3600", (-5, 0)),
        ("foo @ start()", (-5, 0)),
        ("foo @ end() offset 1m", (54, 59)),
        ("rate(foo[10m])", (-10, 60)),
        ("rate(foo[10m] offset 1m)", (-11, 59)),
        ("rate(foo[10m] @ end())", (50, 60)),
        ("max_over_time(foo[20m:1m])", (-24, 60)),
        ("max_over_time(foo[20m:1m] offset 2m)", (-26, 58)),
        ("max_over_time(rate(foo[10m] offset 1m)[20m:1m] offset 2m)", (-32, 57)),
        ("max_over_time(foo[20m:1m] @ end())", (36, 60)),
        ("max_over_time((foo @ start())[20m:1m] @ end())", (-5, 0)),
        ("max_over_time(max_over_time(foo[1m:1m])[20m:1m] @ end())", (36, 60)),
    ],
)
def test_selection_covers_what_the_evaluator_can_read(text: str, expected: tuple[int, int]) -> None:
    assert bounds(plan(text).selections) == [expected]


def test_equal_selectors_are_fetched_once() -> None:
    found = plan("sum(foo) / count(foo) + rate(foo[5m])")
    assert bounds(found.selections) == [(-5, 60), (-5, 60)]
    assert [s.hints.range_ms for s in found.selections] == [0, 5 * MINUTE]
    assert sorted(found.leaf_of.values()) == [0, 0, 1]


def test_hints_say_how_samples_are_used() -> None:
    (selection,) = plan("sum by (job) (rate(foo[5m]))").selections
    assert selection.hints == SelectHints(
        step_ms=MINUTE,
        range_ms=5 * MINUTE,
        reach_ms=5 * MINUTE,
        function="rate",
        labels=("__name__", "__type__", "__unit__", "job"),
        drops_metadata=True,
    )
    (selection,) = plan("sum by (job) (foo)").selections
    assert selection.hints == SelectHints(
        step_ms=MINUTE, reach_ms=5 * MINUTE, function="sum", labels=("job",)
    )
    (selection,) = plan("sum(foo + foo)").selections
    assert selection.hints == SelectHints(step_ms=MINUTE, reach_ms=5 * MINUTE)


def test_shared_selection_has_no_hint_of_one_use_only() -> None:
    (selection,) = plan("sum(foo) / count(foo)").selections
    assert selection.hints == SelectHints(step_ms=MINUTE, reach_ms=5 * MINUTE, labels=())


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("count by (job, env, job) (foo)", ("env", "job")),
        ("quantile((0.9), (foo offset 1m))", ()),
        ("sum by (job) (foo) / count by (env) (foo)", ("env", "job")),
        ("sum by (job) (foo) / foo", None),
        ("sum without (job) (foo)", None),
        ("sum by (job) (-foo)", ("__name__", "__type__", "__unit__", "job")),
        ("sum by (job) (-{a='b'})", None),
        ("sum by (job) (+foo)", ("job",)),
        ("sum by (job) (foo > 1)", ("job",)),
        ("sum by (job) ((3) < (foo))", ("job",)),
        ("sum by (job) (foo > bool 1)", ("__name__", "__type__", "__unit__", "job")),
        ("sum by (job) (2 * last_over_time(foo[5m]))", ("__name__", "__type__", "__unit__", "job")),
        ("sum by (job) (foo * (foo > 1))", None),
        ("sum by (job) (foo and foo)", None),
        ("sum by (job) (rate(foo[5m]))", ("__name__", "__type__", "__unit__", "job")),
        ("sum(rate((foo{a='b'}[5m])))", ("__name__", "__type__", "__unit__")),
        ("sum by (job) (last_over_time({a='b'}[5m]))", ("job",)),
        ("sum by (job) (rate({__name__=~'foo'}[5m]))", None),
        ("sum by (job) (rate(foo[5m:1m]))", None),
        ("sum by (job) (absent_over_time(foo[5m]))", None),
        ("sum by (job) (abs(foo))", None),
        ("sum by (job) (foo + 1)", ("__name__", "__type__", "__unit__", "job")),
        ("sum(sum by (job) (foo))", ("job",)),
        ("sum(max_over_time(foo[5m:1m]))", None),
        ("topk by (job) (5, foo)", None),
        ("count_values by (job) ('v', foo)", ("job",)),
        ("count_values without (job) ('v', foo)", None),
        ("limitk by (job) (5, foo)", None),
        ("sum by (job) (info(foo))", None),
        ("foo", None),
    ],
)
def test_hints_name_all_labels_that_are_read(text: str, labels: tuple[str, ...] | None) -> None:
    assert plan(text).selections[0].hints.labels == labels


@pytest.mark.parametrize(
    ("text", "wants_only_counts"),
    [
        ("histogram_count(rate(foo[5m]))", True),
        ("sum(histogram_avg(sum by (job) (foo)))", True),
        ("histogram_sum(foo * 2)", True),
        ("rate(foo[5m])", False),
        ("histogram_count(foo </ 1)", False),
        ("histogram_count(rate(foo[5m:1m]))", False),
        ("histogram_count(max_over_time(foo[5m:1m]))", False),
        ("histogram_quantile(0.9, foo)", False),
        ("histogram_quantile(scalar(histogram_count(foo)), vector(1))", False),
    ],
)
def test_buckets_are_left_out_where_only_counts_are_wanted(
    text: str, wants_only_counts: bool
) -> None:
    found = plan(text)
    assert found.without_buckets == (frozenset(found.leaf_of) if wants_only_counts else frozenset())


def test_at_start_and_end_are_ignored_in_parameters() -> None:
    found = plan("topk(scalar(k @ end()), foo @ start())")
    assert bounds(found.selections) == [(-5, 60), (-5, 0)]


def test_step_invariant_parts_are_the_largest_ones() -> None:
    found = plan("sum(foo @ 60) + bar")
    (part,) = found.step_invariant
    assert part.pos.start == 0
    assert part.pos.end == len("sum(foo @ 60)")


def test_function_of_the_eval_time_is_not_step_invariant() -> None:
    found = plan("minute(foo @ 60) + predict_linear(foo[5m] @ 60, 10)")
    assert [type(part) for part in found.step_invariant if isinstance(part, Call)] == []
    assert any(isinstance(part, VectorSelector) for part in found.step_invariant)


def test_inside_of_a_subquery_is_invariant_by_itself() -> None:
    found = plan("sum_over_time((foo @ 60)[5m:1m])")
    assert len(found.step_invariant) == 1


def test_constant_is_not_evaluated_apart() -> None:
    assert plan("vector(1) + 1").step_invariant == frozenset()


def test_duration_expressions_are_computed() -> None:
    expr = plan("max_over_time(rate(foo[5m * 2])[1h - 30m : 10s + 20s] offset (1m + 2m))").expr
    assert isinstance(expr, Call)
    subquery = expr.args[0]
    assert isinstance(subquery, SubqueryExpr)
    assert (subquery.range_ms, subquery.step_ms) == (30 * MINUTE, 30_000)
    assert subquery.modifiers.offset_ms == 3 * MINUTE
    assert isinstance(subquery.expr, Call)
    selector = subquery.expr.args[0]
    assert isinstance(selector, MatrixSelector)
    assert selector.range_ms == 10 * MINUTE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate(foo[5m-5m])", "9:14: duration must be greater than 0"),
        ("rate(foo[5m / (5m-5m)])", "9:20: division by zero"),
        ("max_over_time(foo[5m % (1m - 60)])", "18:31: modulo by zero"),
        ("rate(foo[2^80])", "9:13: duration is out of range"),
        ("rate(foo[5m-5m]) + rate(foo[2^80])", "9:14: duration must be greater than 0"),
    ],
)
def test_unusable_duration_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadDataError, match=f"^{message}$"):
        plan(text)


def test_default_step_of_a_subquery() -> None:
    expr = plan("max_over_time(foo[5m:])").expr
    assert isinstance(expr, Call)
    assert isinstance(expr.args[0], SubqueryExpr)
    assert expr.args[0].step_ms == MINUTE


def test_info_reads_target_info_by_default() -> None:
    selections = plan("info(foo)").selections
    assert [(m.name, m.value) for m in selections[1].matchers] == [(METRIC_NAME, "target_info")]
    selections = plan('info(foo, {version=~".+"})').selections
    assert [m.name for m in selections[1].matchers] == [METRIC_NAME, "version"]


def test_timestamp_at_a_moved_time_may_leave_nothing_out() -> None:
    (selection,) = plan("timestamp(foo @ 60 offset -1m)").selections
    assert selection.hints.reach_ms == 0
    (selection,) = plan("timestamp(foo @ 60)").selections
    assert selection.hints.reach_ms == 5 * MINUTE


def test_subquery_is_evaluated_at_multiples_of_its_step() -> None:
    found = plan("max_over_time(foo[20m:7m])", EvalRange(HOUR, HOUR, 0)).selections[0]
    first_ms = found.start_ms + found.hints.reach_ms
    assert first_ms == 42 * MINUTE
    assert found.end_ms == 56 * MINUTE


@pytest.mark.parametrize(
    ("text", "can_move"),
    [
        ("foo", True),
        ("1 + 2", True),
        ("sum by (job) (rate(foo[5m] offset 1m)) > 0.5 * bar", True),
        ("foo / foo offset -2m", True),
        ("histogram_quantile(0.9, rate(foo[10m])) + time()", True),
        ("rate(foo[step() + 5m])", True),
        ("histogram_count(sum(foo)) + smoothed_or_not", True),
        ("foo[5m]", True),
        ("foo @ 3600", False),
        ("sum(foo @ start()) + bar", False),
        ("rate(foo[10m] @ end())", False),
        ("max_over_time(foo[20m:1m])", False),
        ("info(foo)", False),
        ("foo > start()", False),
        ("vector(end())", False),
    ],
)
def test_a_moved_plan_is_that_of_another_time(text: str, can_move: bool) -> None:
    grids = [EvalRange(start, start + HOUR, MINUTE) for start in (HOUR, 7 * HOUR + 1_234)]
    grids += [EvalRange.instant(time_ms) for time_ms in (HOUR, -5)]
    for earlier, later in (grids[:2], grids[2:]):
        found = plan(text, earlier)
        assert found.can_move == can_move
        if can_move:
            assert found.moved(later) == plan(text, later)
