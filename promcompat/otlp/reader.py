"""Reads export requests by the options of a process."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

import numpy as np

from promcompat.core.model import IntArray
from promcompat.otlp.deltas import DeltaTotals, RequestTotals
from promcompat.otlp.exemplars import parse_exemplar, point_exemplars
from promcompat.otlp.export_kernels import (
    LEFT_FIRST,
    LEFT_ROW,
    RESOURCE_EARLIEST,
    RESOURCE_LATEST,
    RESOURCE_REF,
)
from promcompat.otlp.export_pb2 import Request
from promcompat.otlp.known_points import FoundPoints, KnownPoints, Made, RejectedMetricError
from promcompat.otlp.point_kernels import EXEMPLAR_ROW
from promcompat.otlp.point_keys import KnownKeys
from promcompat.otlp.requests import parse_json, parse_protobuf
from promcompat.otlp.resources import OtlpOptions
from promcompat.otlp.samples import PointExemplar, PointRows, Samples
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
        self,
        message: bytes,
        totals: RequestTotals,
        *,
        is_json: bool,
        found: FoundPoints | None = None,
    ) -> Samples:
        """The samples of a request, or of a piece of it. Raises BadDataError.

        `totals` are those of the request. `found` is what `find` found if it was called.
        """
        if is_json:
            return self._translate(parse_json(message), totals)
        if (found := found or self.find(message)) is not None:
            rest = parse_protobuf(found.rest())
            # A metric that is rejected is counted below, with the whole request.
            with suppress(RejectedMetricError):
                made = self.points.make(found)
                samples = self._with_rest(made, rest, totals)
                self.points.learn(made)
                return samples
        return self._translate(parse_protobuf(message), totals)

    def _translate(self, request: Request, totals: RequestTotals) -> Samples:
        return translate(request, self.options, totals, self.known)

    def _with_rest(self, made: Made, rest: Request, totals: RequestTotals) -> Samples:
        """The samples of the points that were read, and of the metrics that were not."""
        found, samples = made.found, Samples()
        keys = made.keys_of_rows()
        samples.add_key_bytes(keys)
        # Before deltas are added up, as a malformed one refuses the whole request.
        exemplars = _exemplars(found, keys, checks_all=self.options.sums_deltas)
        spans = add_points(samples, rest, self.options, totals, self.known)
        n_rows = len(samples.keys)
        if exemplars:
            exemplars += _exemplars_of_rest(found, samples)
            samples.exemplars = [one for _, one in sorted(exemplars, key=itemgetter(0))]
        samples.metadata = made.metadata(metric.metadata for metric in samples.metrics)
        of_rest = dict(zip(found.rest_resources(), spans, strict=True))
        columns = found.resources[:, [RESOURCE_REF, RESOURCE_EARLIEST, RESOURCE_LATEST]].tolist()
        for number, (ref, earliest_ms, latest_ms) in enumerate(columns):
            span = TimeSpan(earliest_ms, latest_ms).joined(of_rest.get(number, TimeSpan()))
            add_target_info(samples, made.node(ref).target_info, span, self.options)
        places = np.full(len(samples.keys), len(keys), np.int64)
        ends = (metric.n_rows for metric in samples.metrics)
        places[:n_rows] = _of_metrics(found.left[:, LEFT_ROW], ends)
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


def _exemplars(
    found: FoundPoints, keys: list[bytes], *, checks_all: bool
) -> list[tuple[int, PointExemplar]]:
    """The exemplars of the points that were read, each with its place in the request.

    `keys` are those of the rows. Raises BadDataError if one is malformed; those of gauges count for
    nothing else, and only with `checks_all`.
    """
    read = list[tuple[int, PointExemplar]]()
    for row, lines in groupby(found.exemplars.tolist(), key=itemgetter(EXEMPLAR_ROW)):
        if row < 0 and not checks_all:
            continue
        of_point = list(lines)
        parsed = [parse_exemplar(found.message[first:end]) for _, first, end, _, _ in of_point]
        if row >= 0:
            _, place, _, first, end = of_point[0]
            bounds = np.frombuffer(found.message[first:end], "<f8").tolist()
            keys_of_point = keys[row : row + len(bounds) + 1]
            read += [(place, one) for one in point_exemplars(parsed, bounds, keys_of_point)]
    return read


def _exemplars_of_rest(found: FoundPoints, samples: Samples) -> Iterator[tuple[int, PointExemplar]]:
    """The same for those of the metrics that were not read."""
    ends = (metric.n_exemplars for metric in samples.metrics)
    places = _of_metrics(found.left[:, LEFT_FIRST], ends)
    return zip(places.tolist(), samples.exemplars, strict=True)


def _of_metrics(numbers: IntArray, ends: Iterable[int]) -> IntArray:
    """The number of a metric for all that it has; the metrics end at `ends`."""
    all_ends = np.array(list(ends), np.int64)
    return np.repeat(numbers, np.diff(all_ends, prepend=0))
