"""Batches of samples that rules write: one time for all, and stale markers for what ended."""

from collections.abc import Collection, Mapping

import numpy as np
import orjson

from promcompat.core.model import STALE_NAN_BITS, Labels, WriteBatch


def rule_batch(
    samples: Mapping[Labels, float], stale: Collection[Labels], at_ms: int
) -> WriteBatch:
    """The samples in their order, then a stale marker for each series of `stale`, all at `at_ms`.

    `stale` must not contain series that have a sample.
    """
    series = [*samples, *stale]
    values = np.array([*samples.values(), *[0.0] * len(stale)], np.float64)
    values.view(np.uint64)[len(samples) :] = STALE_NAN_BITS
    # A key is any bytes unique to the series; the keys of senders never begin with a bracket.
    keys = [orjson.dumps(labels.pairs) for labels in series]
    return WriteBatch.of_keys(
        keys, np.full(len(series), at_ms, np.int64), values, dict(zip(keys, series, strict=True))
    )
