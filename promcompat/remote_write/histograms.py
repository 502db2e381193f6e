"""From Histogram messages of remote write to columns, and what is wrong with some of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import HISTOGRAM_BITS, Histograms, Ragged
from promcompat.core.histograms.layout import reduced
from promcompat.core.histograms.validation import LAST_KNOWN_SCHEMA, LAST_SCHEMA, find_faults
from promcompat.core.model import STALE_NAN_BITS, BoolArray, IntArray
from promcompat.remote_write import histogram_kernels as wire

SpanArray = NDArray[np.int32]

_GAUGE: Final = 3
_INT8: Final = np.iinfo(np.int8)
_POSITIVE_COUNTS, _POSITIVE_DELTAS, _POSITIVE_SPANS = 13, 12, 11
_NEGATIVE_COUNTS, _NEGATIVE_DELTAS, _NEGATIVE_SPANS = 10, 9, 8
_CUSTOM_VALUES: Final = 16
"""The numbers of fields whose elements are counted."""


class HistogramRows(NamedTuple):
    """The columns of rows that are histograms, as in `HistogramSamples`."""

    timestamps: IntArray
    bits: NDArray[np.uint64]
    starts: IntArray


@dataclass(frozen=True, slots=True)
class HistogramSamples:
    """Histograms of a request in its order, as samples.

    `bits` uint64 are the bits of their cells: they refer to `histograms`, but for stale markers,
    which are the float one, and those with a fault. `faults` has a text for the rows that are not
    valid. `starts` are start timestamps, 0 without one.
    """

    timestamps: IntArray
    bits: NDArray[np.uint64]
    histograms: Histograms
    faults: dict[int, str]
    starts: IntArray

    def part(self, chosen: slice) -> "HistogramRows":
        """What rows have of some of them."""
        return HistogramRows(self.timestamps[chosen], self.bits[chosen], self.starts[chosen])


def decode_histograms(messages: Sequence[bytes]) -> HistogramSamples:
    """Decode Histogram messages. Raises BadDataError for the first malformed one."""
    ends = np.cumsum([len(message) for message in messages])
    bounds = np.column_stack((np.append(0, ends[:-1]), ends))
    return decode_parts(b"".join(messages), bounds)


def decode_parts(message: bytes, bounds: IntArray) -> HistogramSamples:
    """Decode the Histogram messages that begin and end there, int64 [n, 2], in a longer one.

    Raises BadDataError for the first malformed one.
    """
    found, fields = read_columns(message, bounds)
    is_stale = fields[:, wire.SUM] == STALE_NAN_BITS
    schemas = fields[:, wire.SCHEMA]
    shifts = np.where((schemas > LAST_SCHEMA) & (schemas <= LAST_KNOWN_SCHEMA), schemas - 8, 0)
    # Finer schemas are valid before they are reduced, too.
    faults = find_faults(found, schemas - shifts)
    faults = {row: text for row, text in faults.items() if not is_stale[row]}
    is_kept = ~is_stale
    is_kept[list(faults)] = False
    kept = found if is_kept.all() else found.take(is_kept)
    kept = reduced(kept, shifts[is_kept])
    bits = np.full(len(found), STALE_NAN_BITS, np.uint64)
    bits[is_kept] = np.arange(len(kept), dtype=np.uint64) | np.uint64(HISTOGRAM_BITS)
    times, starts = fields[:, wire.TIMESTAMP].copy(), fields[:, wire.START_TIMESTAMP].copy()
    return HistogramSamples(times, bits, kept, faults, starts)


def read_columns(message: bytes, bounds: IntArray) -> tuple[Histograms, IntArray]:
    """Histograms as they are on the wire, and the fields of `histogram_kernels`.

    `bounds` as for `decode_parts`. Raises BadDataError if one is malformed.
    """
    view, n = np.frombuffer(message, np.uint8), len(bounds)
    sizes, fields = np.zeros((n, wire.N_SIZES), np.int64), np.zeros((n, wire.N_FIELDS), np.int64)
    if wire.count_histogram_fields(view, bounds, sizes) < n:
        raise _malformed()
    is_float = sizes[:, 0] != 0
    lengths = np.stack(
        (
            sizes[:, _POSITIVE_SPANS],
            sizes[:, _NEGATIVE_SPANS],
            np.where(is_float, sizes[:, _POSITIVE_COUNTS], sizes[:, _POSITIVE_DELTAS]),
            np.where(is_float, sizes[:, _NEGATIVE_COUNTS], sizes[:, _NEGATIVE_DELTAS]),
            sizes[:, _CUSTOM_VALUES],
        )
    )
    # The parts are in two arrays, one after the other: spans, and words.
    ends_of_spans, ends_of_words = np.cumsum(lengths[:2]), np.cumsum(lengths[2:])
    starts = np.concatenate((ends_of_spans, ends_of_words)).reshape(5, n) - lengths
    spans = np.empty((int(ends_of_spans[-1]), 2), np.int32)
    words = np.empty(int(ends_of_words[-1]), np.int64)
    places = np.empty(wire.N_PARTS, np.int64)
    starts_of_rows = np.ascontiguousarray(starts.T)
    columns = spans, words, fields
    if wire.read_histograms(view, bounds, is_float, starts_of_rows, *columns, places) < n:
        raise _malformed()
    return _columns(fields, is_float, lengths, spans, words), fields


def _columns(
    fields: IntArray, is_float: BoolArray, lengths: IntArray, spans: SpanArray, words: IntArray
) -> Histograms:
    n_positive_spans, n_negative_spans, n_positive, n_negative, n_bounds = lengths
    positive, negative, bounds = np.split(
        words, [n_positive.sum(), n_positive.sum() + n_negative.sum()]
    )
    positive_spans, negative_spans = np.split(spans, [n_positive_spans.sum()])
    hints = fields[:, wire.HINT]
    return Histograms(
        np.clip(fields[:, wire.SCHEMA], _INT8.min, _INT8.max).astype(np.int8),
        np.where((hints > 0) & (hints <= _GAUGE), hints, 0).astype(np.uint8),
        is_float,
        fields[:, wire.ZERO_THRESHOLD].copy().view(np.float64),
        fields[:, wire.ZERO_COUNT].copy(),
        fields[:, wire.COUNT].copy(),
        fields[:, wire.SUM].copy().view(np.float64),
        Ragged.of_lengths(n_positive_spans, positive_spans),
        Ragged.of_lengths(n_negative_spans, negative_spans),
        Ragged.of_lengths(n_positive, positive),
        Ragged.of_lengths(n_negative, negative),
        Ragged.of_lengths(n_bounds, bounds.view(np.float64)),
    )


def _malformed() -> BadDataError:
    return BadDataError("proto: cannot decode prometheus.Histogram")
