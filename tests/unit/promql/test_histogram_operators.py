"""Operators and aggregations of vectors with histograms, and what they tell."""

import math
from dataclasses import replace

import numpy as np
import pytest

from promcompat.core.errors import ExecutionError
from promcompat.core.histograms.columns import histogram_numbers
from promql.aggregation.aggregations import aggregate
from promql.aggregation.count_values import count_values
from promql.aggregation.sample_selection import select_samples
from promql.ast import AggregateExpr, BinaryExpr, PositionRange, VectorMatching
from promql.budget import QueryBudget
from promql.histograms.listed_buckets import histogram_texts
from promql.operators.negation import negated
from promql.operators.set_operators import apply_set_operator
from promql.operators.vector_matching import (
    VectorOperator,
    scalar_operation,
    vector_operation,
    vector_scalar_operation,
)
from promql.parsing.parser import parse_expr
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Annotations, Matrix, ScalarGrid
from promql.values.matrix_histograms import are_histograms, joined_values
from promql.values.shapes import without_empty_rows
from tests.support.factories import make_labels
from tests.support.histograms import histogram, histogram_vector
from tests.unit.promql.grids import matrix

POS = PositionRange(0, 9)
SMALL = histogram(count=3, total=4, positive=[(0, 1), (1, 2)])
LARGE = histogram(count=7, total=9, positive=[(1, 3), (2, 4)])
CUSTOM = histogram(bounds=[1, 2, 5], count=10, total=20, positive=[(0, 2), (1, 4), (3, 4)])
OTHER_CUSTOM = histogram(bounds=[1, 5], count=2, total=3, positive=[(1, 2)])


def texts(value: Matrix) -> list[str]:
    """The only step of each row that has one: a number or the text of a histogram."""
    found = are_histograms(value)
    shown = []
    for row in np.flatnonzero(value.present[:, 0]).tolist():
        if found is not None and found[row, 0]:
            assert value.histograms is not None
            number = histogram_numbers(value.values[row, :1])
            shown += histogram_texts(value.histograms.take(number))
        else:
            shown.append(f"{value.values[row, 0]:g}")
    return shown


def operator(op: str, annotations: Annotations, *, return_bool: bool = False) -> VectorOperator:
    budget = QueryBudget(math.inf, 10**6)
    return VectorOperator(op, VectorMatching(), return_bool, False, annotations, POS, budget)


def combine(
    left: HistogramColumns | float,
    op: str,
    right: HistogramColumns | float,
    *,
    return_bool: bool = False,
) -> tuple[list[str], list[str]]:
    """`left op right` of two vectors: the results, and the notes with their level."""
    sides = [
        histogram_vector(side) if isinstance(side, HistogramColumns) else matrix({LABELS: [side]})
        for side in (left, right)
    ]
    annotations = Annotations()
    how = operator(op, annotations, return_bool=return_bool)
    result = vector_operation(sides[0], sides[1], how)
    return texts(result), notes(annotations)


def notes(annotations: Annotations) -> list[str]:
    assert {pos for _, pos in (*annotations.warnings, *annotations.infos)} <= {POS}
    return [
        *(f"W {text}" for text, _ in annotations.warnings),
        *(f"I {text}" for text, _ in annotations.infos),
    ]


LABELS = make_labels("h", n="0")
SMALL_TEXT = "{count:3, sum:4, (0.5,1]:1, (1,2]:2}"


def types(op: str, left: str, right: str) -> str:
    return (
        f'I incompatible sample types encountered for binary operator "{op}": {left} {op} {right}'
    )


