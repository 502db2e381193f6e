"""Native histograms for tests: any ones, and numbered ones that stand for values in models.

In a model of samples, the bits `HISTOGRAM_BITS | n` stand for the histogram with number `n`.
"""

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from promcompat.core.histograms.columns import (
    CUSTOM_BUCKETS,
    HISTOGRAM_BITS,
    HistogramCells,
    Histograms,
    Ragged,
    histogram_cells,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.model import FloatArray

N_NUMBERED = 16
NUMBERED_BITS = st.integers(HISTOGRAM_BITS, HISTOGRAM_BITS + N_NUMBERED - 1)
"""The bits of numbered histograms."""
_FLAT = ("schemas", "hints", "is_float", "zero_thresholds", "zero_counts", "counts", "sums")
_RAGGED = ("positive_spans", "negative_spans", "positive", "negative", "bounds")


def any_histogram(rng: np.random.Generator, steps: int = 0) -> Histograms:
    """One valid histogram: integer or float, exponential or custom, with spans of any lengths."""
    is_custom, is_float = rng.random() < 0.2, rng.random() < 0.4
    spans, counts = [], []
    for side in range(2):
        n_spans = 0 if is_custom and side else int(rng.integers(0, 4))
        lengths = rng.integers(0, 5, n_spans)
        offsets = rng.integers(0, 4, n_spans)
        if n_spans and not is_custom:
            offsets[0] = rng.choice([-(1 << 30), -3, 0, 7])
        spans.append(np.column_stack((offsets, lengths)).astype(np.int32))
        counts.append(_counts(rng, int(lengths.sum()), is_float) + steps * rng.integers(0, 2))
    n_bounds = int(sum(spans[0].sum(axis=1))) if is_custom else 0
    zero = np.zeros(1) if is_custom else _counts(rng, 1, is_float)
    count = np.array([zero.sum() + counts[0].sum() + counts[1].sum() + rng.choice([0, 0, 2])])
    return Histograms(
        np.array([CUSTOM_BUCKETS if is_custom else rng.integers(-4, 9)], np.int8),
        np.array([rng.integers(0, 4)], np.uint8),
        np.array([is_float]),
        np.array([0.0 if is_custom else rng.choice([0.0, 1e-128, 2.0**-128])]),
        _bits(zero, is_float),
        _bits(count, is_float),
        np.array([rng.choice([0.0, 0.25, rng.normal(), np.inf, -np.inf, np.nan])]),
        _one_row(spans[0]),
        _one_row(spans[1]),
        _one_row(_bits(counts[0], is_float)),
        _one_row(_bits(counts[1], is_float)),
        _one_row(np.sort(rng.normal(size=n_bounds))),
    )


def _counts(rng: np.random.Generator, n: int, is_float: bool) -> np.ndarray:
    kind = rng.integers(0, 4)
    if is_float and kind < 2:
        return rng.normal(size=n) if kind else rng.choice([0.0, -0.0, 0.5, np.inf, 3.0], n)
    if kind == 2:
        return rng.integers(0, 1 << 50, n).astype(np.float64 if is_float else np.int64)
    return rng.integers(0, 20, n).astype(np.float64 if is_float else np.int64)


def _bits(counts: np.ndarray, is_float: bool) -> np.ndarray:
    return counts.astype(np.float64).view(np.int64) if is_float else counts.astype(np.int64)


def _one_row(cells: np.ndarray) -> Ragged:
    return Ragged.of_lengths(np.array([len(cells)], np.int64), cells)


@st.composite
def histogram_pools(draw: st.DrawFn, n: int) -> Histograms:
    """So many histograms, neighbours of which often have layout and counts in common."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    changes = draw(st.sampled_from([0.0, 0.1, 1.0]))
    pool, layout_seed = [], 0
    for k in range(n):
        if rng.random() <= changes:
            layout_seed = int(rng.integers(1 << 32))
        pool.append(any_histogram(np.random.default_rng(layout_seed), k))
    histograms = Histograms.joined(pool)
    if draw(st.booleans()) and len(histograms.positive.cells):
        # Counts up to the largest unsigned integer, as bits.
        histograms.positive.cells[rng.integers(len(histograms.positive.cells))] = rng.choice(
            [-1, 1 << 62, -(1 << 63), (1 << 53) + 1]
        )
    return histograms


NUMBERED = Histograms.joined(
    [any_histogram(np.random.default_rng(n), n) for n in range(N_NUMBERED)]
)


def keys_of(histograms: Histograms) -> list[bytes]:
    """All that each histogram says, as bytes."""
    keys = []
    for row in range(len(histograms)):
        one = histograms.take(np.array([row]))
        parts = [getattr(one, name).tobytes() for name in _FLAT]
        parts += [getattr(one, name).cells.tobytes() for name in _RAGGED]
        keys.append(b"|".join(b"%d:" % len(part) + part for part in parts))
    return keys


_NUMBER_OF_KEY = {key: number for number, key in enumerate(keys_of(NUMBERED))}
assert len(_NUMBER_OF_KEY) == N_NUMBERED


def numbered(bits: np.ndarray) -> HistogramCells:
    """Bits of a model as cells; each numbered histogram is in the pool once for each cell."""
    values = np.asarray(bits).astype(np.uint64).view(np.float64).copy()
    places = np.flatnonzero(is_histogram(values))
    if not len(places):
        return HistogramCells(values, None)
    numbers = histogram_numbers(values[places])
    values[places] = histogram_cells(np.arange(len(places))[::-1])
    return HistogramCells(values, NUMBERED.take(numbers[::-1]))


def model_bits(values: FloatArray, histograms: Histograms | None) -> np.ndarray:
    """The opposite of `numbered`; fails for a histogram without a number."""
    bits = values.view(np.uint64).copy()
    if histograms is None:
        return bits
    places = np.flatnonzero(is_histogram(values))
    keys = keys_of(histograms.take(histogram_numbers(values[places])))
    bits[places] = [HISTOGRAM_BITS | _NUMBER_OF_KEY[key] for key in keys]
    return bits


def assert_same_histograms(
    one: tuple[FloatArray, Histograms | None], other: tuple[FloatArray, Histograms | None]
) -> None:
    """Cells that refer to histograms are at the same places, and refer to the same ones."""
    found, expected = HistogramCells(*one).compacted(), HistogramCells(*other).compacted()
    np.testing.assert_array_equal(found.values.view(np.int64), expected.values.view(np.int64))
    assert (found.histograms is None) == (expected.histograms is None)
    if found.histograms is None or expected.histograms is None:
        return
    assert keys_of(found.histograms) == keys_of(expected.histograms)
    for name in _RAGGED:
        column, other_column = (getattr(own.histograms, name) for own in (found, expected))
        np.testing.assert_array_equal(column.offsets, other_column.offsets)


def some_bits(floats: SearchStrategy[int]) -> SearchStrategy[int]:
    """Bits of a model: mostly floats, and numbered histograms."""
    return floats | NUMBERED_BITS
