"""The registry of functions: each record is complete, and nothing else has to know a function."""

from dataclasses import replace

import pytest

from promql.ast import ValueType
from promql.functions.function_calls import InstantCall
from promql.functions.registry import FUNCTIONS, InstantFunction, RangeFunction
from promql.values.matrix import Value
from tests.support.factories import make_labels
from tests.unit.promql.queries import run, vector

SERIES = {make_labels("m", job="a"): [(0, 1.5)]}


def test_a_function_of_windows_takes_one_range_vector() -> None:
    for function in FUNCTIONS.values():
        n_matrices = function.arg_types.count(ValueType.MATRIX)
        takes_windows = isinstance(function, RangeFunction) or function.name == "absent_over_time"
        assert n_matrices == takes_windows, function.name


def test_the_planner_or_the_evaluator_computes_some_functions_itself() -> None:
    with_body = (InstantFunction, RangeFunction)
    plain = {name for name, function in FUNCTIONS.items() if not isinstance(function, with_body)}
    query_times = {"start", "end", "range", "step"}
    assert plain == {"info", "absent_over_time", "start_timestamp", *query_times}


async def test_a_record_is_all_that_a_new_function_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(call: InstantCall) -> Value:
        matrix = call.matrix(0)
        return replace(matrix, values=2 * matrix.values)

    record = InstantFunction("twice", (ValueType.VECTOR,), twice)
    monkeypatch.setitem(FUNCTIONS, "twice", record)
    assert vector(await run("twice(m) ^ 2", SERIES, 0)) == [('{job="a"}', 9.0)]
    monkeypatch.setitem(FUNCTIONS, "twice", replace(record, keeps_name=True))
    assert vector(await run("twice(m)", SERIES, 0)) == [('{__name__="m", job="a"}', 3.0)]


async def test_a_new_function_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    maximum = FUNCTIONS["max_over_time"]
    assert isinstance(maximum, RangeFunction)
    monkeypatch.setitem(FUNCTIONS, "peak", replace(maximum, name="peak"))
    ((labels, value),) = vector(await run("peak(m[1m])", SERIES, 0))
    assert (labels, value) == ('{job="a"}', 1.5)
