"""Reads the histogram chunks of Prometheus, bit by bit and without our encoder."""

import struct
from dataclasses import dataclass
from typing import Any

from tests.wire_histograms import WireHistogram
from tests.xor_chunks import Bits

_WIDTHS = (0, 3, 6, 9, 12, 18, 25, 56, 64)
_HINTS = {0b00: 0, 0b10: 1, 0b01: 2, 0b11: 3}


class _Varbits(Bits):
    """The numbers of variable length in a chunk."""

    def unsigned(self) -> int:
        return self._number()[1]

    def signed(self) -> int:
        n_bits, raw = self._number()
        if not n_bits:
            return 0
        limit = 1 << n_bits - 1
        is_negative = raw >= limit if n_bits == 64 else raw > limit
        return raw - (1 << n_bits) if is_negative else raw

    def _number(self) -> tuple[int, int]:
        """The width and the bits of a number."""
        n_ones = 0
        while n_ones < 8 and self.read(1):
            n_ones += 1
        return _WIDTHS[n_ones], self.read(_WIDTHS[n_ones]) if n_ones else 0

    def bound(self) -> float:
        short = self.unsigned()
        return (short - 1) / 1000 if short else _double(self.read(64))

    def threshold(self) -> float:
        short = self.read(8)
        if short == 255:
            return _double(self.read(64))
        return 0.5 * 2.0 ** (short - 243) if short else 0.0

    def spans(self) -> tuple[tuple[int, int], ...]:
        found = []
        for _ in range(self.unsigned()):
            length = self.unsigned()
            found.append((self.signed(), length))
        return tuple(found)


@dataclass
class _Xor:
    """A float that is written as the XOR with the one before it."""

    bits: int = 0
    leading: int = 0
    n_bits: int = 0

    def next(self, chunk: _Varbits, *, is_first: bool) -> int:
        if is_first:
            self.bits = chunk.read(64)
        elif chunk.read(1):
            if chunk.read(1):
                self.leading, self.n_bits = chunk.read(5), chunk.read(6) or 64
            self.bits ^= chunk.read(self.n_bits) << (64 - self.leading - self.n_bits)
        return self.bits


@dataclass
class _Change:
    """An integer that is written as the change of its difference."""

    value: int = 0
    difference: int = 0

    def next(self, number: int, *, is_first: bool) -> int:
        if is_first:
            self.value = number
        else:
            self.difference += number
            self.value += self.difference
        return self.value


def read_histogram_chunk(data: bytes, kind: int) -> list[WireHistogram]:
    """The histograms of a chunk of type 2 or 3; the hint of all but the first one is 2 or gauge."""
    chunk = _Varbits(data)
    n_rows, hint = chunk.read(16), _HINTS[chunk.read(2)]
    assert chunk.read(6) == 0
    layout: dict[str, Any] = {"zero_threshold": chunk.threshold(), "schema": chunk.signed()}
    layout["positive_spans"], layout["negative_spans"] = chunk.spans(), chunk.spans()
    if layout["schema"] == -53:
        layout["custom_values"] = tuple(chunk.bound() for _ in range(chunk.unsigned()))
    sizes = [sum(n for _, n in layout[f"{side}_spans"]) for side in ("positive", "negative")]
    read = _read_floats if kind == 3 else _read_integers
    found = read(chunk, n_rows, sizes, layout)
    assert len(data) == -(-chunk.at // 8)
    followers = 3 if hint == 3 else 2
    return [h.but(hint=hint if row == 0 else followers) for row, h in enumerate(found)]


def _read_floats(
    chunk: _Varbits, n_rows: int, sizes: list[int], layout: dict[str, Any]
) -> list[WireHistogram]:
    time, floats = _Change(), [_Xor() for _ in range(3 + sum(sizes))]
    found = []
    for row in range(n_rows):
        at = time.next(chunk.signed(), is_first=row == 0)
        bits = [one.next(chunk, is_first=row == 0) for one in floats]
        count, zero_count = _double(bits[0]), _double(bits[1])
        buckets = [_double(one) for one in bits[3:]]
        found.append(
            WireHistogram(
                timestamp_ms=at,
                count=count,
                zero_count=zero_count,
                sum=bits[2],
                positive=tuple(buckets[: sizes[0]]),
                negative=tuple(buckets[sizes[0] :]),
                is_float=True,
                **layout,
            )
        )
    return found


def _read_integers(
    chunk: _Varbits, n_rows: int, sizes: list[int], layout: dict[str, Any]
) -> list[WireHistogram]:
    time, count, zero, total = _Change(), _Change(), _Change(), _Xor()
    deltas = [_Change() for _ in range(sum(sizes))]
    found = []
    for row in range(n_rows):
        is_first = row == 0
        at = time.next(chunk.signed(), is_first=is_first)
        counts = [
            one.next(chunk.unsigned() if is_first else chunk.signed(), is_first=is_first)
            for one in (count, zero)
        ]
        bits = total.next(chunk, is_first=is_first)
        steps = [one.next(chunk.signed(), is_first=is_first) for one in deltas]
        found.append(
            WireHistogram(
                timestamp_ms=at,
                count=counts[0],
                zero_count=counts[1],
                sum=bits,
                positive=_running(steps[: sizes[0]]),
                negative=_running(steps[sizes[0] :]),
                **layout,
            )
        )
    return found


def _running(steps: list[int]) -> tuple[int, ...]:
    sums, total = [], 0
    for step in steps:
        total += step
        sums.append(total)
    return tuple(sums)


def _double(bits: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return value
