"""Batches of samples that rules write: one time for all, and stale markers for what ended."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import orjson

from promcompat.core.histograms.columns import HistogramCells, Histograms
from promcompat.core.model import STALE_NAN_BITS, Labels, WriteBatch


def rule_batch(
    samples: Mapping[Labels, float],
    stale: Collection[Labels],
    at_ms: int,
    histograms: Histograms | None = None,
) -> WriteBatch:
    """The samples in their order, then a stale marker for each series of `stale`, all at `at_ms`.

    `stale` must not contain series that have a sample. `histograms` are what those of `samples`
    that are no floats refer to.
    """
    series = [*samples, *stale]
    values = np.array([*samples.values(), *[0.0] * len(stale)], np.float64)
    values.view(np.uint64)[len(samples) :] = STALE_NAN_BITS
    cells = HistogramCells(values, histograms).compacted()
    # A key is any bytes unique to the series; the keys of senders never begin with a bracket.
    keys = [orjson.dumps(labels.pairs) for labels in series]
    times, labels = np.full(len(series), at_ms, np.int64), dict(zip(keys, series, strict=True))
    batch = WriteBatch.of_keys(keys, times, cells.values, labels)
    return batch if cells.histograms is None else replace(batch, histograms=cells.histograms)