@pytest.mark.parametrize(
    ("left", "op", "right", "expected"),
    [
        (SMALL, "+", LARGE, "{count:10, sum:13, (0.5,1]:1, (1,2]:5, (2,4]:4}"),
        (LARGE, "-", SMALL, "{count:4, sum:5, (0.5,1]:-1, (1,2]:1, (2,4]:4}"),
        (SMALL, "*", 2, "{count:6, sum:8, (0.5,1]:2, (1,2]:4}"),
        (2, "*", SMALL, "{count:6, sum:8, (0.5,1]:2, (1,2]:4}"),
        (SMALL, "/", 0.5, "{count:6, sum:8, (0.5,1]:2, (1,2]:4}"),
        (SMALL, "/", 0, "{count:+Inf, sum:+Inf, [-0,0]:NaN}"),
        (SMALL, "==", SMALL, SMALL_TEXT),
        (SMALL, "!=", LARGE, SMALL_TEXT),
        (SMALL, "</", 1, "{count:1, sum:0.7071067811865476, (0.5,1]:1}"),
        (SMALL, "</", 8, SMALL_TEXT),
        (SMALL, ">/", 0.5, SMALL_TEXT),
        (SMALL, ">/", 2, "{count:0, sum:0}"),
        (SMALL, "</", math.nan, "{count:0, sum:0}"),
        (CUSTOM, "</", 1.5, "{count:4, sum:3.5, [-Inf,1]:2, (1,2]:2}"),
        (CUSTOM, ">/", 1.5, "{count:6, sum:23.5, (1,2]:2, (5,+Inf]:4}"),
    ],
)
def test_operators_combine_two_histograms(
    left: HistogramColumns, op: str, right: HistogramColumns, expected: str
) -> None:
    assert combine(left, op, right) == ([expected], [])


def test_what_a_comparison_does_not_keep_has_no_note() -> None:
    assert combine(SMALL, "==", LARGE) == ([], [])
    assert combine(SMALL, "!=", SMALL) == ([], [])
    assert combine(SMALL, "==", LARGE, return_bool=True) == (["0"], [])
    assert combine(SMALL, "!=", LARGE, return_bool=True) == (["1"], [])


@pytest.mark.parametrize("op", ["+", "-", "^", "%", "atan2", "<", ">=", "==", "!=", "</", ">/"])
def test_other_combinations_have_no_result_but_a_note(op: str) -> None:
    if op not in ("</", ">/"):
        assert combine(SMALL, op, 2.0) == ([], [types(op, "histogram", "float")])
    assert combine(2.0, op, SMALL) == ([], [types(op, "float", "histogram")])
    if op not in ("+", "-", "==", "!="):
        assert combine(SMALL, op, LARGE) == ([], [types(op, "histogram", "histogram")])
    if op in ("</", ">/"):
        assert combine(1.0, op, 2.0) == ([], [types(op, "float", "float")])


@pytest.mark.parametrize("op", ["<", "==", "!="])
def test_a_combination_without_result_has_none_with_bool(op: str) -> None:
    assert combine(SMALL, op, 1.0, return_bool=True) == ([], [types(op, "histogram", "float")])


def test_layouts_and_counter_resets_that_do_not_fit() -> None:
    assert combine(SMALL, "+", CUSTOM) == (
        [],
        ["W incompatible bucket layout encountered for binary operator +"],
    )
    reset, not_reset = histogram(count=1, hint=1), histogram(count=1, hint=2)
    assert combine(reset, "-", not_reset) == (
        [],
        ["W conflicting counter resets during histogram subtraction"],
    )
    found, told = combine(CUSTOM, "+", OTHER_CUSTOM)
    assert found == ["{count:12, sum:23, [-Inf,1]:2, (1,5]:6, (5,+Inf]:4}"]
    assert told == ["I mismatched custom buckets were reconciled during addition"]


def test_a_scalar_beside_a_vector_of_both_kinds() -> None:
    both = _with_float(histogram_vector(SMALL), 3.0)
    annotations = Annotations()
    two = ScalarGrid(np.array([2.0]))
    product = vector_scalar_operation(both, two, operator("*", annotations))
    assert texts(product) == ["{count:6, sum:8, (0.5,1]:2, (1,2]:4}", "6"]
    assert notes(annotations) == []
    total = vector_scalar_operation(two, both, operator("+", annotations))
    assert texts(total) == ["5"]
    kept = vector_scalar_operation(both, two, operator(">", annotations))
    assert texts(kept) == ["3"]
    cut = vector_scalar_operation(both, ScalarGrid(np.array([1.0])), operator("</", annotations))
    assert texts(cut) == ["{count:1, sum:0.7071067811865476, (0.5,1]:1}"]
    assert [row.get("__name__") for row in cut.labels] == ["h", "h"]
    assert notes(annotations) == [
        types("+", "float", "histogram"),
        types(">", "histogram", "float"),
        types("</", "float", "float"),
    ]


