"""Selections to statements that read all their samples, and that estimate how many there are.

Pure. The table has the columns series_id, ts and value; the row store names it.
"""

# ruff: noqa: S608 - the only f-string parts are a table name of ours and $n.

from typing import Final

from promcompat.core.model import IntArray, SeriesSelection
from sql.catalog import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS, TimeBounds
from sql.database.statements import Params, Statement

NOT_STALE: Final = " AND NOT is_stale_marker(p.value)"
"""The term, after others, that keeps stale markers out of the samples `p`."""


def samples_statement(
    table: str,
    selection: SeriesSelection,
    series_ids: IntArray,
    *,
    max_samples: int = 0,
    by_series: bool = False,
) -> Statement | None:
    """The samples in `table` of given series in `(start_ms, end_ms]`, in no order.

    Columns series_id, ts, value. None when no time lies within. Not ORDER BY: 400 of 20,000
    series took 7 ms by bitmap scan and 13 ms in index order, all of them 190 ms and 380 ms with
    the server's sort, where numpy sorts the columns in 20 ms. Bounds are immutable functions
    of constants, so the planner excludes chunks by them. At most `max_samples + 1` rows come
    (0: no bound), so that the caller learns of one too many. What need not be read at all is
    left out by `sql.pushdown.thinning_translator`. `by_series` looks up each series separately.
    """
    bounds = TimeBounds.clamp(selection.start_ms + 1, selection.end_ms)
    if bounds.is_empty:
        return None
    params = Params()
    ids = f"{params.add(series_ids.tolist())}::bigint[]"
    columns = f"SELECT p.series_id, p.ts, p.value FROM {table} AS p"
    stretch = within(bounds, params)
    if by_series:
        # OFFSET 0 prevents a join, which could scan in any order.
        text = (
            f"SELECT l.series_id, l.ts, l.value FROM unnest({ids}) AS i (series_id)"
            " CROSS JOIN LATERAL"
            f" ({columns} WHERE p.series_id = i.series_id{stretch} OFFSET 0) AS l"
        )
    else:
        text = f"{columns} WHERE p.series_id = ANY({ids}){stretch}"
    if max_samples > 0:
        text += f" LIMIT {params.add(max_samples + 1)}"
    return Statement(text, tuple(params.values))


def density_statement(
    table: str, selection: SeriesSelection, series_ids: IntArray
) -> Statement | None:
    """How many samples some series have in `(start_ms, end_ms]`, and whether all are whole numbers.

    One row of `rows` and `are_whole`.
    """
    bounds = TimeBounds.clamp(selection.start_ms + 1, selection.end_ms)
    if bounds.is_empty:
        return None
    params = Params()
    ids = f"{params.add(series_ids.tolist())}::bigint[]"
    text = (
        "SELECT count(*) AS rows, coalesce(bool_and(p.value = trunc(p.value)), TRUE) AS are_whole"
        f" FROM {table} AS p"
        f" WHERE p.series_id = ANY({ids}){within(bounds, params)}"
    )
    return Statement(text, tuple(params.values))


def within(bounds: TimeBounds, params: Params) -> str:
    """The terms, after others, that keep the samples `p` within bounds.

    The upper bound is exclusive at the next millisecond, so that a timestamp with microseconds
    counts for its millisecond. Bounds at the ends of time are left out: TimescaleDB computes with
    them and overflows.
    """
    terms = ""
    if bounds.start_ms > MIN_TIMESTAMP_MS:
        terms += f" AND p.ts >= from_unix_ms({params.add(bounds.start_ms)}::bigint)"
    if bounds.end_ms < MAX_TIMESTAMP_MS:
        terms += f" AND p.ts < from_unix_ms({params.add(bounds.end_ms + 1)}::bigint)"
    return terms
