"""What `anchored` and `smoothed` selectors make of native histograms.

The rules are those of floats, see `extended_range_kernels`, with the annotations of histograms.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from promcompat.core.histograms.columns import (
    CUSTOM_BUCKETS,
    histogram_cells,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.model import METRIC_NAME, BoolArray, FloatArray, IntArray, SampleBlock
from promql.ast import PositionRange
from promql.budget import QueryBudget
from promql.functions import window_kernels as kernels
from promql.functions.function_calls import RangeCall
from promql.functions.histogram_rates import (
    Spans,
    WindowHistograms,
    have_mixed_schemas,
    in_cuts,
    inform_of_bounds,
    offsets_of,
    ranges_of,
    resets_of,
    warn_of_kind,
)
from promql.functions.histogram_windows import count_pairs
from promql.functions.mixed_windows import MixedWindows
from promql.histograms.arithmetic import (
    Interpolated,
    add_and_subtract,
    divide,
    interpolate,
    were_reset,
)
from promql.histograms.combination import Combined
from promql.values.annotation_texts import (
    mixed_in_range,
    mixed_schemas,
    not_a_gauge,
    reconciled_bounds,
)
from promql.values.histogram_columns import GAUGE, UNKNOWN, HistogramColumns
from promql.values.label_columns import label_pairs
from promql.values.matrix import Annotations, Matrix, Windows
from promql.values.matrix_histograms import with_used_histograms
from promql.values.row_pieces import take_series
from promql.values.windows import upper_bounds

_COPIES: Final = 4
"""A histogram between two others exists as their difference, scaled, added, and in a pool."""


def extended_windows_of(
    is_smoothed: bool,
    lookback_ms: int,
    call: RangeCall,
    columns: HistogramColumns,
    series: slice,
) -> MixedWindows:
    """The windows of some series, with the samples around the ends of their ranges."""
    vector = call.vector
    part = take_series(vector.block, series)
    start_ms = vector.end_ms - vector.range_ms
    until_ms = vector.end_ms + lookback_ms * is_smoothed
    windows = Windows(
        block=part,
        lo=upper_bounds(part, start_ms - lookback_ms),
        hi=upper_bounds(part, until_ms),
        start_ms=start_ms,
        end_ms=vector.end_ms,
        range_ms=vector.range_ms,
        drop_name=np.zeros(len(part.labels), bool),
    )
    return MixedWindows.of(part, columns, windows, call)


def reduce_extended_piece(
    operation: int,
    is_smoothed: bool,
    windows: MixedWindows,
    values: FloatArray,
    present: BoolArray,
) -> WindowHistograms | None:
    """Correct the values of floats where windows have histograms; the values that are histograms.

    The arrays [n_series, n_steps] are those of the floats of each window.
    """
    has_histograms = windows.n_histograms > 0
    if operation in (kernels.CHANGES, kernels.RESETS):
        anchored = _anchored(windows)
        counts = count_pairs(operation, anchored)
        values[has_histograms] = counts[has_histograms]
        present[has_histograms] = (anchored.lo < anchored.hi)[has_histograms]
        return None
    windows.warn(windows.are_mixed(False), mixed_in_range)
    present &= ~has_histograms
    return _change(operation, is_smoothed, windows)


def _after_start(windows: MixedWindows) -> IntArray:
    """The first sample after the start of the range of each window, or the end of the window."""
    vector = windows.call.vector
    found = upper_bounds(windows.block, vector.end_ms - vector.range_ms)
    return np.asarray(np.clip(found, windows.lo, windows.hi))


def _anchored(windows: MixedWindows) -> MixedWindows:
    """The windows from the last sample before their range on; empty if there is none inside."""
    after = _after_start(windows)
    first = np.where(after < windows.hi, np.maximum(windows.lo, after - 1), windows.hi)
    return replace(windows, lo=first)


@dataclass(frozen=True, slots=True)
class _Ends:
    """The ends of some windows, and whether each is a sample or lies between two.

    `left` and `right` are places in `pool`, which begins with the stored histograms. `spans_reset`:
    the left end lies between two samples with a reset between them.
    """

    pool: HistogramColumns
    left: IntArray
    right: IntArray
    spans_reset: BoolArray


def _change(operation: int, is_smoothed: bool, windows: MixedWindows) -> WindowHistograms:
    """RATE, INCREASE and DELTA."""
    is_counter = operation != kernels.DELTA
    spans = _ranges(windows, is_smoothed)
    is_mixed = have_mixed_schemas(spans, spans.first, True)
    spans.warn(is_mixed, mixed_schemas)
    spans = spans.where(~is_mixed)
    if is_counter:
        warn_of_kind(spans, is_counter, all_samples=True)
    resets = resets_of(windows) if is_counter else np.zeros(len(windows.numbers), bool)
    ends = _ends_of(spans, resets, is_smoothed)
    if not is_counter:
        hints = ends.pool.hints
        are_gauges = (hints[ends.left] == GAUGE) & (hints[ends.right] == GAUGE)
        spans.warn(~are_gauges, not_a_gauge)
    combined = _change_between(spans, ends, resets, is_counter)
    inform_of_bounds(windows, combined)
    columns = combined.histograms.with_hint(GAUGE)
    if operation == kernels.RATE:
        seconds = np.full(len(columns), windows.call.vector.range_ms / 1000)
        columns = divide(columns, seconds)
    return WindowHistograms(spans.rows, spans.steps, columns)


def _ranges(windows: MixedWindows, is_smoothed: bool) -> Spans:
    """The first and the last sample that count, of each window that has a value."""
    end_ms = windows.call.vector.end_ms
    start_ms = end_ms - windows.call.vector.range_ms
    first = np.maximum(windows.lo, np.minimum(_after_start(windows), windows.hi - 1) - 1)
    last = windows.hi - 1
    if is_smoothed:
        last = np.minimum(upper_bounds(windows.block, end_ms - 1), last)
    has_value = (windows.n_histograms > 0) & (windows.n_histograms == windows.hi - windows.lo)
    padded = np.append(windows.timestamps, 0)
    has_value &= padded[np.maximum(last, 0)] > start_ms
    if is_smoothed:
        has_value &= padded[np.maximum(first, 0)] <= end_ms
    rows, steps = np.nonzero(has_value)
    begins_inside = np.zeros(len(rows), bool)
    return Spans(windows, rows, steps, first[rows, steps], last[rows, steps], begins_inside)


def _ends_of(spans: Spans, resets: BoolArray, is_smoothed: bool) -> _Ends:
    windows = spans.windows
    left, right = windows.numbers[spans.first], windows.numbers[spans.last]
    nowhere = np.zeros(len(spans), bool)
    if not is_smoothed:
        return _Ends(windows.columns, left, right, nowhere)
    end_ms = windows.call.vector.end_ms[spans.steps]
    start_ms = end_ms - windows.call.vector.range_ms
    is_left = windows.timestamps[spans.first] < start_ms
    is_right = windows.timestamps[spans.last] > end_ms
    after = np.concatenate((spans.first[is_left] + 1, spans.last[is_right]))
    times = np.concatenate((start_ms[is_left], end_ms[is_right]))
    before_ms, after_ms = windows.timestamps[after - 1], windows.timestamps[after]
    between = interpolate(
        windows.columns,
        windows.numbers[after - 1],
        windows.numbers[after],
        (times - before_ms) / (after_ms - before_ms),
        resets[after],
    )
    _inform_of_interpolation(windows.call.annotations, windows.call.arg_positions[0], between)
    pool = HistogramColumns.joined([windows.columns, between.histograms])
    places = len(windows.columns) + np.arange(len(after))
    n_left = int(is_left.sum())
    left, right, spans_reset = left.copy(), right.copy(), nowhere
    left[is_left], right[is_right] = places[:n_left], places[n_left:]
    spans_reset[is_left] = resets[after[:n_left]]
    return _Ends(pool, left, right, spans_reset)


def _inform_of_interpolation(
    annotations: Annotations, position: PositionRange, between: Interpolated
) -> None:
    if between.difference.was_reconciled.any():
        annotations.info(reconciled_bounds("subtraction"), position)
    if between.result.was_reconciled.any():
        annotations.info(reconciled_bounds("addition"), position)


def _change_between(spans: Spans, ends: _Ends, resets: BoolArray, is_counter: bool) -> Combined:
    """`right - left`, plus what counters had before resets.

    A reset between the ends of an interpolation counts already. The first sample inside is compared
    with the left end, and the right end with the sample before it.
    """
    windows, first, last = spans.windows, spans.first, spans.last
    compares_left = ~ends.spans_reset & (first + 1 < last) & is_counter
    compares_right = (first + 1 + ends.spans_reset <= last) & is_counter
    begins_left = ~ends.spans_reset & (first + 1 == last)
    before_right = np.where(begins_left, ends.left, windows.numbers[np.maximum(last - 1, 0)])
    adds_left = _were_reset(
        ends.pool, compares_left, windows.numbers[np.minimum(first + 1, last)], ends.left
    )
    adds_right = _were_reset(ends.pool, compares_right, ends.right, before_right)
    places = np.flatnonzero(resets)
    begins = np.searchsorted(places, first + 2)
    n_inner = np.maximum(np.searchsorted(places, last) - begins, 0)
    of_inner = offsets_of(n_inner)
    offsets = offsets_of(adds_left + n_inner + adds_right)
    lost = np.empty(offsets[-1], np.int64)
    lost[offsets[:-1][adds_left]] = ends.left[adds_left]
    inner = windows.numbers[places[ranges_of(begins, of_inner)] - 1]
    lost[ranges_of(offsets[:-1] + adds_left, of_inner)] = inner
    lost[(offsets[1:] - 1)[adds_right]] = before_right[adds_right]
    pool, offsets, lost = _with_sums(windows, ends.pool, offsets, lost)
    return _sums(windows, pool, *_with_ends(ends, offsets, lost))


def _with_sums(
    windows: MixedWindows, pool: HistogramColumns, offsets: IntArray, rows: IntArray
) -> tuple[HistogramColumns, IntArray, IntArray]:
    """One row or none instead of `rows[offsets[i]:offsets[i + 1]]`; sums are added to the pool.

    What is lost by resets is added up first, as in Prometheus, on which last digits depend.
    """
    sizes = np.diff(offsets)
    several = sizes > 1
    one_each = offsets_of(np.minimum(sizes, 1))
    firsts = rows[offsets[:-1][sizes > 0]]
    if not several.any():
        return pool, one_each, firsts
    of_several = offsets_of(sizes[several])
    terms = rows[ranges_of(offsets[:-1][several], of_several)]
    sums = _sums(windows, pool, of_several, terms, np.ones(len(terms)))
    inform_of_bounds(windows, sums)
    firsts[several[sizes > 0]] = len(pool) + np.arange(len(of_several) - 1)
    return HistogramColumns.joined([pool, sums.histograms]), one_each, firsts


def _with_ends(
    ends: _Ends, offsets: IntArray, rows: IntArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Offsets, rows and signs of `right - left`, plus the rows of each window."""
    all_offsets = offsets + 2 * np.arange(len(offsets))
    terms, signs = np.empty(all_offsets[-1], np.int64), np.ones(all_offsets[-1])
    at = all_offsets[:-1]
    terms[at], terms[at + 1], signs[at + 1] = ends.right, ends.left, -1.0
    terms[ranges_of(at + 2, offsets)] = rows
    return all_offsets, terms, signs


