"""Metric names go at once or at the end, and rows that become equal merge or are refused."""

import pytest

from promcompat.core.errors import ExecutionError
from promcompat.core.model import EvalRange, Labels
from promql.engine import Engine, EngineOptions
from promql.features import ALL_FEATURES
from promql.query import Query
from promql.values.matrix import Matrix
from promql.values.name_removal import (
    apply_delayed_names,
    drop_names,
    merge_rows,
    reject_same_labels,
)
from tests.support.factories import make_labels
from tests.unit.promql.grids import matrix, rows_of
from tests.unit.promql.queries import SeriesReader

A, B = make_labels("a", job="x"), make_labels("b", job="x")
JOB = make_labels(job="x")
SAME_LABELSET = "vector cannot contain metrics with the same labelset"


def test_name_type_and_unit_go_and_everything_else_stays():
    full = Labels.of({"__name__": "a", "__type__": "gauge", "__unit__": "s", "job": "x"})
    assert rows_of(drop_names(matrix({full: [1.0]}), delayed=False)) == {JOB: [1.0]}


def test_delayed_removal_only_marks_every_row():
    dropped = drop_names(matrix({A: [1.0], B: [2.0]}), delayed=True)
    assert rows_of(dropped) == {A: [1.0], B: [2.0]}
    assert dropped.drop_name.tolist() == [True, True]


def test_rows_that_become_equal_and_never_meet_merge():
    dropped = drop_names(matrix({A: [1.0, None, None], B: [None, None, 3.0]}), delayed=False)
    assert rows_of(dropped) == {JOB: [1.0, None, 3.0]}
    assert dropped.drop_name.tolist() == [False]


def test_rows_that_become_equal_and_meet_at_a_step_are_refused():
    with pytest.raises(ExecutionError) as error:
        drop_names(matrix({A: [1.0, 2.0], B: [None, 3.0]}), delayed=False)
    assert str(error.value) == SAME_LABELSET


def test_functions_of_whole_series_refuse_equal_rows_that_never_meet():
    rows = matrix({A: [1.0, None], B: [None, 3.0]})
    with pytest.raises(ExecutionError):
        drop_names(rows, delayed=False, merge=False)
    absent = matrix({A: [1.0, None], B: [None, None]})
    assert rows_of(drop_names(absent, delayed=False, merge=False)) == {JOB: [1.0, None]}


def test_merged_row_keeps_the_place_of_the_first():
    other = make_labels(job="y")
    merged = merge_rows(
        drop_names(matrix({A: [1.0, None], other: [7.0, 7.0], B: [None, 2.0]}), delayed=False)
    )
    assert list(rows_of(merged).items()) == [(JOB, [1.0, 2.0]), (other, [7.0, 7.0])]


def test_rows_of_different_labels_are_left_as_they_are():
    rows = matrix({A: [1.0], B: [2.0]})
    assert merge_rows(rows) is rows
    assert reject_same_labels(rows) is rows
    assert apply_delayed_names(rows) is rows


def test_at_the_end_only_marked_rows_lose_their_name():
    rows = matrix({A: [1.0], B: [2.0]})
    rows.drop_name[0] = True
    ended = apply_delayed_names(rows)
    assert rows_of(ended) == {JOB: [1.0], B: [2.0]}
    assert ended.drop_name.tolist() == [False, False]


def test_at_the_end_equal_rows_are_merged_unless_they_meet():
    rows = drop_names(matrix({A: [1.0, None], B: [None, 2.0]}), delayed=True)
    assert list(rows_of(apply_delayed_names(rows)).values()) == [[1.0, 2.0]]
    rows = drop_names(matrix({A: [1.0, 1.0], B: [None, 2.0]}), delayed=True)
    with pytest.raises(ExecutionError) as error:
        apply_delayed_names(rows)
    assert str(error.value) == SAME_LABELSET


async def test_info_brings_back_no_name_that_goes_at_the_end():
    base = make_labels("m", instance="1", job="a")
    info = make_labels("target_info", instance="1", job="a", version="x")
    reader = SeriesReader({base: [(0, 1.5)], info: [(0, 1.0)]})
    engine = Engine(reader, EngineOptions(features=ALL_FEATURES))
    found = (await engine.run(Query("t", "info(floor(m))", EvalRange.instant(0)))).value
    assert isinstance(found, Matrix)
    assert rows_of(found) == {make_labels(instance="1", job="a", version="x"): [1.0]}
