"""`label_replace`, `label_join`, the sorts and the labels of `absent`."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from promcompat.core.errors import ExecutionError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import EMPTY_LABELS, Labels
from promql.ast import (
    NO_MODIFIERS,
    Call,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    PositionRange,
    StringLiteral,
    VectorSelector,
)
from promql.functions.absent_functions import absence, absent_labels
from promql.functions.registry import FUNCTIONS
from promql.values.matrix import Matrix
from tests.support.factories import make_labels
from tests.unit.promql.grids import matrix, rows_of, run_instant
from tests.unit.promql.queries import run

POS = PositionRange(0, 1)


def replaced(source_value: str, replacement: str, regex: str) -> str:
    rows = matrix({make_labels("x", src=source_value, dst="old"): [1.0]})
    result = run_instant("label_replace", rows, "dst", replacement, "src", regex)
    (labels,) = rows_of(result)
    return labels.get("dst")


@pytest.mark.parametrize(
    ("value", "replacement", "regex", "expected"),
    [
        ("source-value-10", "$1-$2", "source-(.*)-(.*)", "value-10"),
        ("source-value-10", "${1}x", "source-([a-z]+).*", "valuex"),
        ("source-value-10", "$1x", "source-([a-z]+).*", ""),
        ("ab", "$0", "(a)(b)", "ab"),
        ("ab", "$2$1", "(a)(b)", "ba"),
        ("ab", "$3", "(a)(b)", ""),
        ("ab", "$01", "(a)(b)", ""),
        ("ab", "${first}!", "(?P<first>a)b", "a!"),
        ("ab", "$first", "(?<first>a)b", "a"),
        ("ab", "$second", "(?P<first>a)b", ""),
        ("a", "$1|$2", "(a)|(b)", "a|"),
        ("ab", "$$1", "(a)b", "$1"),
        ("ab", "a$", "(a)b", "a$"),
        ("ab", "$-${1", "(a)b", "$-${1"),
        ("ab", "${}", "(a)b", "${}"),
        ("é", "<$1>", "(.)", "<é>"),
        ("a\nb", "$1", "a.(b)", "b"),
        ("", "empty", "", "empty"),
        ("xay", "new", "a", "old"),
        ("ab", "new", "a|ab", "new"),
        ("ab", "", ".*", ""),
    ],
)
def test_label_replace_expands_as_go_does(value: str, replacement: str, regex: str, expected: str):
    assert replaced(value, replacement, regex) == expected


def check_call(func: str, *texts: str) -> None:
    position = PositionRange(0, 0)
    literals = tuple(StringLiteral(text, position) for text in texts)
    check = FUNCTIONS[func].check
    assert check is not None
    check(Call(func, (NumberLiteral(0.0, False, position), *literals), position))


async def test_outer_of_two_nested_errors_is_reported():
    inner = "double_exponential_smoothing(m[5m], 0.5, 2)"
    with pytest.raises(ExecutionError, match="invalid destination label name in label_join"):
        await run(f'label_join({inner}, "", "-", "a")', {make_labels("m"): [(0, 1.0)]})


@pytest.mark.parametrize(
    ("target", "regex", "message"),
    [
        ("dst", "(.*", "invalid regular expression in label_replace(): (.*"),
        ("dst", r"(a)\1", r"invalid regular expression in label_replace(): (a)\1"),
        ("", ".*", "invalid destination label name in label_replace(): "),
        ("dst", "\udcff", "invalid regular expression in label_replace(): \udcff"),
    ],
)
def test_label_replace_refuses_bad_arguments(target: str, regex: str, message: str):
    with pytest.raises(ExecutionError) as error:
        check_call("label_replace", target, "", "src", regex)
    assert str(error.value) == message


def test_label_replace_takes_any_utf8_label_name():
    rows = matrix({make_labels("x"): [1.0]})
    result = run_instant("label_replace", rows, "tür-größe", "v", "", "")
    assert list(rows_of(result)) == [Labels.of({"__name__": "x", "tür-größe": "v"})]


@pytest.mark.parametrize("delayed", [False, True])
def test_label_functions_merge_series_that_become_equal_unless_they_meet(delayed: bool):
    apart = matrix({make_labels("x", a="1"): [1.0, None], make_labels("x", a="2"): [None, 2.0]})
    merged = run_instant("label_join", apart, "a", "-", step_times_ms=(0, 1), delayed=delayed)
    assert list(rows_of(merged).values()) == [[1.0, 2.0]]
    rows = matrix({make_labels("x", a="1"): [1.0, 1.0], make_labels("x", a="2"): [None, 1.0]})
    for func, args in (("label_replace", ("a", "b", "a", ".*")), ("label_join", ("a", "-"))):
        with pytest.raises(ExecutionError) as error:
            run_instant(func, rows, *args, step_times_ms=(0, 1), delayed=delayed)
        assert str(error.value) == "vector cannot contain metrics with the same labelset"


def test_label_join_joins_and_missing_labels_are_empty():
    rows = matrix({make_labels("x", a="1", b="2"): [1.0]})
    joined = run_instant("label_join", rows, "dst", "-", "a", "none", "b")
    assert list(rows_of(joined)) == [make_labels("x", a="1", b="2", dst="1--2")]
    emptied = run_instant("label_join", rows, "a", "-")
    assert list(rows_of(emptied)) == [make_labels("x", b="2")]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("", "-", "a"), "invalid destination label name in label_join(): "),
        (("dst", "-", "a", ""), "invalid source label name in label_join(): "),
    ],
)
def test_label_join_refuses_empty_names(args: Sequence[str], message: str):
    with pytest.raises(ExecutionError) as error:
        check_call("label_join", *args)
    assert str(error.value) == message


def test_a_metric_name_that_was_just_set_is_not_dropped_at_the_end():
    rows = matrix({make_labels("x", a="1"): [1.0], make_labels("x", a="2"): [1.0]})
    rows.drop_name[:] = True
    result = run_instant("label_replace", rows, "__name__", "new_$1", "a", "(1)", delayed=True)
    assert isinstance(result, Matrix)
    assert list(result.labels) == [make_labels("new_1", a="1"), make_labels("x", a="2")]
    assert result.drop_name.tolist() == [False, True]
    other = run_instant("label_replace", rows, "b", "$1", "__name__", "(.*)", delayed=True)
    assert isinstance(other, Matrix)
    assert other.drop_name.tolist() == [True, True]
    joined = run_instant("label_join", rows, "__name__", "_", "__name__", "a", delayed=True)
    assert isinstance(joined, Matrix)
    assert joined.drop_name.tolist() == [False, False]


# sorting


def sorted_values(func: str, values: Sequence[float | None]) -> list[float | None]:
    result = run_instant(func, matrix([[value] for value in values]))
    return [row[0] for row in rows_of(result).values()]


def test_sort_puts_nan_last_and_leaves_absent_rows_out():
    values = [3.0, math.nan, -math.inf, None, math.inf, 1.0]
    rising, falling = sorted_values("sort", values), sorted_values("sort_desc", values)
    assert rising[:-1] == [-math.inf, 1.0, 3.0, math.inf]
    assert falling[:-1] == [math.inf, 3.0, 1.0, -math.inf]
    assert math.isnan(rising[-1])
    assert math.isnan(falling[-1])


def test_sorts_leave_a_grid_of_several_steps_alone():
    rows = matrix([[2.0, 1.0], [1.0, 2.0]])
    for func, args in (("sort", ()), ("sort_desc", ()), ("sort_by_label", ("n",))):
        assert run_instant(func, rows, *args, step_times_ms=(0, 1)) is rows


def order_by_label(func: str, values: Sequence[str]) -> list[str]:
    rows = matrix({make_labels("x", l=value): [1.0] for value in values})
    return [labels.get("l") for labels in rows_of(run_instant(func, rows, "l"))]


@pytest.mark.parametrize(
    "ordered",
    [
        ["1", "1.2.3", "1.9", "1.10"],
        ["1", "1a", "1b", "12"],
        ["a1", "a-1"],
        ["x9", "x9y", "x10y"],
        ["2", "99999999999999999999", "100000000000000000000", "1" + "0" * 5_000],
        ["A", "_", "a"],
        ["3", "4", "٣"],
    ],
)
def test_sort_by_label_is_natural(ordered: list[str]):
    assert order_by_label("sort_by_label", ordered[::-1]) == ordered
    assert order_by_label("sort_by_label_desc", ordered) == ordered[::-1]


def test_sort_by_label_falls_back_to_the_next_label_and_then_to_all():
    rows = matrix(
        {make_labels("x", a="1", b="2", c="1"): [1.0], make_labels("x", a="1", b="1", c="2"): [2.0]}
    )
    for names, first in ((("a", "b"), 2.0), (("a", "c"), 1.0), (("a",), 2.0)):
        result = run_instant("sort_by_label", rows, *names)
        assert next(iter(rows_of(result).values())) == [first]


def test_sort_by_label_puts_series_without_the_label_first():
    assert order_by_label("sort_by_label", ["2", "", "3", "1"]) == ["", "1", "2", "3"]
    assert order_by_label("sort_by_label_desc", ["2", "", "3", "1"]) == ["3", "2", "1", ""]


def test_sort_by_label_ignores_leading_zeros():
    rows = matrix({make_labels("x", a=a, b=b): [1.0] for a, b in (("1", "2"), ("01", "3"))})
    result = rows_of(run_instant("sort_by_label", rows, "a", "b"))
    assert [labels.get("b") for labels in result] == ["2", "3"]


# absent


def selector(*matchers: tuple[str, MatchOp, str]) -> VectorSelector:
    return VectorSelector("x", tuple(LabelMatcher(*m) for m in matchers), NO_MODIFIERS, POS)


@pytest.mark.parametrize(
    ("matchers", "expected"),
    [
        ([("__name__", MatchOp.EQUAL, "x"), ("a", MatchOp.EQUAL, "1")], {"a": "1"}),
        ([("a", MatchOp.EQUAL, "1"), ("b", MatchOp.REGEX, "1")], {"a": "1"}),
        ([("a", MatchOp.EQUAL, "1"), ("a", MatchOp.EQUAL, "1")], {}),
        ([("a", MatchOp.EQUAL, "1"), ("a", MatchOp.NOT_EQUAL, "2")], {}),
        # Prometheus' index puts what only excludes series behind, and absent() sees it there.
        ([("a", MatchOp.NOT_EQUAL, "2"), ("a", MatchOp.EQUAL, "1")], {}),
        ([("a", MatchOp.REGEX, "1|2"), ("a", MatchOp.EQUAL, "1")], {"a": "1"}),
        ([("a", MatchOp.NOT_EQUAL, ""), ("a", MatchOp.EQUAL, "1")], {"a": "1"}),
        ([("a", MatchOp.EQUAL, "")], {}),
    ],
)
def test_absent_has_the_labels_matched_once_and_by_equality(
    matchers: list[tuple[str, MatchOp, str]], expected: dict[str, str]
):
    vector = selector(*matchers)
    in_parentheses = ParenExpr(MatrixSelector(vector, 1, None, POS), POS)
    for expr in (vector, in_parentheses):
        assert absent_labels(expr) == Labels.of(expected)


def test_absent_of_another_expression_has_no_labels():
    assert absent_labels(NumberLiteral(1.0, False, POS)) == EMPTY_LABELS


def test_absence_is_one_where_no_series_has_a_sample():
    labels, expr = make_labels(a="1"), selector(("a", MatchOp.EQUAL, "1"))
    assert rows_of(absence(np.array([False, True, False]), expr)) == {labels: [1.0, None, 1.0]}
    assert rows_of(absence(np.ones(3, bool), expr)) == {}
    assert rows_of(absence(np.zeros(3, bool), expr)) == {labels: [1.0, 1.0, 1.0]}


def test_absent_is_one_where_no_row_is_present():
    exprs: list[Expr] = [selector(("a", MatchOp.EQUAL, "1"))]
    rows = matrix([[1.0, None, None], [None, None, math.nan]])
    result = run_instant("absent", rows, step_times_ms=range(3), exprs=exprs)
    assert rows_of(result) == {make_labels(a="1"): [None, 1.0, None]}
    assert rows_of(run_instant("absent", matrix([[1.0]]), exprs=exprs)) == {}
    assert rows_of(run_instant("absent", matrix({}), exprs=exprs)) == {make_labels(a="1"): [1.0]}
