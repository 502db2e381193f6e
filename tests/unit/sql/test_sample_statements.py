"""Selections to SQL text and parameters."""

import numpy as np

from promcompat.core.model import SelectHints, SeriesSelection
from sql.pushdown.sample_statements import samples_statement
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS, TimeBounds

IDS = np.array([3, 5], np.int64)


def select(start_ms: int, end_ms: int, **hints: int) -> SeriesSelection:
    return SeriesSelection(
        matchers=(), start_ms=start_ms, end_ms=end_ms, hints=SelectHints(**hints)
    )


def test_samples_statement_bounds_are_left_open_and_right_closed() -> None:
    statement = samples_statement("sample", select(1000, 2000, range_ms=1), IDS)
    assert statement is not None
    assert statement.text == (
        "SELECT p.series_id, p.ts, p.value FROM sample AS p WHERE p.series_id = ANY($1::bigint[])"
        " AND p.ts >= from_unix_ms($2::bigint) AND p.ts < from_unix_ms($3::bigint)"
    )
    assert statement.params == ([3, 5], 1001, 2001)


def test_samples_of_each_series_can_be_looked_up_by_themselves() -> None:
    statement = samples_statement("sample", select(0, 5), IDS, max_samples=100, by_series=True)
    assert statement is not None
    assert "p.series_id = i.series_id AND p.ts >=" in statement.text
    assert statement.text.endswith("OFFSET 0) AS l LIMIT $4")
    assert statement.params == (IDS.tolist(), 1, 6, 101)


def test_samples_statement_of_no_time_is_none() -> None:
    assert samples_statement("sample", select(5, 5), IDS) is None
    assert samples_statement("sample", select(MAX_TIMESTAMP_MS, 2**62), IDS) is None
    assert samples_statement("sample", select(-(2**62), MIN_TIMESTAMP_MS - 1), IDS) is None


def test_samples_statement_asks_for_one_sample_too_many() -> None:
    statement = samples_statement("sample", select(0, 5, step_ms=1), IDS, max_samples=100)
    assert statement is not None
    assert statement.text.endswith(" LIMIT $4")
    assert statement.params[-1] == 101


def test_samples_statement_leaves_out_bounds_at_the_ends_of_time() -> None:
    statement = samples_statement("sample", select(-(2**62), 2**62), IDS)
    assert statement is not None
    assert "from_unix_ms" not in statement.text
    assert statement.params == ([3, 5],)


def test_time_bounds_clamp_to_what_the_database_holds() -> None:
    assert TimeBounds.clamp(-(2**63), 2**63).is_everything
    assert not TimeBounds.clamp(0, 2**63).is_everything
    assert TimeBounds.clamp(9, 8).is_empty
    assert not TimeBounds.clamp(9, 9).is_empty
