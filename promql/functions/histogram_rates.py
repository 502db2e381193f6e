"""Functions of windows that have only histograms, and whose value is a histogram."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from promcompat.core.histograms.columns import CUSTOM_BUCKETS
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.functions import window_kernels as kernels
from promql.functions.mixed_windows import MixedWindows
from promql.functions.started_counters import warn_of_overlaps
from promql.histograms.arithmetic import (
    add_and_subtract,
    average,
    divide,
    scale,
    total,
)
from promql.histograms.combination import Combined
from promql.values.annotation_texts import (
    mixed_schemas,
    not_a_counter,
    not_a_gauge,
    reconciled_bounds,
    reset_collision,
)
from promql.values.histogram_columns import GAUGE, HistogramColumns

TERMS_PER_CUT: Final = 1 << 20
"""Windows are summed some at a time, with about so many samples, then a query may be stopped."""
_BYTES_PER_TERM = 48
"""A sample's place, number and sign, and scratch arrays of these."""
_SLACK = 1.1
"""A gap below this many average distances of samples is filled by extrapolation."""


@dataclass(frozen=True, slots=True)
class WindowHistograms:
    """The windows whose value is a histogram: series and step of each, and its value."""

    rows: IntArray
    steps: IntArray
    columns: HistogramColumns


@dataclass(frozen=True, slots=True)
class Spans:
    """Windows of histograms: series, step, first and last sample of each.

    `begins_inside`: the counter of the first sample began within the window, and was 0 then. Only
    such a window may have a single sample.
    """

    windows: MixedWindows
    rows: IntArray
    steps: IntArray
    first: IntArray
    last: IntArray
    begins_inside: BoolArray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rises_to_first(self) -> BoolArray:
        """Which windows rise to the first sample from 0, apart from those that have only this."""
        return self.begins_inside & (self.last > self.first)

    def where(self, chosen: BoolArray | slice) -> "Spans":
        """Some of them."""
        return replace(
            self,
            rows=self.rows[chosen],
            steps=self.steps[chosen],
            first=self.first[chosen],
            last=self.last[chosen],
            begins_inside=self.begins_inside[chosen],
        )

    def warn(self, chosen: BoolArray, text: Callable[[str], str]) -> None:
        """A warning for each metric of some of them."""
        call = self.windows.call
        for name in self.windows.names_of(self.rows[chosen]):
            call.annotations.warn(text(name), call.arg_positions[0])

    def of_samples(self, column: IntArray) -> IntArray:
        """A column of the histograms by sample."""
        return column[self.windows.numbers]

    def n_in(self, is_counted: BoolArray, first: IntArray) -> IntArray:
        """How many samples from `first` to the last one are counted, for each window."""
        until = np.concatenate(([0], np.cumsum(is_counted)))
        return np.asarray(until[self.last + 1] - until[first])


def extrapolated_change(operation: int, windows: MixedWindows) -> WindowHistograms:
    """RATE, INCREASE and DELTA."""
    is_counter = operation != kernels.DELTA
    begins = windows.begin_inside()
    spans = _spans_of(windows, windows.n_histograms == windows.hi - windows.lo, begins)
    resets = resets_of(windows) if is_counter else np.zeros(len(windows.numbers), bool)
    # What was before a reset between the first two samples does not matter.
    is_left_out = resets[np.minimum(spans.first + 1, spans.last)] | (spans.first == spans.last)
    lead = np.minimum(spans.first + is_left_out, spans.last)
    is_mixed = have_mixed_schemas(spans, lead, is_counter)
    spans.warn(is_mixed, mixed_schemas)
    if is_mixed.any():
        spans, is_left_out, lead = spans.where(~is_mixed), is_left_out[~is_mixed], lead[~is_mixed]
    warn_of_kind(spans, is_counter, all_samples=is_counter)
    if is_counter and windows.began is not None:
        _warn_of_overlaps(spans)
    is_new, place = _distinct(spans)
    changed = spans.where(is_new)
    limits = _least_schemas(changed, lead[is_new], is_counter)
    combined = _change(changed, is_left_out[is_new], np.flatnonzero(resets), limits)
    inform_of_bounds(windows, combined)
    is_value = ~combined.is_mixed[place]
    if not is_value.all():
        spans.warn(~is_value, mixed_schemas)
        spans, place = spans.where(is_value), place[is_value]
    is_same = len(place) == len(combined.histograms)
    changes = combined.histograms if is_same else combined.histograms.take(place)
    factors = _factors(spans, windows, changes.counts, is_counter)
    if operation == kernels.RATE:
        factors = factors / (windows.call.vector.range_ms / 1000)
    return WindowHistograms(spans.rows, spans.steps, scale(changes, factors).with_hint(GAUGE))


