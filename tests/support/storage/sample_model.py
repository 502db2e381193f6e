"""Samples as a dictionary, and what a fold of pieces is, one sample after the other."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from sql.samples.columns.fold import Deletion, Piece
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples
from tests.support.numbered_histograms import NUMBERED_BITS, model_bits, numbered

Rows = dict[tuple[int, int], int]
"""The bits of values by series id and Unix ms; histograms: `tests.support.numbered_histograms`."""

BITS = st.one_of(
    st.integers(0, 3),
    st.sampled_from([0x7FF0000000000002, 0x7FF8000000000001, 1 << 63, (1 << 64) - 1]),
    NUMBERED_BITS,
)
SERIES = st.integers(1, 5)
TIMES = st.integers(-3, 12)


def samples_of(rows: Rows) -> SeriesSamples:
    """The samples of a dictionary from (series, ms) to bits."""
    keys = sorted(rows)
    if not keys:
        return NO_SAMPLES
    series = np.array([key[0] for key in keys], np.int64)
    ids, starts = np.unique(series, return_index=True)
    cells = numbered(np.array([rows[key] for key in keys], np.uint64))
    return SeriesSamples(
        ids,
        np.append(starts, len(keys)).astype(np.int64),
        np.array([key[1] for key in keys], np.int64),
        cells.values,
        histograms=cells.histograms,
    )


def rows_of(samples: SeriesSamples) -> Rows:
    """The opposite of `samples_of`; fails unless the samples are well-formed."""
    assert np.all(np.diff(samples.ids) > 0)
    assert np.all(np.diff(samples.offsets) > 0)
    series = np.repeat(samples.ids, np.diff(samples.offsets)).tolist()
    keys = list(zip(series, samples.timestamps.tolist(), strict=True))
    assert keys == sorted(set(keys))
    bits = model_bits(samples.values, samples.histograms)
    return dict(zip(keys, bits.tolist(), strict=True))


def is_deleted(piece: Piece, series: int, time_ms: int, deletions: Sequence[Deletion]) -> bool:
    """Whether a deletion removes a sample of a piece."""
    return any(
        piece.last_arrival < deletion.arrival_id
        and (deletion.series_ids is None or series in deletion.series_ids)
        and deletion.first_ms <= time_ms <= deletion.last_ms
        for deletion in deletions
    )


def folded(pieces: Sequence[Piece], deletions: Sequence[Deletion]) -> Rows:
    """What `fold` promises, one sample after the other."""
    answer: Rows = {}
    for piece in sorted(pieces, key=lambda piece: piece.last_arrival):
        for (series, time_ms), bits in rows_of(piece.samples).items():
            if is_deleted(piece, series, time_ms, deletions):
                continue
            if piece.replaces or (series, time_ms) not in answer:
                answer[series, time_ms] = bits
    return answer
