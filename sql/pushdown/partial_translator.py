"""Partial results of windows to SQL: what `sql.pushdown.rules.Partial` fetches of a segment.

Pure. The edges of the windows are the buckets. `time_bucket` of TimescaleDB and `date_bin` of
PostgreSQL make buckets of one width only; where the range is not a multiple of the step there are
two widths. `width_bucket` over the edges took 0.9 to 1.2 times as long as `date_bin`.
"""

# ruff: noqa: S608 - the only f-string parts are a table name of ours and $n.

from dataclasses import dataclass
from typing import Final

from promcompat.core.model import IntArray
from sql.database.statements import Params, Statement
from sql.pushdown.rules import Partial
from sql.pushdown.sample_statements import HAS_HISTOGRAMS, NOT_STALE, within
from sql.pushdown.window_grid import TimeSegments
from sql.times import TimeBounds

_LARGEST_WHOLE: Final = 2**53
"""Whole numbers up to it are exact as float64, and so are their sums."""
_IS_NEGATIVE_ZERO: Final = "float8send(p.value) = '\\x8000000000000000'::bytea"
_IS_WHOLE: Final = "p.value = trunc(p.value)"


def partial_samples_statement(
    table: str,
    partial: Partial,
    segments: TimeSegments,
    series_ids: IntArray,
    *,
    max_samples: int,
) -> Statement:
    """The samples of given series that stand for all of theirs, in no order.

    `segments` follow on each other without gaps. Columns series_id, ts, value, and n. Of aggregates
    n is how many samples one stands for; it is negative where the value is not exact, or there are
    histograms, and all of the series has to be read. Of ends n is the number of the sample in its
    series, from 1; every histogram is among them, so that the reader sees which series have some.
    """
    params = Params()
    ids = f"{params.add(series_ids.tolist())}::bigint[]"
    bounds = TimeBounds(int(segments.lows[0]) + 1, int(segments.highs[-1]))
    source = f"FROM {table} AS p WHERE p.series_id = ANY({ids}){within(bounds, params)}{NOT_STALE}"
    segment = _segment(segments, params)
    if partial.is_aggregate:
        text = _aggregates(partial, len(segments), segment, source, params)
    else:
        text = _ends(segment, source, has_resets=partial is Partial.ENDS_AND_RESETS)
    if max_samples > 0:
        text += f" LIMIT {params.add(max_samples + 1)}"
    return Statement(text, tuple(params.values))


def _segment(segments: TimeSegments, params: Params) -> str:
    """The number of the segment that contains `p.ts`; empty when there is only one."""
    if len(segments) == 1:
        return ""
    # A segment is open at its start, so its first millisecond is the next one.
    starts = params.add((segments.lows + 1).tolist())
    edges = f"ARRAY(SELECT from_unix_ms(u.low) FROM unnest({starts}::bigint[]) AS u (low))"
    return f"width_bucket(p.ts, {edges})"


@dataclass(frozen=True, slots=True)
class _Aggregate:
    """A value over the samples of a segment, and whether it equals Prometheus' value to the bit."""

    value: str
    is_exact: str


def _aggregates(kind: Partial, n_segments: int, segment: str, source: str, params: Params) -> str:
    aggregate = _aggregate(kind, n_segments, params)
    groups = f"p.series_id, {segment}" if segment else "p.series_id"
    return (
        f"SELECT p.series_id, max(p.ts) AS ts, {aggregate.value} AS value,"
        f" CASE WHEN {aggregate.is_exact} AND NOT {HAS_HISTOGRAMS} THEN count(*)"
        " ELSE -count(*) END AS n"
        f" {source} GROUP BY {groups}"
    )


def _aggregate(kind: Partial, n_segments: int, params: Params) -> _Aggregate:
    match kind:
        case Partial.COUNT:
            return _Aggregate("0::float8", "TRUE")
        case Partial.MINIMUM:
            # PostgreSQL sorts NaN last; Prometheus returns it only for windows of nothing else.
            return _Aggregate("min(p.value)", _one_zero())
        case Partial.MAXIMUM:
            is_number = "FILTER (WHERE p.value <> 'NaN'::float8)"
            return _Aggregate(f"coalesce(max(p.value) {is_number}, 'NaN'::float8)", _one_zero())
        case Partial.SUM:
            return _sum(n_segments, params)
        case _:
            raise AssertionError(kind)


def _one_zero() -> str:
    """That no sample is -0: of 0 and -0, Prometheus returns the one that comes first."""
    return f"count(*) FILTER (WHERE p.value = 0 AND {_IS_NEGATIVE_ZERO}) = 0"


def _sum(n_segments: int, params: Params) -> _Aggregate:
    """The sum of whole numbers, exact when no window of all segments can exceed 2^53.

    Other values are left out of the sum, since an overflow is an error in SQL.
    """
    largest = f"{params.add(float(_LARGEST_WHOLE // n_segments))}::float8"
    is_small = f"abs(p.value) <= {largest}"
    total = f"coalesce(sum(abs(p.value)) FILTER (WHERE {is_small}), 0) <= {largest}"
    return _Aggregate(
        f"coalesce(sum(p.value) FILTER (WHERE {is_small}), 0)",
        f"bool_and({_IS_WHOLE} AND {is_small}) AND {total}",
    )


def _ends(segment: str, source: str, *, has_resets: bool) -> str:
    """The samples at the ends of segments, and on both sides of a reset if it has them."""
    kept = ["o.before IS NULL", "o.after IS NULL", "is_histogram(o.value)"]
    columns = ""
    if segment:
        columns = f", {segment} AS segment"
        kept += ["o.segment <> o.segment_before", "o.segment <> o.segment_after"]
    if has_resets:
        kept += ["o.value < o.before", "o.after < o.value"]
    neighbours = ["lag(q.value) OVER s AS before", "lead(q.value) OVER s AS after"]
    if segment:
        neighbours += [
            "q.segment, lag(q.segment) OVER s AS segment_before",
            "lead(q.segment) OVER s AS segment_after",
        ]
    return (
        "SELECT o.series_id, o.ts, o.value, o.n FROM ("
        f"SELECT q.series_id, q.ts, q.value, row_number() OVER s AS n, {', '.join(neighbours)}"
        f" FROM (SELECT p.series_id, p.ts, p.value{columns} {source}) AS q"
        " WINDOW s AS (PARTITION BY q.series_id ORDER BY q.ts)"
        f") AS o WHERE {' OR '.join(kept)}"
    )
