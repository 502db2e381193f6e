"""Exemplars of data points."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar

from promcompat.core.errors import BadDataError
from promcompat.core.exemplars import MAX_EXEMPLAR_CHARACTERS
from promcompat.otlp.attribute_text import sorted_pairs
from promcompat.otlp.samples import PointExemplar

_NS_PER_MS: Final = 1_000_000
_LARGEST_NS: Final = (1 << 63) - 1
_REMEMBERED: Final = 256
_MAX_REMEMBERED_BOUNDS: Final = 200
"""More are not remembered, which bounds the memory of the cache."""


def parse_exemplar(wire: bytes) -> Exemplar:
    """An exemplar of a request. Raises BadDataError if it is malformed."""
    try:
        return Exemplar.FromString(wire)
    except DecodeError as exc:
        raise BadDataError("cannot decode the exemplars of the request") from exc


def point_exemplars(
    exemplars: Iterable[Exemplar], bounds: Sequence[float], keys: Sequence[bytes]
) -> Iterator[PointExemplar]:
    """The exemplars of a data point that have a value.

    Each belongs to the first bucket that its value fits in. `keys` are those of the buckets with
    these bounds, and of the one without, or of a series that has no buckets.
    """
    find = _remembered_reached if len(bounds) <= _MAX_REMEMBERED_BOUNDS else _reached
    reached = find(tuple(bounds))
    for exemplar in exemplars:
        if exemplar.WhichOneof("value") is None:
            continue
        value = float(exemplar.as_int) if exemplar.HasField("as_int") else exemplar.as_double
        bucket = len(bounds) if math.isnan(value) else bisect_left(reached, value)
        time_ms = min(exemplar.time_unix_nano, _LARGEST_NS) // _NS_PER_MS
        yield PointExemplar(keys[bucket], _labels_of(exemplar), value, time_ms)


def _reached(bounds: tuple[float, ...]) -> list[float]:
    """The largest bound up to each one, and infinity: bounds may be in any order."""
    known_bounds = np.array([*bounds, math.inf])
    reached = np.fmax.accumulate(np.where(np.isnan(known_bounds), -math.inf, known_bounds))
    return reached.tolist()  # type: ignore[no-any-return]


_remembered_reached = lru_cache(_REMEMBERED)(_reached)


def _labels_of(exemplar: Exemplar) -> list[tuple[str, str]]:
    """Trace and span, and the filtered attributes unless all together would be too long."""
    labels = []
    if any(exemplar.trace_id):
        labels.append(("trace_id", exemplar.trace_id.hex()))
    if any(exemplar.span_id):
        labels.append(("span_id", exemplar.span_id.hex()))
    attributes = sorted_pairs(exemplar.filtered_attributes)
    if sum(map(len, (text for pair in labels + attributes for text in pair))) > (
        MAX_EXEMPLAR_CHARACTERS
    ):
        return labels
    return labels + attributes
