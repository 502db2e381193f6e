"""Counter reset hints that a query finds out from the samples themselves.

Prometheus' storage keeps no hint of a sender but that of gauges. It says that a counter was not
reset where a histogram continues the one before, and nothing else; all else is found out by
comparing values. Where a query needs only counts and sums (`histogram_count(sum(x))`), its reader
compares each histogram with the one before, and says what it found: so only there can the hints of
an aggregation conflict.
"""

from dataclasses import replace

import numpy as np

from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.model import BoolArray, IntArray, SampleBlock
from promql.histograms.arithmetic import were_reset
from promql.values.histogram_columns import GAUGE, NO_RESET, RESET, UNKNOWN, HistogramColumns


def without_said_resets(block: SampleBlock) -> SampleBlock:
    """The samples as Prometheus' storage returns them: of hints, only those of gauges are left."""
    histograms = block.histograms
    if histograms is None:
        return block
    hints = np.where(histograms.hints == GAUGE, GAUGE, UNKNOWN).astype(histograms.hints.dtype)
    return replace(block, histograms=replace(histograms, hints=hints))


def hints_of_neighbours(block: SampleBlock, columns: HistogramColumns) -> IntArray:
    """The hint of each histogram, int64 [n], from a comparison with the sample before it.

    `columns` are the histograms of `block`, each for one sample. Only gauges keep their hint; a
    histogram that does not follow another one has the hint UNKNOWN.
    """
    hints = np.where(columns.hints == GAUGE, GAUGE, UNKNOWN)
    chosen = is_histogram(block.values)
    follows = np.zeros(len(chosen), bool)
    follows[1:] = chosen[1:] & chosen[:-1]
    starts = block.offsets[:-1]
    follows[starts[starts < len(follows)]] = False
    places = np.flatnonzero(follows)
    number, before = (histogram_numbers(block.values[at]) for at in (places, places - 1))
    found = np.where(were_reset(columns, number, before), RESET, NO_RESET)
    hints[number] = np.where(hints[number] == GAUGE, GAUGE, found)
    return hints


def found_reset_hints(
    block: SampleBlock,
    columns: HistogramColumns,
    end_ms: IntArray,
    reach_ms: int,
    is_used: BoolArray | None = None,
) -> IntArray:
    """The hint of each histogram, int64 [n], from a comparison with the histogram before it.

    `columns` are the histograms of `block`, each for one sample. The query looks at `reach_ms`
    before each of `end_ms`, int64 [n_steps], which do not fall: a histogram that it sees first has
    only the hint of the storage. Those that are not used, bool [n], are not compared.
    """
    hints = columns.hints.copy()
    places = np.flatnonzero(is_histogram(block.values))
    series = np.searchsorted(block.offsets, places, "right")
    has_before = np.zeros(len(places), bool)
    has_before[1:] = series[1:] == series[:-1]
    if is_used is not None:
        has_before &= is_used[histogram_numbers(block.values[places])]
    after = np.flatnonzero(has_before)
    place, place_before = places[after], places[after - 1]
    number, before = (histogram_numbers(block.values[at]) for at in (place, place_before))
    is_reset = were_reset(columns, number, before)
    steps = np.minimum(np.searchsorted(end_ms, block.timestamps[place]), len(end_ms) - 1)
    was_seen = block.timestamps[place_before] > end_ms[steps] - reach_ms
    continues = ~is_reset & (place == place_before + 1) & _have_one_layout(columns, number, before)
    found = np.where(was_seen, np.where(is_reset, RESET, NO_RESET), UNKNOWN)
    found[continues] = NO_RESET
    hints[number] = np.where(columns.hints[number] == UNKNOWN, found, columns.hints[number])
    return hints


def _have_one_layout(columns: HistogramColumns, rows: IntArray, others: IntArray) -> BoolArray:
    """Whether Prometheus would put both counters into one chunk."""
    same = (columns.hints[rows] != GAUGE) & (columns.hints[others] != GAUGE)
    for column in (columns.schemas, columns.bounds, columns.zero_thresholds):
        same &= column[rows] == column[others]
    return np.asarray(same)