def test_of_the_notes_of_one_step_the_last_is_told() -> None:
    annotations = Annotations()
    both = _with_float(histogram_vector(SMALL), 3.0)
    vector_scalar_operation(both, ScalarGrid(np.array([1.0])), operator("</", annotations))
    assert notes(annotations) == [types("</", "float", "float")]


def _with_float(vector: Matrix, value: float) -> Matrix:
    floats = matrix({make_labels("h", n="float"): [value]})
    values, histograms = joined_values((vector, floats))
    labels = [*vector.labels, *floats.labels]
    present = np.ones(values.shape, bool)
    return Matrix(labels, values, present, np.zeros(len(labels), bool), histograms)


def test_histograms_of_results_count_as_memory() -> None:
    large = histogram(count=1, positive=[(index, 1.0) for index in range(1000)])
    how = replace(operator("*", Annotations()), budget=QueryBudget(math.inf, 10**6, 30_000))
    two = ScalarGrid(np.array([2.0]))
    vector_scalar_operation(histogram_vector(SMALL), two, how)
    with pytest.raises(ExecutionError, match="memory"):
        vector_scalar_operation(histogram_vector(large), two, how)


def test_scalars_cannot_be_trimmed() -> None:
    one = ScalarGrid(np.ones(1))
    with pytest.raises(ExecutionError) as caught:
        scalar_operation("</", one, one)
    assert str(caught.value) == 'operator "</" not allowed for Scalar operations'


def test_trims_bind_as_comparisons_do() -> None:
    expr = parse_expr("h + g >/ 0.2 </ 0.5 and j")
    assert isinstance(expr, BinaryExpr)
    trim = expr.lhs
    assert isinstance(trim, BinaryExpr)
    assert (expr.op, trim.op) == ("and", "</")
    inner = trim.lhs
    assert isinstance(inner, BinaryExpr)
    assert inner.op == ">/"
    assert isinstance(inner.lhs, BinaryExpr)
    assert inner.lhs.op == "+"


def test_unary_minus_makes_a_gauge() -> None:
    negative = negated(_with_float(histogram_vector(SMALL), 3.0))
    assert texts(negative) == ["{count:-3, sum:-4, (0.5,1]:-1, (1,2]:-2}", "-3"]
    assert negative.histograms is not None
    assert negative.histograms.hints.tolist() == [3]


def test_set_operators_see_labels_only() -> None:
    left, right = histogram_vector(SMALL), histogram_vector(LARGE, job="a")
    matching = VectorMatching()
    joined = apply_set_operator("or", left, right, matching)
    assert texts(joined) == [SMALL_TEXT, "{count:7, sum:9, (1,2]:3, (2,4]:4}"]
    floats = matrix({LABELS: [1.0]})
    assert texts(apply_set_operator("and", left, floats, matching)) == [SMALL_TEXT]
    assert texts(apply_set_operator("unless", left, floats, matching)) == []


def fold(op: str, vector: Matrix, param: float | None = None) -> tuple[list[str], list[str]]:
    annotations = Annotations()
    expr = parse_expr(f"{op}(h)" if param is None else f"{op}({param}, h)")
    assert isinstance(expr, AggregateExpr)
    if op in ("topk", "bottomk", "limitk"):
        budget = QueryBudget(math.inf, 10**6)
        result = select_samples(expr, vector, np.array([param]), annotations, budget)
    else:
        quantile = None if param is None else np.array([param])
        result = aggregate(expr, vector, quantile, annotations)
    told = [*(f"W {text}" for text, _ in annotations.warnings)]
    told += [f"I {text}" for text, _ in annotations.infos]
    return texts(without_empty_rows(result)), told


