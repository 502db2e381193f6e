"""The fold: what the stored samples say, in the order in which they arrived.

Of the samples of a series and millisecond the first to arrive counts, unless a later one replaces
it; a deletion removes what arrived before it. So the answer for a series and millisecond is the
last of the samples that replace, if there is one, and the first of the others if not. It depends
neither on how arrivals are cut into pieces nor on whether one of them is in two pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.model import BoolArray, IntArray
from promcompat.core.ports import ALL_TIME_MS
from promcompat.core.value_classes import value_class
from sql.samples.columns.equal_samples import differ
from sql.samples.columns.fold_kernels import copy_rows, find_rows, settle_rows
from sql.samples.columns.histogram_pools import HistogramPools, joined_values, raise_numbers
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples

_PARTS_AT_ONCE: Final = 8
_EARLIEST_MS: Final = -(1 << 63)
_SERIES_AT_ONCE: Final = 4_096
"""The rows written for so many series stay in the processor's cache until all parts are copied."""


@value_class(frozen=True, slots=True)
class Piece:
    """Samples whose arrivals have ids from `first_arrival` to `last_arrival`.

    They are folded already: the first of a series and millisecond, or with `replaces` the last.
    """

    samples: SeriesSamples
    first_arrival: int
    last_arrival: int
    replaces: bool


@dataclass(frozen=True, slots=True)
class Deletion:
    """Removes samples that arrived before `arrival_id`, from `first_ms` to `last_ms` inclusive.

    `series_ids` ascend; None means every series of the tenant.
    """

    arrival_id: int
    series_ids: IntArray | None
    first_ms: int
    last_ms: int


def fold(pieces: Sequence[Piece], deletions: Sequence[Deletion] = ()) -> SeriesSamples:
    """The samples that count, of pieces of one tenant in any order.

    Shares memory with a piece when it is the only one.
    """
    rest = [without_deleted(piece, deletions) for piece in in_order(pieces)]
    return first_of([piece.samples for piece in rest if len(piece.samples)])


