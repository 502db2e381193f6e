"""Selections to statements that read all their samples, and that estimate how many there are.

Pure. The table has the columns series_id, ts and value; the row store names it.
"""

# ruff: noqa: S608 - the only f-string parts are a table name of ours and $n.

from typing import Final

from promcompat.core.distinct_numbers import distinct
from promcompat.core.model import IntArray, SeriesSelection
from sql.database.statements import Params, Statement
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS, MS_PER_DAY, TimeBounds

NOT_STALE: Final = " AND NOT is_stale_marker(p.value)"
"""The term, after others, that keeps stale markers out of the samples `p`."""
HAS_HISTOGRAMS: Final = "count(*) FILTER (WHERE is_histogram(p.value)) > 0"
"""Whether any of the samples `p` of a group is a histogram."""
_MAX_BRANCHES: Final = 64
_HISTOGRAM_COLUMNS: Final = (
    "SELECT h.series_id, string_agg(int8send(h.unix_ms), ''),"
    " string_agg(int4send(octet_length(h.histogram)), ''), string_agg(h.histogram, '')"
)


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
    """How many samples some series have in `(start_ms, end_ms]`, and of which kind.

    One row of `rows`, `are_whole`, for whole numbers, and `has_histograms`.
    """
    bounds = TimeBounds.clamp(selection.start_ms + 1, selection.end_ms)
    if bounds.is_empty:
        return None
    params = Params()
    ids = f"{params.add(series_ids.tolist())}::bigint[]"
    text = (
        "SELECT count(*) AS rows, coalesce(bool_and(p.value = trunc(p.value)), TRUE) AS are_whole,"
        f" {HAS_HISTOGRAMS} AS has_histograms"
        f" FROM {table} AS p"
        f" WHERE p.series_id = ANY({ids}){within(bounds, params)}"
    )
    return Statement(text, tuple(params.values))


def histograms_statement(
    table: str, series_ids: IntArray, first_ms: int, last_ms: int
) -> Statement:
    """The histograms in `table` of given series, from the first to the last time.

    One row for each series and day: series_id, then the times (8 bytes each), the lengths (4 bytes
    each) and the bytes of its histograms, each joined in the same order.
    """
    params = Params()
    ids = f"{params.add(series_ids.tolist())}::bigint[]"
    bounds = TimeBounds.clamp(first_ms, last_ms)
    text = (
        f"{_HISTOGRAM_COLUMNS} FROM (SELECT p.series_id, p.histogram,"
        " floor(extract(epoch FROM p.ts) * 1000)::bigint AS unix_ms"
        f" FROM {table} AS p WHERE p.series_id = ANY({ids}){within(bounds, params)}"
        f" AND p.histogram IS NOT NULL) AS h GROUP BY h.series_id, h.unix_ms / {MS_PER_DAY}"
    )
    return Statement(text, tuple(params.values))


def histograms_at_statement(table: str, series_ids: IntArray, times: IntArray) -> Statement:
    """The histograms of given samples only; columns and rows as of `histograms_statement`.

    Each sample has an element of `series_ids` and of `times`. Branches of a day, or of a few days
    where there are many, have constant bounds, which leave the planner few chunks.
    """
    params = Params()
    days = times // MS_PER_DAY
    width = -(-int(days.max() - days.min() + 1) // _MAX_BRANCHES)
    pieces = (days - days.min()) // width
    branches = [
        _probes(table, series_ids[pieces == piece], times[pieces == piece], params)
        for piece in distinct(pieces)
    ]
    source = " UNION ALL ".join(branches)
    text = (
        f"{_HISTOGRAM_COLUMNS} FROM ({source}) AS h GROUP BY h.series_id, h.unix_ms / {MS_PER_DAY}"
    )
    return Statement(text, tuple(params.values))


def _probes(table: str, series_ids: IntArray, times: IntArray, params: Params) -> str:
    bounds = TimeBounds.clamp(int(times.min()), int(times.max()))
    wanted = f"{params.add(series_ids.tolist())}::bigint[], {params.add(times.tolist())}::bigint[]"
    return (
        "(SELECT w.series_id, l.histogram, w.unix_ms"
        f" FROM unnest({wanted}) AS w (series_id, unix_ms) CROSS JOIN LATERAL ("
        f"SELECT p.histogram FROM {table} AS p WHERE p.series_id = w.series_id"
        " AND p.ts >= from_unix_ms(w.unix_ms) AND p.ts < from_unix_ms(w.unix_ms + 1)"
        f"{within(bounds, params)} AND p.histogram IS NOT NULL"
        " ORDER BY p.ts LIMIT 1) AS l)"
    )


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
