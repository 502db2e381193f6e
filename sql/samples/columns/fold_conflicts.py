"""Counts the samples that a fold leaves out although they differ from the one that counts."""

from collections.abc import Sequence

import numpy as np

from sql.samples.columns.equal_samples import differ
from sql.samples.columns.fold import Piece
from sql.samples.columns.histogram_pools import joined_values
from sql.samples.columns.series_samples import SeriesSamples


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
