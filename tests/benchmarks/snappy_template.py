"""Remote-write bodies whose samples are exchanged without compressing again.

A load generator beside the server it measures must not need the server's cores. The labels of a
request never change, so that they are compressed once. The times and values are stored uncompressed
inside the snappy stream ("literals"), where new ones are written over the old ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import snappy

from promcompat.core.model import FloatArray, IntArray
from tests.support.factories import encode_field

VALUE_BYTES = 8
TIME_BYTES = 6
"""Of a varint of Unix milliseconds between the years 1971 and 2109 (2**35 to 2**42)."""
SAMPLE_BYTES = 2 + 1 + VALUE_BYTES + 1 + TIME_BYTES
"""Of a sample as a field of its series."""
_MAX_DRAWS = 100


class TemplateError(Exception):
    """No stream was found that keeps every sample uncompressed."""


@dataclass(frozen=True, slots=True)
class SnappyTemplate:
    """The compressed request of some series with one sample each."""

    stream: np.ndarray
    """uint8[n]: the body; the bytes of the samples are replaced in each copy."""
    value_positions: np.ndarray
    """int64[n_series, 8]: where the bytes of each value are, the lowest first."""
    time_positions: np.ndarray
    """int64[n_series, 6]: the same of each time."""

    @property
    def n_series(self) -> int:
        """How many samples a body carries."""
        return len(self.value_positions)

    def body(self, times: IntArray, values: FloatArray) -> bytes:
        """The body of a sample of each series: Unix ms and values, `[n_series]` each."""
        stream = self.stream.copy()
        stream[self.time_positions] = encode_times(times)
        stream[self.value_positions] = values.view(np.uint8).reshape(-1, VALUE_BYTES)
        return stream.tobytes()


def encode_times(times: IntArray) -> np.ndarray:
    """uint8[n, 6]: the varint of each time."""
    assert times.min() >= 1 << 35
    assert times.max() < 1 << 42
    digits = times[:, None] >> (7 * np.arange(TIME_BYTES)) & 0x7F
    digits[:, :-1] |= 0x80
    return digits.astype(np.uint8)


def encode_samples(times: IntArray, values: FloatArray) -> np.ndarray:
    """uint8[n, SAMPLE_BYTES]: each sample as a field of its series."""
    encoded = np.empty((len(times), SAMPLE_BYTES), np.uint8)
    encoded[:, 0], encoded[:, 1], encoded[:, 2] = 0x12, SAMPLE_BYTES - 2, 0x09
    encoded[:, 3 : 3 + VALUE_BYTES] = values.view(np.uint8).reshape(-1, VALUE_BYTES)
    encoded[:, 3 + VALUE_BYTES] = 0x10
    encoded[:, 4 + VALUE_BYTES :] = encode_times(times)
    return encoded


def make_template(prefixes: Sequence[bytes], seed: int = 1) -> SnappyTemplate:
    """The template of series whose encoded labels are `prefixes`.

    Samples are random bytes when the stream is made, so that the compressor finds no repetition in
    them. Where it does by chance, other bytes are drawn. That takes series of 250 bytes or more: of
    shorter ones, so many are in a block of snappy that any last byte was there before. Raises
    TemplateError then.
    """
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 256, (len(prefixes), VALUE_BYTES + TIME_BYTES), dtype=np.uint8)
    message, positions = _lay_out(prefixes)
    for _ in range(_MAX_DRAWS):
        message[positions] = samples
        stream = snappy.compress(message.tobytes())
        found = _literal_positions(stream, len(message))[positions]
        is_lost = (found < 0).any(axis=1)
        if not is_lost.any():
            template = SnappyTemplate(
                np.frombuffer(stream, np.uint8), found[:, :VALUE_BYTES], found[:, VALUE_BYTES:]
            )
            if _is_exact(template, message, positions):
                return template
            is_lost[:] = True
        samples[is_lost] = rng.integers(0, 256, (is_lost.sum(), samples.shape[1]), np.uint8)
    raise TemplateError(f"no template of {len(prefixes)} series in {_MAX_DRAWS} draws")


def _lay_out(prefixes: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The uncompressed message, and where the bytes of each sample are: int64[n_series, 14]."""
    sample = b"\x09" + bytes(VALUE_BYTES) + b"\x10" + bytes(TIME_BYTES)
    series = [encode_field(1, prefix + encode_field(2, sample)) for prefix in prefixes]
    ends = np.cumsum([len(message) for message in series])
    in_value = np.arange(VALUE_BYTES) - VALUE_BYTES - 1 - TIME_BYTES
    in_time = np.arange(TIME_BYTES) - TIME_BYTES
    positions = ends[:, None] + np.concatenate([in_value, in_time])
    return np.frombuffer(b"".join(series), np.uint8).copy(), positions


def _literal_positions(stream: bytes, n_bytes: int) -> np.ndarray:
    """int64[n_bytes]: where the stream has each byte of the message; -1 for what it copies."""
    positions = np.full(n_bytes, -1, np.int64)
    at = 0
    while stream[at] & 0x80:  # The varint of the length.
        at += 1
    at += 1
    written = 0
    while at < len(stream):
        tag = stream[at]
        at += 1
        if tag & 3:
            length = 4 + (tag >> 2 & 7) if tag & 3 == 1 else (tag >> 2) + 1
            at += (0, 1, 2, 4)[tag & 3]
        else:
            n_extra = max(0, (tag >> 2) - 59)
            length = 1 + (int.from_bytes(stream[at : at + n_extra], "little") or tag >> 2)
            at += n_extra
            positions[written : written + length] = np.arange(at, at + length)
            at += length
        written += length
    assert written == n_bytes
    return positions


def _is_exact(template: SnappyTemplate, message: np.ndarray, positions: np.ndarray) -> bool:
    """Whether other samples appear exactly in their places, and nothing else changes."""
    times = np.arange(template.n_series, dtype=np.int64) + (1 << 40)
    values = np.arange(template.n_series) / 7
    expected = message.copy()
    expected[positions[:, :VALUE_BYTES]] = values.view(np.uint8).reshape(-1, VALUE_BYTES)
    expected[positions[:, VALUE_BYTES:]] = encode_times(times)
    return bool(snappy.decompress(template.body(times, values)) == expected.tobytes())