def _sums(
    windows: MixedWindows,
    pool: HistogramColumns,
    offsets: IntArray,
    rows: IntArray,
    signs: FloatArray,
) -> Combined:
    """`add_and_subtract`, some windows at a time."""

    def combine_cut(cut: slice) -> Combined:
        until = offsets[cut.start : cut.stop + 1]
        used = slice(int(until[0]), int(until[-1]))
        return add_and_subtract(pool, until - until[0], rows[used], signs[used])

    return in_cuts(windows, np.diff(offsets), combine_cut)


def _were_reset(
    pool: HistogramColumns, chosen: BoolArray, rows: IntArray, previous: IntArray
) -> BoolArray:
    """Whether there was a reset between the chosen pairs of histograms."""
    found = np.zeros(len(chosen), bool)
    found[chosen] = were_reset(pool, rows[chosen], previous[chosen])
    return found


@dataclass(frozen=True, slots=True)
class SmoothedSelector:
    """A use of `x smoothed`: where it looks, int64 [n_steps], and what it may need and say.

    `columns` are the histograms of the block, None if it has none.
    """

    times_ms: IntArray
    lookback_ms: int
    columns: HistogramColumns | None
    annotations: Annotations
    position: PositionRange
    budget: QueryBudget


@dataclass(frozen=True, slots=True)
class SamplesAround:
    """The samples before and after each time, as places in a block [n_series, n_steps].

    `lies_between`: the time is between both, at this part of the way. Otherwise that before counts,
    and the part is 0 if it is of this very time.
    """

    before: IntArray
    behind: IntArray
    lies_between: BoolArray
    fractions: FloatArray


