"""Which queries go to processes: long ones, while others query or samples are written."""

from math import inf

import pytest

from promcompat.core.model import EvalRange
from promcompat.querying.processes.pool import EvaluationProcesses
from promql.long_work import LongWork, cells_of
from promql.parsing.parser import parse_expr
from promql.parsing.type_checker import value_type
from promql.planning.planner import make_plan
from tests.support.factories import make_block, make_labels

MANY = 15_000_000
"""Cells: most of what a tenant may evaluate here while others query."""


class Situation:
    """The processes, and what happens beside the queries of tenant `a`."""

    def __init__(self, *, are_ready: bool = True) -> None:
        self.now_seconds = 100.0
        self.has_others = False
        self.is_writing = False

        class Processes(EvaluationProcesses):
            def are_ready(self) -> bool:
                return are_ready

        self.work = LongWork(
            Processes(0, ()),
            lambda _: self.has_others,
            lambda: self.is_writing,
            lambda: self.now_seconds,
        )

    def leaves(self, n_cells: float) -> bool:
        """Whether work of so many cells goes to a process."""
        return self.work.processes_for("a", n_cells) is not None


def test_while_others_query_a_tenant_has_a_limited_number_of_cells_here() -> None:
    here = Situation()
    assert not here.leaves(inf)
    here.has_others = True
    assert here.leaves(inf)
    assert not here.leaves(MANY)
    assert here.leaves(MANY)
    assert not here.leaves(MANY / 10)
    here.now_seconds += 10
    assert not here.leaves(MANY)


def test_while_samples_are_written_long_work_of_those_who_ask_much_leaves() -> None:
    here = Situation()
    here.is_writing = True
    here.work.add_seconds("a", 0.1)
    assert not here.leaves(inf)
    here.work.add_seconds("b", 3600)
    assert not here.leaves(inf)
    here.work.add_seconds("a", 3600)
    assert here.leaves(inf)
    assert not here.leaves(1000)
    here.is_writing = False
    here.now_seconds += 0.5
    assert here.leaves(inf)
    here.now_seconds += 0.6
    assert not here.leaves(inf)


def test_no_more_than_a_second_of_evaluation_is_owed() -> None:
    here = Situation()
    here.is_writing = True
    here.work.add_seconds("a", 3600)
    here.now_seconds += 1.1
    assert not here.leaves(inf)


def test_nothing_waits_for_a_process_that_starts_while_samples_are_written() -> None:
    here = Situation(are_ready=False)
    here.is_writing = True
    here.work.add_seconds("a", 3600)
    assert not here.leaves(inf)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum(m)", 11 + 2 * 11 + 8 // 4),
        ('sum(count_values("v", m))', 100 * (11 + 2 * 11 + 8 // 4)),
        ("max_over_time(m[5m:1m])", inf),
        ('label_replace(m, "a", "$1", "i", "(.*)")', inf),
    ],
)
def test_cells_count_steps_series_and_samples(text: str, expected: float) -> None:
    expr, grid = parse_expr(text), EvalRange(0, 600_000, 60_000)
    plan = make_plan(
        expr, value_type(expr), grid, lookback_ms=300_000, default_subquery_step_ms=60_000
    )
    samples = [(t * 60_000, 1.0) for t in range(4)]
    block = make_block({make_labels("m", i=i): samples for i in "12"})
    assert cells_of(plan, [block]) == expected
