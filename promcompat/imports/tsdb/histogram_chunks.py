"""Chunks of native histograms of Prometheus: from bytes to columns."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms.columns import (
    CUSTOM_BUCKETS,
    HistogramCells,
    Histograms,
    Ragged,
    histogram_cells,
)
from promcompat.core.model import STALE_NAN_BITS, IntArray
from promcompat.imports.tsdb.histogram_chunk_kernels import N_FIXED, decode_histogram_samples

_SIZES: Final = (0, 3, 6, 9, 12, 18, 25, 56, 64)
"""How many bits follow so many ones."""
_GAUGE: Final = 3
_NO_RESET: Final = 2
_HINT_OF: Final = {3: _GAUGE}
_ZERO_THRESHOLD_EXPONENT: Final = 243
_FLOAT: Final = 255
_MOST_SPANS: Final = 1 << 16
_MOST_BUCKETS: Final = 1 << 16
_MOST_NUMBERS: Final = 1 << 24
"""Bucket counts of all samples of a chunk; chunks of Prometheus have some thousands."""


class DamagedChunkError(ValueError):
    """The bytes are no chunk of histograms."""


class _Bits:
    """Reads numbers from the bits of a chunk; raises DamagedChunkError at its end."""

    def __init__(self, content: bytes, at: int) -> None:
        self._word, self._length, self.at = int.from_bytes(content), 8 * len(content), at

    def take(self, n_bits: int) -> int:
        """The next bits, the highest one first."""
        self.at += n_bits
        if self.at > self._length:
            raise DamagedChunkError("it ends too early")
        return self._word >> (self._length - self.at) & ((1 << n_bits) - 1)

    def unsigned(self) -> int:
        """A number of a variable length."""
        return self.take(self._size())

    def signed(self) -> int:
        """A number of a variable length that may be negative."""
        n_bits = self._size()
        number = self.take(n_bits)
        if n_bits == _SIZES[-1]:
            return number - (1 << n_bits) if number >> (n_bits - 1) else number
        return number - (1 << n_bits) if n_bits and number > 1 << (n_bits - 1) else number

    def float_(self) -> float:
        """A float of 64 bits."""
        return float(np.array([self.take(64)], np.uint64).view(np.float64)[0])

    def _size(self) -> int:
        n_ones = 0
        while n_ones < len(_SIZES) - 1 and self.take(1):
            n_ones += 1
        return _SIZES[n_ones]


@dataclass(frozen=True, slots=True)
class _Layout:
    """What all samples of a chunk have in common."""

    hint: int
    zero_threshold: float
    schema: int
    positive_spans: NDArray[np.int32]
    negative_spans: NDArray[np.int32]
    bounds: NDArray[np.float64]
    first_bit: int

    @classmethod
    def read(cls, content: bytes) -> "_Layout":
        bits = _Bits(content, 16)
        hint = _HINT_OF.get(bits.take(8) >> 6, 0)
        threshold = _zero_threshold(bits)
        schema = bits.signed()
        if not -128 <= schema <= 127:
            raise DamagedChunkError(f"its schema is {schema}")
        positive, negative = _spans(bits), _spans(bits)
        bounds = np.array(_bounds(bits) if schema == CUSTOM_BUCKETS else [], np.float64)
        return cls(hint, threshold, schema, positive, negative, bounds, bits.at)

    @property
    def n_positive(self) -> int:
        """How many positive buckets each histogram has."""
        return int(self.positive_spans[:, 1].sum())

    @property
    def n_negative(self) -> int:
        """How many negative buckets each histogram has."""
        return int(self.negative_spans[:, 1].sum())


def _zero_threshold(bits: _Bits) -> float:
    code = bits.take(8)
    if code == _FLOAT:
        return bits.float_()
    return float(np.ldexp(0.5, code - _ZERO_THRESHOLD_EXPONENT)) if code else 0.0


def _spans(bits: _Bits) -> NDArray[np.int32]:
    """Offset and length of each span."""
    spans, n_buckets = [], 0
    n_spans = bits.unsigned()
    if n_spans > _MOST_SPANS:
        raise DamagedChunkError(f"it has {n_spans} spans")
    for _ in range(n_spans):
        length, offset = bits.unsigned(), bits.signed()
        n_buckets += length
        if n_buckets > _MOST_BUCKETS or not -(1 << 31) <= offset < 1 << 31:
            raise DamagedChunkError(f"it has a span of {length} buckets after {offset} others")
        spans.append((offset, length))
    return np.array(spans, np.int32).reshape(-1, 2)


def _bounds(bits: _Bits) -> list[float]:
    bounds = []
    for _ in range(bits.unsigned()):
        thousandths = bits.unsigned()
        bounds.append((thousandths - 1) / 1000 if thousandths else bits.float_())
    return bounds


def decode_histogram_chunk(content: bytes, *, is_float: bool) -> tuple[IntArray, HistogramCells]:
    """The times of the samples of a chunk, Unix ms, and the samples.

    `content` is what follows the type of the chunk: its first two bytes are the number of samples.
    A stale marker is a float. The hint of a gauge is that of the chunk; of other chunks the first
    histogram has none, and the others say that no reset came before them. Raises DamagedChunkError.
    """
    n_samples = int.from_bytes(content[:2])
    # A sample takes more than a bit: so no number of samples makes the columns too large.
    if not 0 < n_samples <= 8 * len(content):
        raise DamagedChunkError(f"it says that it has {n_samples} samples")
    layout = _Layout.read(content)
    n_numbers = N_FIXED + layout.n_positive + layout.n_negative
    if n_samples * n_numbers > _MOST_NUMBERS:
        raise DamagedChunkError(f"it has {n_samples} samples of {n_numbers - N_FIXED} buckets each")
    times, numbers = np.empty(n_samples, np.uint64), np.empty((n_samples, n_numbers), np.uint64)
    changes, windows = np.zeros(n_numbers, np.uint64), np.zeros((n_numbers, 2), np.int64)
    data = np.frombuffer(content, np.uint8)
    n_read = decode_histogram_samples(
        data, layout.first_bit, is_float, times, numbers, changes, windows
    )
    if n_read < n_samples:
        raise DamagedChunkError(f"its sample {n_read + 1} of {n_samples} ends too early")
    is_stale = numbers[:, 2] == STALE_NAN_BITS
    values = np.full(n_samples, STALE_NAN_BITS, np.uint64).view(np.float64)
    values[~is_stale] = histogram_cells(np.arange(n_samples - int(is_stale.sum())))
    hints = np.full(n_samples, layout.hint or _NO_RESET, np.uint8)
    hints[0] = layout.hint
    histograms = _histograms(layout, numbers[~is_stale].view(np.int64), hints[~is_stale], is_float)
    return times.view(np.int64), HistogramCells(values, histograms)


def _histograms(
    layout: _Layout, numbers: IntArray, hints: NDArray[np.uint8], is_float: bool
) -> Histograms:
    n, n_positive = len(numbers), layout.n_positive
    positive, negative = (
        numbers[:, N_FIXED : N_FIXED + n_positive],
        numbers[:, N_FIXED + n_positive :],
    )
    if not is_float:
        positive, negative = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
    return Histograms(
        np.full(n, layout.schema, np.int8),
        hints,
        np.full(n, is_float),
        np.full(n, layout.zero_threshold),
        numbers[:, 1].copy(),
        numbers[:, 0].copy(),
        numbers[:, 2].copy().view(np.float64),
        _repeated(layout.positive_spans, n),
        _repeated(layout.negative_spans, n),
        _flat(positive),
        _flat(negative),
        _repeated(layout.bounds, n),
    )


def _repeated(row: NDArray[np.generic], n: int) -> Ragged:  # type: ignore[type-arg]
    cells = np.concatenate([row[:0], *[row] * n])
    return Ragged(np.arange(n + 1) * len(row), cells)


def _flat(rows: IntArray) -> Ragged[np.int64]:
    n, width = rows.shape
    return Ragged(np.arange(n + 1) * width, np.ascontiguousarray(rows).ravel())
