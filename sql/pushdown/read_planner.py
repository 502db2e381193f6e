"""Plans how a selection is read: all samples, or a thinning that is exact and faster."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.model import IntArray, SeriesSelection
from sql.database.connection_pool import Connection
from sql.database.copy_format import BYTES_PER_ROW
from sql.database.statements import Statement
from sql.pushdown.partial_translator import partial_samples_statement
from sql.pushdown.rule_choice import (
    IN_HEAD,
    SMALL_ROWS,
    Choice,
    Estimate,
    PushdownMode,
    choose,
    choose_none,
    choose_until,
    needs_estimate,
)
from sql.pushdown.rules import Partial, judge
from sql.pushdown.sample_statements import (
    density_statement,
    histograms_at_statement,
    histograms_statement,
    samples_statement,
)
from sql.pushdown.thinning_translator import thinned_samples_statement

ASSUMED_INTERVAL_MS: Final = 15_000
_SHORT_MS: Final = 3_600_000
_PRESENT_MS: Final = 60_000
_COUNTED_SERIES: Final = 8
_COUNTED_MS: Final = 3_600_000
PLAIN_PROBE_US: Final = 3.0
TIMESCALEDB_PROBE_US: Final = 8.0


@dataclass(frozen=True, slots=True)
class PlannedRead:
    """The statement that reads a selection (None: no time lies within), and how it was chosen.

    The statement reads the samples up to `end_ms`; those after it are still to be read whole.
    """

    statement: Statement | None
    choice: Choice
    estimate: Estimate | None
    end_ms: int

    @property
    def partial(self) -> Partial | None:
        """The partial result that the statement's fourth column belongs to; None without one."""
        return None if self.choice.thinning is None else self.choice.thinning.partial


class ReadPlanner:
    """Plans the reading of selections whose series are known."""

    def __init__(
        self,
        table: str,
        mode: PushdownMode,
        *,
        probe_us: float,
        max_samples: int,
        max_bytes: int,
        now_ms: Callable[[], int],
    ) -> None:
        """`table` holds the samples, one a row. A maximum of 0 sets no bound.

        `probe_us` is what finding one sample takes, in µs.
        """
        self._table = table
        self._mode = mode
        self._probe_us = probe_us
        self._max_samples = max_samples
        self._now_ms = now_ms
        bounds = max_samples, max_bytes // BYTES_PER_ROW
        self._rows_allowed = min((bound for bound in bounds if bound), default=0)

    async def plan(
        self,
        connection: Connection,
        selection: SeriesSelection,
        series_ids: IntArray,
        thinned_until_ms: int,
        *,
        always_estimates: bool = False,
    ) -> PlannedRead:
        """Choose how to read; every sample after `thinned_until_ms` is needed.

        `always_estimates` is for explanations: it makes an estimate even where the choice does not
        depend on one, and does not affect the choice.
        """
        estimate: Estimate | None = None
        can_thin = thinned_until_ms > selection.start_ms
        decides = can_thin and self._is_worth_estimating(selection, len(series_ids))
        if always_estimates or decides:
            estimate = await self._estimate(connection, selection, series_ids)
        choice = choose(selection, self._mode, estimate if decides else None)
        if can_thin:
            choice = choose_until(choice, selection, thinned_until_ms)
        elif self._mode is not PushdownMode.OFF:
            choice = choose_none(selection, IN_HEAD)
        end_ms = selection.end_ms
        if choice.thinning is not None and thinned_until_ms < end_ms:
            end_ms = int(choice.thinning.segments.highs[-1])
        statement = self._statement(selection, choice, series_ids)
        return PlannedRead(statement, choice, estimate, end_ms)

    def whole(self, selection: SeriesSelection, series_ids: IntArray) -> Statement | None:
        """The statement that reads all samples of a selection.

        A short range in the past is looked up series by series. In one scan PostgreSQL 17 continues
        from the end of a series to the next one on the page, and reads what is before the range:
        for 3 minutes of 1,000 series 10 minutes ago 24,500 pages in 79 ms, instead of 4,000 in 7.
        """
        is_short = selection.end_ms - selection.start_ms <= _SHORT_MS
        is_past = selection.end_ms < self._now_ms() - _PRESENT_MS
        return samples_statement(
            self._table,
            selection,
            series_ids,
            max_samples=self._max_samples,
            by_series=is_short and is_past,
        )

    def histograms(self, series_ids: IntArray, times: IntArray, *, is_whole: bool) -> Statement:
        """The statement that reads the histograms of samples, of which there is at least one.

        `is_whole` says that these series have no other histograms between the first and the last.
        """
        if is_whole:
            bounds = int(times.min()), int(times.max())
            return histograms_statement(self._table, distinct(series_ids), *bounds)
        return histograms_at_statement(self._table, series_ids, times)

    def _statement(
        self, selection: SeriesSelection, choice: Choice, series_ids: IntArray
    ) -> Statement | None:
        thinning, most = choice.thinning, self._max_samples
        if thinning is None:
            return self.whole(selection, series_ids)
        if thinning.partial is None:
            return thinned_samples_statement(self._table, thinning, series_ids, max_samples=most)
        return partial_samples_statement(
            self._table, thinning.partial, thinning.segments, series_ids, max_samples=most
        )

    def _is_worth_estimating(self, selection: SeriesSelection, n_series: int) -> bool:
        range_ms = selection.end_ms - selection.start_ms
        if n_series * range_ms < SMALL_ROWS * ASSUMED_INTERVAL_MS:
            return False
        return needs_estimate(judge(selection), self._mode)

    async def _estimate(
        self, connection: Connection, selection: SeriesSelection, series_ids: IntArray
    ) -> Estimate:
        """Count the newest hour of a few series, or the oldest if that is empty: 1 to 2 ms.

        Table statistics would cost nothing, but a chunk that was never analysed has none.
        """
        range_ms = selection.end_ms - selection.start_ms
        span_ms = min(range_ms, _COUNTED_MS)
        picks = distinct(np.linspace(0, len(series_ids) - 1, _COUNTED_SERIES).astype(np.int64))
        counted, are_whole, has_histograms = 0, True, False
        for start_ms in (selection.end_ms - span_ms, selection.start_ms):
            span = replace(selection, start_ms=start_ms, end_ms=start_ms + span_ms)
            statement = density_statement(self._table, span, series_ids[picks])
            if statement is not None and not counted:
                row = await connection.fetchrow(statement.text, *statement.params)
                counted, are_whole = row["rows"], row["are_whole"]
                has_histograms = row["has_histograms"]
        share = len(series_ids) / len(picks) * range_ms / max(span_ms, 1)
        return Estimate(
            n_series=len(series_ids),
            rows=counted * share,
            probe_us=self._probe_us,
            rows_allowed=self._rows_allowed,
            are_whole=are_whole,
            has_histograms=has_histograms,
        )
