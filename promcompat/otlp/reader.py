"""Reads export requests by the options of a process."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from promcompat.core.model import IntArray
from promcompat.otlp.deltas import DeltaTotals
from promcompat.otlp.export_kernels import (
    LEFT_ROW,
    RESOURCE_EARLIEST,
    RESOURCE_LATEST,
    RESOURCE_REF,
)
from promcompat.otlp.export_pb2 import Request
from promcompat.otlp.known_points import FoundPoints, KnownPoints, Made, RejectedMetricError
from promcompat.otlp.point_keys import KnownKeys
from promcompat.otlp.requests import parse_json, parse_protobuf
from promcompat.otlp.resources import OtlpOptions
from promcompat.otlp.samples import PointRows, Samples, TranslatedMetric
from promcompat.otlp.translation import TimeSpan, add_points, add_target_info, translate


@dataclass(frozen=True, slots=True)
class OtlpReader:
    """How requests are translated, and the totals of deltas."""

    options: OtlpOptions = field(default_factory=OtlpOptions)
    totals: DeltaTotals = field(default_factory=DeltaTotals)
    known: KnownKeys = field(default_factory=KnownKeys)
    points: KnownPoints = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", KnownPoints(self.options))

    def find(self, message: bytes) -> FoundPoints | None:
        """The first part of reading a protobuf request: takes a nanosecond a byte.

        None if the request is unusual.
        """
        return self.points.find(message)

    def read(
        self, message: bytes, tenant: str, *, is_json: bool, found: FoundPoints | None = None
    ) -> Samples:
        """The samples of a request, or of a piece of it. Raises BadDataError.

        `found` is what `find` found if it was called.
        """
        if is_json:
            return self._translate(parse_json(message), tenant)
        if (found := found or self.find(message)) is not None:
            rest = parse_protobuf(found.rest())
            # A metric that is rejected is counted below, with the whole request.
            with suppress(RejectedMetricError):
                made = self.points.make(found)
                samples = self._with_rest(made, rest, tenant)
                self.points.learn(made)
                return samples
        return self._translate(parse_protobuf(message), tenant)

    def _translate(self, request: Request, tenant: str) -> Samples:
        return translate(request, self.options, self.totals, tenant, self.known)

    def _with_rest(self, made: Made, rest: Request, tenant: str) -> Samples:
        """The samples of the points that were read, and of the metrics that were not."""
        found, samples = made.found, Samples()
        keys = made.keys_of_rows()
        samples.add_key_bytes(keys)
        spans = add_points(samples, rest, self.options, self.totals, tenant, self.known)
        n_rows = len(samples.keys)
        samples.metadata = made.metadata(metric.metadata for metric in samples.metrics)
        of_rest = dict(zip(found.rest_resources(), spans, strict=True))
        columns = found.resources[:, [RESOURCE_REF, RESOURCE_EARLIEST, RESOURCE_LATEST]].tolist()
        for number, (ref, earliest_ms, latest_ms) in enumerate(columns):
            span = TimeSpan(earliest_ms, latest_ms).joined(of_rest.get(number, TimeSpan()))
            add_target_info(samples, made.node(ref).target_info, span, self.options)
        places = np.full(len(samples.keys), len(keys), np.int64)
        places[:n_rows] = _places(found.left[:, LEFT_ROW], samples.metrics)
        samples.read = PointRows(
            keys,
            found.timestamps,
            found.values,
            found.points,
            found.starts_ms,
            found.n_points,
            places,
        )
        return samples


def _places(rows: IntArray, metrics: Iterable[TranslatedMetric]) -> IntArray:
    """The row that follows each row of metrics, whose following rows are these."""
    ends = np.array([metric.n_rows for metric in metrics], np.int64)
    return np.repeat(rows, np.diff(ends, prepend=0))
