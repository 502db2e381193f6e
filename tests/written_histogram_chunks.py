"""Writes chunks of native histograms as Prometheus does, bit by bit."""

from collections.abc import Sequence

import numpy as np

from promcompat.core.histograms import CUSTOM_BUCKETS, Histograms
from promcompat.core.model import STALE_NAN_BITS

_SIGNED_SIZES = (0, 3, 6, 9, 12, 18, 25, 56)
_WORD = 1 << 64


class _Bits:
    def __init__(self) -> None:
        self.text = ""

    def put(self, number: int, n_bits: int) -> None:
        if n_bits:
            self.text += format(number % (1 << n_bits), f"0{n_bits}b")

    def signed(self, number: int) -> None:
        number = (number + _WORD // 2) % _WORD - _WORD // 2
        for n_ones, size in enumerate(_SIGNED_SIZES):
            if number == 0 or (size and -(1 << size - 1) < number <= 1 << size - 1):
                return self._sized(number, n_ones, size)
        return self._sized(number, 8, 64)

    def unsigned(self, number: int) -> None:
        for n_ones, size in enumerate(_SIGNED_SIZES):
            if number < 1 << size:
                return self._sized(number, n_ones, size)
        return self._sized(number, 8, 64)

    def _sized(self, number: int, n_ones: int, size: int) -> None:
        self.text += "1" * n_ones + ("" if n_ones == 8 else "0")
        self.put(number, size)

    def changed(self, bits: int, before: int, window: list[int]) -> None:
        """The bits of a float that differ from the float before; `window` is leading, trailing."""
        changed = bits ^ before
        if not changed:
            return self.put(0, 1)
        leading = min(64 - changed.bit_length(), 31)
        trailing = (changed & -changed).bit_length() - 1
        if window and window[0] <= leading and window[1] <= trailing:
            self.put(0b10, 2)
        else:
            window[:] = leading, trailing
            self.put(0b11, 2)
            self.put(leading, 5)
            self.put(64 - leading - trailing, 6)
        return self.put(changed >> window[1], 64 - window[0] - window[1])


def histogram_chunk(
    times: Sequence[int], histograms: Histograms, *, stale: Sequence[int] = (), flags: int = 0
) -> bytes:
    """A chunk, without its type, of histograms that have the layout of the first one.

    The samples at the places `stale` are stale markers, the first one excepted.
    """
    bits = _Bits()
    bits.put(len(times), 16)
    bits.put(flags << 6, 8)
    _put_layout(bits, histograms)
    is_float = bool(histograms.is_float[0])
    rows = [_numbers(histograms, row) for row in range(len(times))]
    windows: list[list[int]] = [[] for _ in rows[0]]
    before, changes, time_change = list(rows[0]), [0] * len(rows[0]), 0
    bits.signed(times[0])
    for place, number in enumerate(before):
        if is_float or place == 2:
            bits.put(number, 64)
        elif place < 2:
            bits.unsigned(number)
        else:
            bits.signed(number)
    for row in range(1, len(times)):
        change = times[row] - times[row - 1]
        bits.signed(change - time_change)
        time_change = change
        numbers = list(rows[row])
        if row in stale:
            # Its counts are those that repeat the last changes.
            numbers = [one + by for one, by in zip(before, changes, strict=True)]
            numbers[:2] = before[:2] if is_float else numbers[:2]
            numbers[2:] = [STALE_NAN_BITS, *before[3:]]
        for place, number in enumerate(numbers[: 3 if row in stale else None]):
            if is_float or place == 2:
                bits.changed(number, before[place], windows[place])
            else:
                step = number - before[place]
                bits.signed(step - changes[place])
                changes[place] = step
        before = numbers
    text = bits.text + "0" * (-len(bits.text) % 8)
    return int(text, 2).to_bytes(len(text) // 8)


def _numbers(histograms: Histograms, row: int) -> list[int]:
    """Count, zero count, sum and buckets, floats as their bits, as a chunk has them."""
    own = histograms.take(np.array([row]))
    sides = []
    for buckets in (own.positive.cells, own.negative.cells):
        is_float = own.is_float[0]
        sides += buckets.tolist() if is_float else np.diff(buckets, prepend=0).tolist()
    sum_bits = int(own.sums.view(np.int64)[0])
    fixed = [int(own.counts[0]), int(own.zero_counts[0]), sum_bits]
    return [number % _WORD for number in (*fixed, *sides)]


def _put_layout(bits: _Bits, histograms: Histograms) -> None:
    own = histograms.take(np.array([0]))
    threshold = float(own.zero_thresholds[0])
    fraction, exponent = np.frexp(threshold)
    if threshold == 0:
        bits.put(0, 8)
    elif fraction == 0.5 and -242 <= exponent <= 11:
        bits.put(int(exponent) + 243, 8)
    else:
        bits.put(255, 8)
        bits.put(int(own.zero_thresholds.view(np.int64)[0]), 64)
    bits.signed(int(own.schemas[0]))
    for spans in (own.positive_spans, own.negative_spans):
        bits.unsigned(len(spans.cells))
        for offset, length in spans.cells.tolist():
            bits.unsigned(length)
            bits.signed(offset)
    if own.schemas[0] == CUSTOM_BUCKETS:
        bits.unsigned(len(own.bounds.cells))
        for bound in own.bounds.cells.tolist():
            if 0 <= bound * 1000 <= 33_554_430 and round(bound * 1000) / 1000 == bound:
                bits.unsigned(round(bound * 1000) + 1)
            else:
                bits.put(0, 1)
                bits.put(int(np.float64(bound).view(np.int64)), 64)