def _warn_of_overlaps(spans: Spans) -> None:
    """Warn of the windows whose samples contradict each other in when the counter began."""
    windows = spans.windows
    lo, hi = windows.lo, np.array(windows.lo)
    hi[spans.rows, spans.steps] = spans.last + 1
    warn_of_overlaps(windows.block, lo, hi, windows.call)


def latest_change(operation: int, windows: MixedWindows) -> WindowHistograms:
    """IRATE and IDELTA, which have the last two samples only."""
    is_counter = operation == kernels.IRATE
    last, before = np.maximum(windows.hi - 1, 0), np.maximum(windows.hi - 2, 0)
    spans = _spans_of(windows, windows.is_histogram[last] & windows.is_histogram[before])
    spans = replace(spans, first=spans.last - 1)
    warn_of_kind(spans, is_counter, all_samples=False)
    is_reset = np.zeros(len(spans), bool)
    if is_counter:
        is_reset = resets_of(windows)[spans.last]
    is_mixed = ~is_reset & have_mixed_schemas(spans, spans.first, False)
    spans.warn(is_mixed, mixed_schemas)
    spans, is_reset = spans.where(~is_mixed), is_reset[~is_mixed]
    combined = _change(spans, is_reset, np.empty(0, np.int64), None)
    inform_of_bounds(windows, combined)
    columns = combined.histograms.with_hint(GAUGE)
    if is_counter:
        times = windows.timestamps
        columns = divide(columns, (times[spans.last] - times[spans.first]) / 1000)
    return WindowHistograms(spans.rows, spans.steps, columns)


def statistic(operation: int, windows: MixedWindows) -> WindowHistograms:
    """SUM and AVG."""
    sizes = windows.hi - windows.lo
    rows, steps = np.nonzero((windows.n_histograms == sizes) & (sizes > 0))
    first, n_terms = windows.lo[rows, steps], sizes[rows, steps]
    combine = total if operation == kernels.SUM else average

    def combine_cut(cut: slice) -> Combined:
        offsets = offsets_of(n_terms[cut])
        terms = ranges_of(first[cut], offsets)
        return combine(windows.columns, offsets, windows.numbers[terms])

    combined = in_cuts(windows, n_terms, combine_cut)
    annotations, position = windows.call.annotations, windows.call.arg_positions[0]
    for name in windows.names_of(rows[combined.is_mixed]):
        annotations.warn(mixed_schemas(name), position)
    is_value = ~combined.is_mixed
    if (combined.has_collision & is_value).any():
        annotations.warn(reset_collision("aggregation"), position)
    if (combined.was_reconciled & is_value).any():
        annotations.info(reconciled_bounds("aggregation"), position)
    columns = combined.histograms.take(is_value) if not is_value.all() else combined.histograms
    return WindowHistograms(rows[is_value], steps[is_value], columns)


def _spans_of(
    windows: MixedWindows, chosen: BoolArray, begins_inside: BoolArray | None = None
) -> Spans:
    sizes = windows.hi - windows.lo
    is_enough = sizes > 1 if begins_inside is None else (sizes > 1) | begins_inside
    rows, steps = np.nonzero(chosen & is_enough)
    lo, hi = windows.lo[rows, steps], windows.hi[rows, steps]
    begins = np.zeros(len(rows), bool) if begins_inside is None else begins_inside[rows, steps]
    return Spans(windows, rows, steps, lo, hi - 1, begins)


def resets_of(windows: MixedWindows) -> BoolArray:
    """Which samples are histograms of a counter that was reset since the one before, if any."""
    resets = np.zeros(len(windows.numbers) + 1, bool)
    pairs = np.flatnonzero(windows.is_histogram[1:] & windows.is_histogram[:-1]) + 1
    resets[pairs] = windows.resets_at(pairs)
    return resets[:-1]


