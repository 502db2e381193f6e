"""Thinnings to SQL: the samples of some time ranges, or the newest of each.

Pure. Measured: the bounds of a segment are computed once, behind OFFSET 0, and not in each probe
(10 µs became 3). Each branch of UNION ALL has constant bounds of
whole days, so that the planner leaves it one chunk: one branch for all of 30 days took 90 µs a
probe on TimescaleDB, which chooses chunks anew for each, and 7 µs in branches of a day.
"""

# ruff: noqa: S608 - the only f-string parts are a table name of ours and $n.

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.database.statements import Params, Statement
from sql.pushdown.rules import Thinning
from sql.pushdown.sample_statements import NOT_STALE
from sql.pushdown.window_grid import TimeSegments
from sql.times import MS_PER_DAY

_MAX_BRANCHES: Final = 64


def thinned_samples_statement(
    table: str, thinning: Thinning, series_ids: IntArray, *, max_samples: int = 0
) -> Statement:
    """The samples of given series that a thinning keeps, in no particular order.

    Columns series_id, ts, value, as `sql.pushdown.sample_statements.samples_statement` has them.
    """
    params = Params()
    ids = f"{params.add(series_ids.tolist())}::bigint[]"
    branches = [
        _branch(table, thinning, ids, piece, params) for piece in _pieces(thinning.segments)
    ]
    text = " UNION ALL ".join(branches)
    if max_samples > 0:
        text += f" LIMIT {params.add(max_samples + 1)}"
    return Statement(text, tuple(params.values))


@dataclass(frozen=True, slots=True)
class _Piece:
    """The segments within `(start_ms, end_ms]`, cut off at its ends."""

    start_ms: int
    end_ms: int
    segments: TimeSegments


def _pieces(segments: TimeSegments) -> Iterator[_Piece]:
    """Segments by day, or by as many days as it takes to have few enough branches.

    A segment over a day's end is cut in two: the newest of both parts are a few samples more than
    needed, never one less.
    """
    first_day = int(segments.lows[0] + 1) // MS_PER_DAY
    last_day = int(segments.highs[-1]) // MS_PER_DAY
    days = -(-(last_day - first_day + 1) // _MAX_BRANCHES)
    for day in range(first_day, last_day + 1, days):
        start_ms = day * MS_PER_DAY - 1
        end_ms = (day + days) * MS_PER_DAY - 1
        low = int(np.searchsorted(segments.highs, start_ms, "right"))
        high = int(np.searchsorted(segments.lows, end_ms, "left"))
        if low < high:
            lows = np.maximum(segments.lows[low:high], start_ms)
            highs = np.minimum(segments.highs[low:high], end_ms)
            yield _Piece(int(lows[0]), int(highs[-1]), TimeSegments(lows, highs))


def _branch(table: str, thinning: Thinning, ids: str, piece: _Piece, params: Params) -> str:
    within = (
        f" AND p.ts >= from_unix_ms({params.add(piece.start_ms + 1)}::bigint)"
        f" AND p.ts < from_unix_ms({params.add(piece.end_ms + 1)}::bigint)"
    )
    if thinning.skips_stale_markers:
        within += NOT_STALE
    # A single segment has the bounds of its piece; leaving it out saves a fifth of the time.
    segments = [] if len(piece.segments) == 1 else [_segments(piece.segments, params)]
    if segments:
        within += " AND p.ts >= w.low AND p.ts < w.high"
    columns = f"SELECT p.series_id, p.ts, p.value FROM {table} AS p"
    if thinning.newest:
        source = [f"unnest({ids}) AS i (series_id)", *segments]
        probe = (
            f"{columns} WHERE p.series_id = i.series_id{within}"
            f" ORDER BY p.ts DESC LIMIT {params.add(thinning.newest)}"
        )
    else:
        # One scan of all series for each segment; OFFSET 0 prevents a join.
        source = segments
        probe = f"{columns} WHERE p.series_id = ANY({ids}){within} OFFSET 0"
    probes = " CROSS JOIN ".join([*source, f"LATERAL ({probe}) AS l"])
    return f"(SELECT l.series_id, l.ts, l.value FROM {probes})"


def _segments(segments: TimeSegments, params: Params) -> str:
    lows = params.add((segments.lows + 1).tolist())
    highs = params.add((segments.highs + 1).tolist())
    return (
        "(SELECT from_unix_ms(u.low) AS low, from_unix_ms(u.high) AS high"
        f" FROM unnest({lows}::bigint[], {highs}::bigint[]) AS u (low, high) OFFSET 0) AS w"
    )