def test_sum_and_average_of_histograms() -> None:
    vector = histogram_vector(SMALL, LARGE)
    assert fold("sum", vector) == (["{count:10, sum:13, (0.5,1]:1, (1,2]:5, (2,4]:4}"], [])
    assert fold("avg", vector) == (["{count:5, sum:6.5, (0.5,1]:0.5, (1,2]:2.5, (2,4]:2}"], [])


def test_sums_that_have_no_result() -> None:
    floats_too = _with_float(histogram_vector(SMALL), 3.0)
    mixed = "W encountered a mix of histograms and floats for aggregation"
    schemas = (
        "W vector contains a mix of histograms with exponential and custom buckets schemas "
        'for metric name "h"'
    )
    assert fold("sum", floats_too) == ([], [mixed])
    assert fold("avg", histogram_vector(SMALL, CUSTOM, LARGE)) == ([], [schemas])
    # Prometheus looks at nothing else once buckets do not fit.
    assert fold("sum", _with_float(histogram_vector(SMALL, CUSTOM), 1.0)) == ([], [schemas])


def test_sums_of_histograms_that_differ_have_notes() -> None:
    resets = histogram_vector(*(histogram(count=1, hint=hint) for hint in (1, 2)))
    assert fold("sum", resets) == (
        ["{count:2, sum:0}"],
        ["W conflicting counter resets during histogram aggregation"],
    )
    assert fold("sum", histogram_vector(CUSTOM, OTHER_CUSTOM))[1] == [
        "I mismatched custom buckets were reconciled during aggregation"
    ]


@pytest.mark.parametrize("op", ["min", "max", "stddev", "stdvar"])
def test_aggregations_of_floats_leave_out_histograms(op: str) -> None:
    ignored = [f"I ignored histogram in {op} aggregation"]
    expected = ["0"] if op.startswith("std") else ["3"]
    assert fold(op, _with_float(histogram_vector(SMALL), 3.0)) == (expected, ignored)
    assert fold(op, histogram_vector(SMALL)) == ([], ignored)


@pytest.mark.parametrize(("text", "start"), [("(h)", 1), ("((h))", 2), ("(h + 1)", 1)])
def test_notes_of_aggregations_point_into_parentheses(text: str, start: int) -> None:
    resets = histogram_vector(*(histogram(count=1, hint=hint) for hint in (1, 2)))
    for op, vector in (("sum", resets), ("min", histogram_vector(SMALL))):
        annotations = Annotations()
        expr = parse_expr(f"{op}({text})")
        assert isinstance(expr, AggregateExpr)
        aggregate(expr, vector, None, annotations)
        ((_, pos),) = annotations.warnings or annotations.infos
        assert pos.start == len(f"{op}(") + start


@pytest.mark.parametrize("op", ["topk", "bottomk", "quantile"])
def test_selections_and_quantiles_leave_out_histograms(op: str) -> None:
    vector = _with_float(histogram_vector(SMALL), 3.0)
    assert fold(op, vector, 1.0) == (["3"], [f"I ignored histogram in {op} aggregation"])


def test_aggregations_of_any_sample() -> None:
    vector = _with_float(histogram_vector(SMALL), 3.0)
    assert fold("count", vector) == (["2"], [])
    assert fold("group", histogram_vector(SMALL)) == (["1"], [])
    assert fold("limitk", vector, 2.0) == ([SMALL_TEXT, "3"], [])


def test_values_of_histograms_are_counted_by_their_text() -> None:
    vector = _with_float(histogram_vector(SMALL, LARGE, SMALL), 0.5)
    expr = parse_expr('count_values("v", h)')
    assert isinstance(expr, AggregateExpr)
    result = count_values(expr, vector, "v", QueryBudget(math.inf, 10**6))
    found = {row.get("v"): result.values[place, 0] for place, row in enumerate(result.labels)}
    assert found == {SMALL_TEXT: 2, "{count:7, sum:9, (1,2]:3, (2,4]:4}": 1, "0.5": 1}