def have_mixed_schemas(spans: Spans, lead: IntArray, all_samples: bool) -> BoolArray:
    """Which windows have exponential and custom buckets: in any, or in the ends."""
    is_custom = spans.of_samples(spans.windows.columns.schemas) == CUSTOM_BUCKETS
    if not all_samples:
        return np.asarray(is_custom[lead] != is_custom[spans.last])
    n_custom = spans.n_in(is_custom, lead)
    return (n_custom > 0) & (n_custom < spans.last + 1 - lead)


def warn_of_kind(spans: Spans, is_counter: bool, all_samples: bool) -> None:
    """Warn of gauges where counters belong, and the other way round."""
    is_gauge = spans.of_samples(spans.windows.columns.hints) == GAUGE
    if all_samples:
        spans.warn(spans.n_in(is_gauge, spans.first) > 0, not_a_counter)
        return
    ends = is_gauge[spans.first].astype(np.int64) + is_gauge[spans.last]
    if is_counter:
        spans.warn(ends > 0, not_a_counter)
    else:
        spans.warn(ends < len(("first", "last")), not_a_gauge)


def _distinct(spans: Spans) -> tuple[BoolArray, IntArray]:
    """Which windows have other samples than the one before, and which of these each one equals."""
    is_new = np.ones(len(spans), bool)
    is_new[1:] = (np.diff(spans.first) != 0) | (np.diff(spans.last) != 0)
    is_new[1:] |= spans.begins_inside[1:] != spans.begins_inside[:-1]
    return is_new, np.cumsum(is_new) - 1


def in_cuts(
    windows: MixedWindows, n_terms: IntArray, combine: Callable[[slice], Combined]
) -> Combined:
    """What `combine` makes of windows that have so many terms, some of them at a time."""
    budget = windows.call.budget
    bounds = np.flatnonzero(np.diff(np.cumsum(n_terms) // TERMS_PER_CUT)) + 1
    parts: list[Combined] = []
    n_bytes = 0
    for cut in (slice(*ends) for ends in pairwise([0, *bounds.tolist(), len(n_terms)])):
        budget.check_time()
        budget.check_bytes(n_bytes + int(n_terms[cut].sum()) * _BYTES_PER_TERM)
        parts.append(combine(cut))
        n_bytes += parts[-1].histograms.n_bytes
    return Combined.joined(parts)


def _change(
    spans: Spans, is_left_out: BoolArray, reset_samples: IntArray, limits: IntArray | None
) -> Combined:
    """The change in each window, with at most the resolution in `limits`.

    If the first sample is left out, an empty histogram with the bounds of the second one is its
    stand-in, as in Prometheus: the result has no bound that this one has not.
    """
    windows = spans.windows
    _, n_resets = _resets_in(spans, reset_samples)
    columns, stand_ins = _with_stand_ins(spans, is_left_out)
    is_left_out = is_left_out & (stand_ins < 0)

    def combine_cut(cut: slice) -> Combined:
        offsets, terms, signs = _terms(spans.where(cut), is_left_out[cut], reset_samples)
        numbers, cut_limits = windows.numbers[terms], None if limits is None else limits[cut]
        stands_in = stand_ins[cut] >= 0
        numbers[offsets[:-1][stands_in] + 1] = stand_ins[cut][stands_in]
        return add_and_subtract(columns, offsets, numbers, signs, cut_limits)

    return in_cuts(windows, 2 - is_left_out + n_resets + spans.rises_to_first, combine_cut)


def _with_stand_ins(spans: Spans, is_left_out: BoolArray) -> tuple[HistogramColumns, IntArray]:
    """The histograms, empty ones behind them, and which of these stands in for each first sample.

    That is -1 unless the first sample is left out, and the next has other bounds than the last one.
    """
    columns = spans.windows.columns
    bounds = spans.of_samples(columns.bounds)
    second = bounds[np.minimum(spans.first + 1, spans.last)]
    stands_in = is_left_out & (second >= 0) & (second != bounds[spans.last])
    if not stands_in.any():
        return columns, np.full(len(spans), -1, np.int64)
    empty = HistogramColumns.without_observations(columns.bound_sets)
    return HistogramColumns.joined([columns, empty]), np.where(stands_in, len(columns) + second, -1)


def offsets_of(lengths: IntArray) -> IntArray:
    """Where each of the parts of these lengths begins, and where the last one ends."""
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def ranges_of(starts: IntArray, offsets: IntArray) -> IntArray:
    """The numbers from each start on, as many as the offsets have room for, in one array."""
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], np.diff(offsets))


