"""The rules of pushdown: which are exact, what they fetch, which is chosen."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from promcompat.core.model import SelectHints, SeriesSelection
from sql.database.statements import Statement
from sql.pushdown.partial_translator import partial_samples_statement
from sql.pushdown.rule_choice import Choice, Estimate, PushdownMode, choose, cost_us
from sql.pushdown.rules import MAX_SEGMENTS, Partial, judge
from sql.pushdown.thinning_translator import thinned_samples_statement
from sql.pushdown.window_grid import WindowGrid

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T0 = 20_000 * DAY
IDS = np.array([3, 5], np.int64)


def select(
    *, n_steps: int, step_ms: int, reach_ms: int, range_ms: int = 0, function: str = ""
) -> SeriesSelection:
    hints = SelectHints(step_ms=step_ms, range_ms=range_ms, reach_ms=reach_ms, function=function)
    end_ms = T0 + (n_steps - 1) * step_ms
    return SeriesSelection(matchers=(), start_ms=T0 - reach_ms, end_ms=end_ms, hints=hints)


def over_time(function: str, range_ms: int, step_ms: int, n_steps: int = 10) -> SeriesSelection:
    return select(
        n_steps=n_steps, step_ms=step_ms, reach_ms=range_ms, range_ms=range_ms, function=function
    )


def exact_rules(selection: SeriesSelection) -> list[str]:
    return [verdict.rule for verdict in judge(selection) if verdict.thinning is not None]


def applied(choice: Choice) -> list[str]:
    return [decision.rule for decision in choice.decisions if decision.applies]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (select(n_steps=1, step_ms=0, reach_ms=5 * MINUTE), ["last_sample"]),
        (select(n_steps=1, step_ms=MINUTE, reach_ms=5 * MINUTE), ["last_sample"]),
        (select(n_steps=9, step_ms=MINUTE, reach_ms=5 * MINUTE), ["last_sample_per_step"]),
        (
            select(n_steps=9, step_ms=HOUR, reach_ms=5 * MINUTE),
            ["last_sample_per_step", "window_gaps"],
        ),
        (over_time("rate", 5 * MINUTE, MINUTE), ["partials_of_window"]),
        (over_time("rate", 5 * MINUTE, 5 * MINUTE), ["partials_of_window"]),
        (over_time("rate", 5 * MINUTE, HOUR), ["window_gaps"]),
        (over_time("rate", 5 * MINUTE, 0, n_steps=1), ["partials_of_window"]),
        (over_time("avg_over_time", HOUR, MINUTE), ["partials_of_window"]),
        (over_time("stddev_over_time", HOUR, MINUTE), []),
        (over_time("quantile_over_time", HOUR, MINUTE), []),
        (over_time("irate", 5 * MINUTE, MINUTE), ["newest_of_window"]),
        (over_time("last_over_time", HOUR, 0, n_steps=1), ["newest_of_window"]),
        (over_time("absent_over_time", HOUR, 2 * HOUR), ["newest_of_window", "window_gaps"]),
        (over_time("", HOUR, 2 * HOUR), ["window_gaps"]),
        (select(n_steps=9, step_ms=HOUR, reach_ms=0), []),
        (select(n_steps=MAX_SEGMENTS + 1, step_ms=1, reach_ms=5), []),
    ],
)
def test_rules_that_are_exact(selection: SeriesSelection, expected: list[str]) -> None:
    assert exact_rules(selection) == expected
    assert all(verdict.reason for verdict in judge(selection))


def test_selection_beyond_the_times_of_the_database_is_read_whole() -> None:
    hints = SelectHints(step_ms=0, reach_ms=MINUTE)
    far = SeriesSelection(matchers=(), start_ms=2**62, end_ms=2**62 + MINUTE, hints=hints)
    assert exact_rules(far) == []


@pytest.mark.parametrize(
    ("step_ms", "range_ms", "edges"),
    [(10, 30, [-30, -20, -10, 0, 10, 20]), (10, 25, [-25, -15, -5, 0, 10, 20])],
)
def test_windows_are_cut_at_every_edge(step_ms: int, range_ms: int, edges: list[int]) -> None:
    grid = WindowGrid.of(over_time("rate", range_ms, step_ms, n_steps=3))
    assert grid is not None
    segments = grid.between_edges()
    assert [*(segments.lows - T0).tolist(), segments.highs[-1] - T0] == edges
    assert (segments.lows[1:] == segments.highs[:-1]).all()


def test_steps_start_where_the_step_before_ends_or_the_lookback_does() -> None:
    grid = WindowGrid.of(select(n_steps=3, step_ms=MINUTE, reach_ms=5 * MINUTE))
    assert grid is not None
    assert (grid.instants().lows - T0).tolist() == [-5 * MINUTE, 0, MINUTE]
    sparse = WindowGrid.of(select(n_steps=3, step_ms=HOUR, reach_ms=5 * MINUTE))
    assert sparse is not None
    assert sparse.has_gaps
    assert sparse.windows().length_ms == 3 * 5 * MINUTE


@pytest.mark.parametrize("probe_us", [3.0, 8.0])
def test_rule_is_chosen_only_where_it_saves_time(probe_us: float) -> None:
    selection = select(n_steps=240, step_ms=6 * MINUTE, reach_ms=5 * MINUTE)
    dense = Estimate(n_series=1000, rows=1000 * 24 * 3600 / 5, probe_us=probe_us)
    chosen = choose(selection, PushdownMode.AUTO, dense)
    assert chosen.thinning is not None
    assert cost_us(chosen.thinning, selection, dense) < cost_us(None, selection, dense)
    sparse = Estimate(n_series=1000, rows=1000 * 24 * 60, probe_us=probe_us)
    raw = choose(selection, PushdownMode.AUTO, sparse)
    assert raw.thinning is None
    assert applied(raw) == []
    assert any(decision.reason.startswith("exact, but ") for decision in raw.decisions)


def test_forced_rules_need_no_estimate_and_off_means_none() -> None:
    selection = over_time("rate", 5 * MINUTE, HOUR)
    assert applied(choose(selection, PushdownMode.FORCED)) == ["window_gaps"]
    assert applied(choose(selection, PushdownMode.OFF)) == []
    assert applied(choose(selection, PushdownMode.AUTO)) == []


def test_sums_are_not_for_samples_that_are_no_whole_numbers() -> None:
    many = Estimate(n_series=100, rows=20e6, probe_us=3.0)
    for function, are_whole, rules in (
        ("sum_over_time", True, ["partials_of_window"]),
        ("sum_over_time", False, []),
        ("max_over_time", False, ["partials_of_window"]),
    ):
        selection = over_time(function, DAY, HOUR, n_steps=24)
        estimate = replace(many, are_whole=are_whole)
        assert applied(choose(selection, PushdownMode.AUTO, estimate)) == rules


def test_partial_results_are_not_for_segments_of_a_few_samples() -> None:
    many = Estimate(n_series=100, rows=20e6, probe_us=3.0)
    n_steps = int(many.rows / many.n_series / 4)
    short = over_time("max_over_time", MINUTE, MINUTE, n_steps=n_steps)
    assert applied(choose(short, PushdownMode.AUTO, many)) == []


def test_rates_are_computed_from_ends_only_where_all_samples_would_be_too_many() -> None:
    increase = over_time("increase", DAY, HOUR, n_steps=24)
    many = Estimate(n_series=100, rows=20e6, probe_us=3.0)
    assert applied(choose(increase, PushdownMode.AUTO, many)) == []
    limited = replace(many, rows_allowed=10_000_000)
    assert applied(choose(increase, PushdownMode.AUTO, limited)) == ["partials_of_window"]


@pytest.mark.parametrize(
    ("function", "partial"),
    [
        ("count_over_time", Partial.COUNT),
        ("min_over_time", Partial.MINIMUM),
        ("sum_over_time", Partial.SUM),
        ("delta", Partial.ENDS),
        ("rate", Partial.ENDS_AND_RESETS),
    ],
)
@pytest.mark.parametrize("n_steps", [1, 5])
def test_partial_results_tell_segments_apart_by_their_first_millisecond(
    function: str, partial: Partial, n_steps: int
) -> None:
    thinning = choose(over_time(function, HOUR, MINUTE, n_steps), PushdownMode.FORCED).thinning
    assert thinning is not None
    assert thinning.partial is partial
    statement = partial_samples_statement("sample", partial, thinning.segments, IDS, max_samples=7)
    assert statement.params[:3] == (
        [3, 5],
        T0 - HOUR + 1,
        T0 + (n_steps - 1) * MINUTE + 1,
    )
    assert statement.params[-1] == 8
    assert ("width_bucket" in statement.text) == (n_steps > 1)
    if n_steps > 1:
        assert statement.params[3] == (thinning.segments.lows + 1).tolist()


def statement_of(selection: SeriesSelection, max_samples: int = 0) -> Statement:
    thinning = choose(selection, PushdownMode.FORCED).thinning
    assert thinning is not None
    return thinned_samples_statement("sample", thinning, IDS, max_samples=max_samples)


def test_last_sample_is_one_probe_for_each_series() -> None:
    statement = statement_of(select(n_steps=1, step_ms=0, reach_ms=MINUTE))
    assert statement.text.count("ORDER BY p.ts DESC LIMIT") == 2  # T0 is midnight.
    assert statement.params[1:3] == (T0 - MINUTE + 1, T0)
    assert statement.params[4:6] == (T0, T0 + 1)


def segments_of(params: Sequence[Any]) -> list[list[tuple[int, int]]]:
    """Of each branch: its bounds, or the lists of its segments behind them."""
    branches, at = [], 0
    while at < len(params):
        lows, highs = params[at + 2 : at + 4] if len(params) > at + 2 else (0, 0)
        if isinstance(lows, list) and isinstance(highs, list):
            branches.append(list(zip(lows, highs, strict=True)))
            at += 4
        else:
            branches.append([(params[at], params[at + 1])])
            at += 2
    return branches


def test_each_branch_lies_within_a_day_and_all_cover_the_segments() -> None:
    selection = over_time("rate", 5 * MINUTE, 7 * HOUR, n_steps=20)
    statement = statement_of(selection, max_samples=10)
    branches = segments_of(statement.params[1:-1])
    for branch in branches:
        assert branch[0][0] // DAY == (branch[-1][1] - 1) // DAY
    covered = sum(high - low for branch in branches for low, high in branch)
    assert covered == 20 * 5 * MINUTE
    assert statement.params[-1] == 11
    assert statement.text.endswith(f" LIMIT ${len(statement.params)}")


def test_years_take_no_more_branches_than_months() -> None:
    statement = statement_of(over_time("rate", 5 * MINUTE, DAY, n_steps=3000))
    assert statement.text.count("UNION ALL") < 64


def test_stale_markers_are_skipped_for_range_functions_only() -> None:
    assert "NOT is_stale_marker(p.value)" in statement_of(over_time("irate", HOUR, MINUTE)).text
    assert "is_stale_marker" not in statement_of(over_time("rate", MINUTE, HOUR)).text