def with_smoothed_histograms(
    matrix: Matrix, block: SampleBlock, around: SamplesAround, selector: SmoothedSelector
) -> Matrix:
    """A matrix of smoothed floats of a block, with histograms where these are.

    Histograms count as counters unless both are gauges. A time with floats and histograms around
    it, or between exponential and custom buckets, has no value. The arrays of the matrix change.
    """
    columns = selector.columns
    assert columns is not None
    has_histograms, is_mixed = _kinds_around(block, selector)
    _warn(matrix, is_mixed, mixed_in_range, selector)
    np.logical_and(matrix.present, ~is_mixed, out=matrix.present)
    rows, steps = np.nonzero(matrix.present & has_histograms)
    numbers = histogram_numbers(block.values)
    before, lies_between = around.before[rows, steps], around.lies_between[rows, steps]
    first = numbers[before]
    second = numbers[np.where(lies_between, around.behind[rows, steps], before)]
    is_custom = columns.schemas == CUSTOM_BUCKETS
    has_mixed_schemas = is_custom[first] != is_custom[second]
    mixed_at = rows[has_mixed_schemas], steps[has_mixed_schemas]
    is_mixed = np.zeros_like(matrix.present)
    is_mixed[mixed_at] = True
    _warn(matrix, is_mixed, mixed_schemas, selector)
    matrix.present[mixed_at] = False
    interpolates = lies_between & ~has_mixed_schemas
    fractions = around.fractions[rows, steps]
    between = _between(columns, first, second, fractions, interpolates, selector)
    # What a hint says of the sample before is not true of a sample that stands for a later time.
    carried = columns.with_hint(UNKNOWN)
    is_carried = ~lies_between & (fractions > 0)
    places = first + np.where(is_carried, len(columns), 0)
    places[interpolates] = 2 * len(columns) + np.arange(int(interpolates.sum()))
    matrix.values[rows, steps] = histogram_cells(places)
    pool = HistogramColumns.joined([columns, carried, between])
    return with_used_histograms(replace(matrix, histograms=pool))