def _resets_in(spans: Spans, reset_samples: IntArray) -> tuple[IntArray, IntArray]:
    """The first of the resets after the second sample of each window, and how many there are."""
    begins = np.searchsorted(reset_samples, spans.first + 2)
    ends = np.searchsorted(reset_samples, spans.last, "right")
    return begins, np.maximum(ends - begins, 0)


def _terms(
    spans: Spans, is_left_out: BoolArray, reset_samples: IntArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """The samples whose sum is the change in each window: offsets, samples and signs.

    These are the last one, minus the first unless it is left out, plus those before resets, and
    plus the first again if the counter rose to it from 0 within the window.
    """
    begins, n_resets = _resets_in(spans, reset_samples)
    n_ends = 2 - is_left_out
    offsets = offsets_of(n_ends + n_resets + spans.rises_to_first)
    terms, signs = np.empty(offsets[-1], np.int64), np.ones(offsets[-1])
    terms[offsets[:-1]] = spans.last
    minus = offsets[:-1][~is_left_out] + 1
    terms[minus], signs[minus] = spans.first[~is_left_out], -1.0
    of_resets = offsets_of(n_resets)
    places = ranges_of(offsets[:-1] + n_ends, of_resets)
    terms[places] = reset_samples[ranges_of(begins, of_resets)] - 1
    terms[offsets[1:][spans.rises_to_first] - 1] = spans.first[spans.rises_to_first]
    return offsets, terms, signs


def _least_schemas(spans: Spans, lead: IntArray, all_samples: bool) -> IntArray:
    """The coarsest schema of each window: of all its samples, or of its ends."""
    schemas = spans.of_samples(spans.windows.columns.schemas)
    ends = np.minimum(schemas[lead], schemas[spans.last])
    if not all_samples or not len(spans) or schemas.min() == schemas.max():
        return np.asarray(ends)
    bounds = np.column_stack((lead, spans.last)).ravel()
    return np.minimum(ends, np.minimum.reduceat(schemas, bounds)[::2])


def _factors(
    spans: Spans, windows: MixedWindows, changed_counts: FloatArray, is_counter: bool
) -> FloatArray:
    """What extrapolates each change to the ends of its window, as for floats."""
    times, end_ms = windows.timestamps, windows.call.vector.end_ms[spans.steps]
    first_ms, last_ms = times[spans.first], times[spans.last]
    sampled = (last_ms - first_ms) / 1000
    to_start = (first_ms - (end_ms - windows.call.vector.range_ms)) / 1000
    to_end = (end_ms - last_ms) / 1000
    distance = sampled / np.maximum(spans.last - spans.first, 1)
    to_start = np.where(to_start >= distance * _SLACK, distance / 2, to_start)
    to_end = np.where(to_end >= distance * _SLACK, distance / 2, to_end)
    if is_counter:
        first_counts = windows.columns.counts[windows.numbers[spans.first]]
        with np.errstate(all="ignore"):
            to_zero = sampled * (first_counts / changed_counts)
            can_be_zero = (changed_counts > 0) & (first_counts >= 0) & (to_zero < to_start)
        to_start = np.where(can_be_zero, to_zero, to_start)
    if windows.block.starts is not None:
        starts = windows.block.starts[spans.first]
        sampled = np.where(spans.begins_inside, (last_ms - starts) / 1000, sampled)
        to_start = np.where(spans.begins_inside, 0.0, to_start)
    return np.asarray((sampled + to_start + to_end) / sampled)


def inform_of_bounds(windows: MixedWindows, combined: Combined) -> None:
    """Infos where custom bounds were reduced to those that all histograms have."""
    call = windows.call
    if combined.reconciled_subtractions.any():
        call.annotations.info(reconciled_bounds("subtraction"), call.arg_positions[0])
    if combined.reconciled_additions.any():
        call.annotations.info(reconciled_bounds("addition"), call.arg_positions[0])
