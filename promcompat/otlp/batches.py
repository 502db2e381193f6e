"""Translated samples as a batch for the store."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

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
from promcompat.otlp.samples import PointExemplar, PointRows, Samples
from promcompat.remote_write.exemplars import MAX_EXEMPLARS
from promcompat.remote_write.new_series import NewSeries
from promcompat.remote_write.series_key import InvalidLabelsError, decode_series_key

_NO_IDS: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class PointBatch:
    """A batch; row i belongs to the data point `points[i]`, or (-1) to none.

    `refused` has the data points of which a series cannot be stored, with the reason.
    """

    batch: WriteBatch
    points: IntArray
    refused: dict[int, str]


class KnownRows(NamedTuple):
    """All rows of samples as columns; `ids` are those of `KnownSeries.find`.

    `faults` has the rows of histograms that are not valid.
    """

    keys: list[bytes]
    ids: IntArray
    timestamps: IntArray
    values: FloatArray
    points: IntArray
    starts_ms: IntArray
    histograms: Histograms | None
    faults: dict[int, str]

    @property
    def n_unknown(self) -> int:
        """How many rows are of series that are not known."""
        return int(np.count_nonzero(self.ids == UNKNOWN_SERIES))


def find_series(samples: Samples, known: KnownSeries) -> KnownRows:
    """The first part of making a batch; series that are known are not decoded."""
    rows = _rows_of(samples)
    ids = known.find(rows.keys) if rows.keys else rows.ids
    return rows._replace(ids=ids)


def make_batch(
    samples: Samples, known: KnownSeries, limits: LabelLimits, rows: KnownRows | None = None
) -> PointBatch:
    """The rows whose series can be stored; `rows` is what `find_series` found if it was called."""
    rows = rows or find_series(samples, known)
    new = NewSeries(limits)
    unknown = np.flatnonzero(rows.ids == UNKNOWN_SERIES)
    unknown_keys = [rows.keys[row] for row in unknown.tolist()]
    is_kept = np.ones(len(rows.ids), np.bool_)
    if unknown_keys:
        is_kept[unknown] = new.accept(unknown_keys)
    is_kept[list(rows.faults)] = False
    cells = HistogramCells(rows.values[is_kept], rows.histograms)
    if not is_kept.all():
        cells = cells.compacted()
    kept_keys = [rows.keys[row] for row in unknown[is_kept[unknown]].tolist()]
    batch = WriteBatch(
        rows.ids[is_kept],
        rows.timestamps[is_kept],
        cells.values,
        kept_keys,
        new.labels if not rows.faults else {key: new.labels[key] for key in kept_keys},
        tuple(_within_limits(samples.metadata.values(), limits.max_metadata_bytes)),
        known_version=known.version,
        identities=new.identities,
        histograms=cells.histograms,
        starts=rows.starts_ms[is_kept] if rows.starts_ms.any() else None,
    )
    reasons = new.invalid | new.refused
    dropped = np.flatnonzero(~is_kept).tolist()
    refused = {
        int(rows.points[row]): reasons.get(rows.keys[row]) or rows.faults[row] for row in dropped
    }
    return PointBatch(batch, rows.points[is_kept], refused)


def _rows_of(samples: Samples) -> KnownRows:
    """The rows that a kernel read with the others between them, in the order of the request."""
    values, histograms, faults = _cells(samples)
    points = np.array(samples.points, np.int64)
    starts_ms = np.array([*samples.starts_ms, 0], np.int64)[points]
    timestamps = np.array(samples.timestamps, np.int64)
    rows = KnownRows(
        samples.keys, _NO_IDS, timestamps, values, points, starts_ms, histograms, faults
    )
    return rows if samples.read is None else _inserted(rows, samples.read)


def _inserted(rows: KnownRows, read: PointRows) -> KnownRows:
    places, keys, first = read.places, list[bytes](), 0
    for key, place in zip(rows.keys, places.tolist(), strict=True):
        keys += read.keys[first:place]
        keys.append(key)
        first = place
    keys += read.keys[first:]
    values = read.values if rows.histograms is None else without_histogram_bits(read.values)
    points = np.where(rows.points < 0, rows.points, rows.points + read.n_points)
    return KnownRows(
        keys,
        _NO_IDS,
        np.insert(read.timestamps, places, rows.timestamps),
        np.insert(values, places, rows.values),
        np.insert(read.points, places, points),
        np.insert(read.starts_ms, places, rows.starts_ms),
        rows.histograms,
        {int(places[row]) + row: text for row, text in rows.faults.items()},
    )


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
