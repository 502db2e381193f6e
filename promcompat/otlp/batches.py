"""Translated samples as a batch for the store."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from promcompat.core.exemplars import Exemplar, SeriesExemplar
from promcompat.core.histograms.columns import (
    HistogramCells,
    Histograms,
    histogram_cells,
    without_histogram_bits,
)
from promcompat.core.histograms.validation import find_faults
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import (
    STALE_NAN_BITS,
    UNKNOWN_SERIES,
    FloatArray,
    IntArray,
    Labels,
    MetricMetadata,
    WriteBatch,
)
from promcompat.core.series_table import KnownSeries
from promcompat.otlp.translation import PointExemplar, Samples
from promcompat.remote_write.exemplars import MAX_EXEMPLARS
from promcompat.remote_write.new_series import NewSeries
from promcompat.remote_write.series_key import InvalidLabelsError, decode_series_key


@dataclass(frozen=True, slots=True)
class PointBatch:
    """A batch; row i belongs to the data point `points[i]`, or (-1) to none.

    `refused` has the data points of which a series cannot be stored, with the reason.
    """

    batch: WriteBatch
    points: IntArray
    refused: dict[int, str]


def make_batch(samples: Samples, known: KnownSeries, limits: LabelLimits) -> PointBatch:
    """The rows whose series can be stored. Series that are known are not decoded."""
    new = NewSeries(limits)
    ids = known.find(samples.keys) if samples.keys else np.empty(0, np.int64)
    unknown = np.flatnonzero(ids == UNKNOWN_SERIES)
    unknown_keys = [samples.keys[row] for row in unknown.tolist()]
    is_kept = np.ones(len(ids), np.bool_)
    if unknown_keys:
        is_kept[unknown] = new.accept(unknown_keys)
    values, histograms, faults = _cells(samples)
    is_kept[list(faults)] = False
    cells = HistogramCells(values[is_kept], histograms)
    if not is_kept.all():
        cells = cells.compacted()
    points = np.array(samples.points, np.int64)
    kept_keys = [samples.keys[row] for row in unknown[is_kept[unknown]].tolist()]
    batch = WriteBatch(
        ids[is_kept],
        np.array(samples.timestamps, np.int64)[is_kept],
        cells.values,
        kept_keys,
        new.labels if not faults else {key: new.labels[key] for key in kept_keys},
        tuple(_within_limits(samples.metadata.values(), limits.max_metadata_bytes)),
        known_version=known.version,
        identities=new.identities,
        histograms=cells.histograms,
        starts=_starts(samples, points[is_kept]),
    )
    reasons = new.invalid | new.refused
    dropped = np.flatnonzero(~is_kept).tolist()
    refused = {
        samples.points[row]: reasons.get(samples.keys[row]) or faults[row] for row in dropped
    }
    return PointBatch(batch, points[is_kept], refused)


def _starts(samples: Samples, points: IntArray) -> IntArray | None:
    """Since when the series of rows count, which belong to these data points (-1: to none)."""
    return np.array([*samples.starts_ms, 0], np.int64)[points] if any(samples.starts_ms) else None


def _cells(samples: Samples) -> tuple[FloatArray, Histograms | None, dict[int, str]]:
    """The values, what those of histograms refer to, and the rows of histograms with a fault."""
    values = np.array(samples.values, np.float64)
    values.view(np.uint64)[samples.stale_rows] = STALE_NAN_BITS
    if not samples.histogram_rows:
        return values, None, {}
    histograms = samples.histograms.columns()
    values = without_histogram_bits(values)
    values[samples.histogram_rows] = histogram_cells(np.arange(len(histograms)))
    faults = find_faults(histograms)
    return (
        values,
        histograms,
        {samples.histogram_rows[number]: text for number, text in faults.items()},
    )


def _within_limits(metadata: Iterable[MetricMetadata], max_bytes: int) -> Iterable[MetricMetadata]:
    for entry in metadata:
        if max(len(entry.family.encode()), len(entry.unit.encode())) <= max_bytes:
            shortened = entry.help.encode()[:max_bytes].decode(errors="ignore")
            yield MetricMetadata(entry.family, entry.type, shortened, entry.unit)


def count_rejected(
    refused_points: dict[int, str], made: PointBatch, refused_rows: dict[int, str]
) -> Counter[str]:
    """How many data points are not stored completely, by reason; `refused_rows` of the batch."""
    reasons = dict(refused_points)
    for row, reason in refused_rows.items():
        reasons.setdefault(int(made.points[row]), reason)
    reasons.pop(-1, None)
    return Counter(reasons.values())


def decode_exemplars(exemplars: Sequence[PointExemplar]) -> list[SeriesExemplar]:
    """The exemplars of a request with the labels of their series, the oldest first."""
    decoded = []
    for found in sorted(exemplars[:MAX_EXEMPLARS], key=lambda found: found.timestamp_ms):
        try:
            series = decode_series_key(found.key)
        except InvalidLabelsError:
            continue
        exemplar = Exemplar(Labels.of(dict(found.labels)), found.value, found.timestamp_ms)
        decoded.append(SeriesExemplar(series, exemplar))
    return decoded