def _kinds_around(block: SampleBlock, selector: SmoothedSelector) -> tuple[BoolArray, BoolArray]:
    """Where there are histograms within the lookback delta, and where floats and histograms."""
    lo = upper_bounds(block, selector.times_ms - selector.lookback_ms)
    hi = upper_bounds(block, selector.times_ms + selector.lookback_ms)
    until = np.concatenate(([0], np.cumsum(is_histogram(block.values))))
    n_histograms = until[hi] - until[lo]
    return n_histograms > 0, (n_histograms > 0) & (n_histograms < hi - lo)


def _between(
    columns: HistogramColumns,
    first: IntArray,
    second: IntArray,
    fractions: FloatArray,
    chosen: BoolArray,
    selector: SmoothedSelector,
) -> HistogramColumns:
    """The chosen histograms between pairs of them."""
    bytes_each = columns.n_bytes / max(1, len(columns))
    selector.budget.check_bytes(int(chosen.sum() * bytes_each) * _COPIES)
    first, second = first[chosen], second[chosen]
    are_gauges = (columns.hints[first] == GAUGE) & (columns.hints[second] == GAUGE)
    was_reset = ~are_gauges & were_reset(columns, second, first)
    between = interpolate(columns, first, second, fractions[chosen], was_reset)
    _inform_of_interpolation(selector.annotations, selector.position, between)
    return between.histograms


def _warn(
    matrix: Matrix, where: BoolArray, text: Callable[[str], str], selector: SmoothedSelector
) -> None:
    """A warning for each metric with a chosen time [n_series, n_steps]."""
    chosen = [matrix.labels[row] for row in np.flatnonzero(where.any(axis=1)).tolist()]
    for pair in dict.fromkeys(label_pairs(chosen, METRIC_NAME)):
        selector.annotations.warn(text("" if pair is None else pair[1]), selector.position)