def in_order(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces such that the first sample of a series and millisecond is the one that counts."""
    arrived = sorted(pieces, key=lambda piece: piece.last_arrival)
    others = [piece for piece in arrived if not piece.replaces]
    return [*(piece for piece in reversed(arrived) if piece.replaces), *others]


def first_of(parts: Sequence[SeriesSamples]) -> SeriesSamples:
    """The samples of all parts; of those of one series and millisecond the first."""
    if not parts:
        return NO_SAMPLES
    while len(parts) > 1:
        ids = _all_ids(parts)
        n_samples = sum(len(part) for part in parts)
        if len(parts) <= _PARTS_AT_ONCE or len(parts) * len(ids) <= 4 * n_samples:
            return gathered(parts, ids, *ALL_TIME_MS)
        # Looking up every series in every part would mostly find nothing.
        keys = _sort_keys(parts)
        if keys is not None:
            return _first_by_key(parts, keys)
        starts = range(0, len(parts), _PARTS_AT_ONCE)
        parts = [first_of(parts[start : start + _PARTS_AT_ONCE]) for start in starts]
    return parts[0]


def _sort_keys(parts: Sequence[SeriesSamples]) -> IntArray | None:
    """One number for series and time of each sample; None where 63 bits are not enough."""
    first_id = min(int(part.ids[0]) for part in parts)
    last_id = max(int(part.ids[-1]) for part in parts)
    first_ms = min(int(part.timestamps.min()) for part in parts)
    span_ms = max(int(part.timestamps.max()) for part in parts) - first_ms + 1
    if (last_id - first_id + 1) * span_ms >= 1 << 63:
        return None
    ids = np.concatenate([np.repeat(part.ids, np.diff(part.offsets)) for part in parts])
    ids -= first_id
    ids *= span_ms
    ids += np.concatenate([part.timestamps for part in parts])
    ids -= first_ms
    return ids


def _first_by_key(parts: Sequence[SeriesSamples], keys: IntArray) -> SeriesSamples:
    """The first sample of each key; the keys of a part ascend, so that sorting merges runs."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    is_first = np.append(True, keys[1:] != keys[:-1])
    order = order[is_first]
    ids = np.concatenate([np.repeat(part.ids, np.diff(part.offsets)) for part in parts])[order]
    starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    column, pools = joined_values(
        [part.values for part in parts], [part.histograms for part in parts]
    )
    values = column[order]
    return SeriesSamples(
        ids[starts],
        np.append(starts, len(ids)),
        np.concatenate([part.timestamps for part in parts])[order],
        values,
        histograms=pools.settled(values),
    )


def _all_ids(parts: Sequence[SeriesSamples]) -> IntArray:
    largest = max((part.ids for part in parts), key=len)
    others = [part.ids for part in parts if not _are_equal(part.ids, largest)]
    if not others:
        return largest
    return distinct(largest, *others)


def _are_equal(one: IntArray, other: IntArray) -> bool:
    return one is other or (len(one) == len(other) and bool((one == other).all()))


def writable(column: IntArray) -> IntArray:
    """The column as kernels take it; a copy if it is read-only or not contiguous."""
    flags = column.flags
    # `require` takes six times as long to see that there is nothing to do.
    if column.dtype == np.int64 and flags.c_contiguous and flags.writeable:
        return column
    return np.require(column, np.int64, ["C", "W"])


def gathered(
    parts: Sequence[SeriesSamples], wanted: IntArray, start_ms: int, end_ms: int
) -> SeriesSamples:
    """The samples of wanted series in `(start_ms, end_ms]`, the first of each millisecond.

    The ids of `wanted` ascend. No part may have counts (see `SampleBlock`). Of the histograms only
    those of these samples are copied.
    """
    wanted = writable(wanted)
    first, lengths = np.empty((2, len(parts), len(wanted)), np.int64)
    n_rows = 0
    for index, part in enumerate(parts):
        n_rows += rows_between(part, wanted, start_ms, end_ms, first[index], lengths[index])
    if not n_rows:
        return NO_SAMPLES
    offsets = np.zeros(len(wanted) + 1, np.int64)
    np.cumsum(lengths[0] if len(parts) == 1 else lengths.sum(axis=0), out=offsets[1:])
    timestamps, bits = np.empty((2, n_rows), np.int64)
    cursors, pools = offsets[:-1].copy(), HistogramPools()
    raised = [pools.add(part.histograms) for part in parts]
    for begin in range(0, len(wanted), _SERIES_AT_ONCE):
        some = slice(begin, begin + _SERIES_AT_ONCE)
        for part, starts, numbers, by in zip(parts, first, lengths, raised, strict=True):
            columns = part.timestamps, part.values.view(np.int64)
            copy_rows(*columns, starts[some], numbers[some], cursors[some], timestamps, bits)
            if by and part.histograms is not None:
                _raise_copied(bits, cursors[some], numbers[some], by)
    ids = wanted.copy()
    n_series = settle_rows(ids, offsets, timestamps, bits)
    n_rows = offsets[n_series]
    values = bits[:n_rows].view(np.float64)
    return SeriesSamples(
        ids[:n_series],
        offsets[: n_series + 1],
        timestamps[:n_rows],
        values,
        histograms=pools.settled(values),
    )


def _raise_copied(bits: IntArray, ends: IntArray, lengths: IntArray, by: int) -> None:
    """Raise the numbers of histograms in rows that were copied, of each series up to an end."""
    n_before = np.cumsum(lengths) - lengths
    rows = np.arange(lengths.sum()) + np.repeat(ends - lengths - n_before, lengths)
    copied = bits[rows].view(np.float64)
    raise_numbers(copied, by)
    bits[rows] = copied.view(np.int64)


def rows_between(
    part: SeriesSamples,
    wanted: IntArray,
    start_ms: int,
    end_ms: int,
    first: IntArray,
    lengths: IntArray,
) -> int:
    """See `find_rows`."""
    columns = part.ids, part.offsets, part.timestamps
    return find_rows(*columns, wanted, start_ms, end_ms, first, lengths)


def without_deleted(piece: Piece, deletions: Sequence[Deletion]) -> Piece:
    """The piece without what deletions that came after it remove."""
    samples = piece.samples
    for deletion in deletions:
        if piece.last_arrival < deletion.arrival_id:
            samples = _without(samples, deletion)
    if samples is piece.samples:
        return piece
    return Piece(samples, piece.first_arrival, piece.last_arrival, piece.replaces)


def _without(samples: SeriesSamples, deletion: Deletion) -> SeriesSamples:
    wanted = samples.ids if deletion.series_ids is None else deletion.series_ids
    wanted = writable(wanted)
    first, lengths = np.empty((2, len(wanted)), np.int64)
    start_ms = max(deletion.first_ms, _EARLIEST_MS + 1) - 1
    if not rows_between(samples, wanted, start_ms, deletion.last_ms, first, lengths):
        return samples
    return _kept(samples, ~_is_within(first[lengths > 0], lengths[lengths > 0], len(samples)))


def _is_within(first: IntArray, lengths: IntArray, n_rows: int) -> BoolArray:
    """Which rows are in one of the ranges, which do not overlap."""
    depth = np.zeros(n_rows + 1, np.int8)
    depth[first] += 1
    depth[first + lengths] -= 1
    return np.cumsum(depth[:-1], dtype=np.int8) > 0


def _kept(samples: SeriesSamples, is_kept: BoolArray) -> SeriesSamples:
    counts = np.zeros(len(samples) + 1, np.int64)
    np.cumsum(is_kept, out=counts[1:])
    offsets = counts[samples.offsets]
    has_rows = np.diff(offsets) > 0
    return SeriesSamples(
        samples.ids[has_rows],
        np.append(offsets[:-1][has_rows], offsets[-1]),
        samples.timestamps[is_kept],
        samples.values[is_kept],
        histograms=samples.histograms,
    )


def count_conflicts(pieces: Sequence[Piece], folded: SeriesSamples) -> int:
    """How many samples of pieces differ from the folded one of their series and time.

    Samples that the fold deleted are in conflict with nothing.
    """
    if sum(len(piece.samples) for piece in pieces) <= len(folded):
        return 0
    parts = [folded, *(piece.samples for piece in pieces)]
    ids = np.concatenate([np.repeat(part.ids, np.diff(part.offsets)) for part in parts])
    times = np.concatenate([part.timestamps for part in parts])
    values, pools = joined_values(
        [part.values for part in parts], [part.histograms for part in parts]
    )
    histograms = pools.settled(values)
    # lexsort is stable: of equal keys the folded sample comes first.
    order = np.lexsort((times, ids))
    ids, times, values = ids[order], times[order], values[order]
    is_first = np.ones(len(ids), np.bool_)
    is_first[1:] = (np.diff(ids) != 0) | (np.diff(times) != 0)
    heads = np.maximum.accumulate(np.where(is_first, np.arange(len(ids)), 0))
    is_known = order[heads] < len(folded)
    return int(np.count_nonzero(is_known & differ(values, values[heads], histograms)))
