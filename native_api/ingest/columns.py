"""Converts validated JSON samples to the columns of a WriteBatch.

Per sample, only a tuple is built and looked up: its content was checked, and its series key built,
when it first occurred. Values and times are converted as whole columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np

from native_api.contract.names import (
    LABEL_NAME_TEXT,
    METRIC_NAME_TEXT,
    label_name_fault,
    metric_name_fault,
)
from native_api.contract.times import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    TIME_TEXT,
    parse_time_ms,
)
from native_api.ingest.payloads import SPECIAL_VALUES, SamplePayload
from native_api.ingest.series_identities import Identity, KeyCache, identities_of, labels_of
from promcompat.core.limits.label_limits import LabelFault, LabelLimits
from promcompat.core.model import METRIC_NAME, UNKNOWN_SERIES, IntArray, Labels, WriteBatch
from promcompat.core.series_table import KnownSeries
from promcompat.core.texts.storable_text import UNICODE_TEXT, text_fault
from promcompat.core.texts.times import format_time_ms
from promcompat.remote_write.series_key import decode_series_key
from promcompat.remote_write.series_key import encode_series_key as encode_wire_labels

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class SampleFault:
    """An invalid field of a sample: what is wrong, and what is expected."""

    index: int
    field: str
    reason: str
    expected: str


class ColumnReader:
    """Reads samples of all tenants; series keys do not depend on the tenant."""

    def __init__(self) -> None:
        self._keys = KeyCache()

    def recognise(self, items: Sequence[Any]) -> list[bytes | None]:
        """The key of each item that is valid but for the range of its time; None for others."""
        return self._keys.recognise(items)

    def read(
        self,
        items: Sequence[SamplePayload],
        positions: Sequence[int],
        recognised: Sequence[bytes | None],
        now_ms: int,
        latest_ms: int | None,
        known: KnownSeries,
        limits: LabelLimits,
    ) -> tuple[WriteBatch, list[int], list[SampleFault]]:
        """The batch of the valid items, their positions, and the faults of the others.

        `positions[i]` is the position of `items[i]` in the request, `recognised[i]` the result of
        `recognise` for it. `latest_ms` is the latest time a sample may have, None for no limit.
        Labels of known series are left out of the batch.
        """
        faults: list[SampleFault] = []
        keys = self._series_keys(items, positions, recognised, limits, faults)
        ids = known.find(keys)
        labels = _new_labels(keys, positions, ids, limits, faults)
        timestamps = _timestamps(items, positions, now_ms, latest_ms, faults)
        values = _values(items)
        server_timed = np.array([item.get("timestamp") is None for item in items], np.bool_)
        kept = positions
        if faults:
            bad = {found.index for found in faults}
            rows = [row for row, position in enumerate(positions) if position not in bad]
            kept = [positions[row] for row in rows]
            keys, ids = [keys[row] for row in rows], ids[rows]
            timestamps, values = timestamps[rows], values[rows]
            server_timed = server_timed[rows]
        unknown_keys = list(compress(keys, (ids == UNKNOWN_SERIES).tolist()))
        batch = WriteBatch(
            ids,
            timestamps,
            values,
            unknown_keys,
            {key: labels[key] for key in set(unknown_keys)},
            server_timed=server_timed if server_timed.any() else None,
            known_version=known.version,
        )
        return batch, list(kept), faults

    def _series_keys(
        self,
        items: Sequence[SamplePayload],
        positions: Sequence[int],
        recognised: Sequence[bytes | None],
        limits: LabelLimits,
        faults: list[SampleFault],
    ) -> list[bytes]:
        """The series key of each item, empty for an invalid one."""
        keys = [key or b"" for key in recognised]
        unknown = [row for row, key in enumerate(recognised) if key is None]
        identities = identities_of([items[row] for row in unknown])
        for row, identity in zip(unknown, identities, strict=True):
            keys[row] = self._key_of(identity, positions[row], limits, faults)
        return keys

    def _key_of(
        self, identity: Identity, position: int, limits: LabelLimits, faults: list[SampleFault]
    ) -> bytes:
        known = self._keys.get(identity)
        if known is not None:
            return known
        name, source, *_ = identity
        labels = labels_of(identity)
        found = _identity_faults(position, name, source, labels, limits)
        if found:
            faults += found
            return b""
        key = encode_series_key(name, {**labels, "source": source or labels.get("source", "")})
        self._keys.remember(identity, key)
        return key


def _new_labels(
    keys: Sequence[bytes],
    positions: Sequence[int],
    ids: IntArray,
    limits: LabelLimits,
    faults: list[SampleFault],
) -> dict[bytes, Labels]:
    """The labels of the series that the tenant does not have, by key; "" is that of no series.

    They are within its limits, or faults: another tenant, which may have larger series, may have
    made them known. The store would refuse them, too, but store the rest of the batch.
    """
    new = set(compress(keys, (ids == UNKNOWN_SERIES).tolist())) - {b""}
    labels = {key: decode_series_key(key) for key in new}
    refused = {key: fault for key in new if (fault := limits.fault_of(labels[key]))}
    if refused:
        expected = f"at most {limits.max_names} labels, each with {limits.label_text}"
        faults += [
            SampleFault(position, "labels", refused[key], expected)
            for position, key in zip(positions, keys, strict=True)
            if key in refused
        ]
    return labels


def encode_series_key(name: str, labels: Mapping[str, str]) -> bytes:
    """The wire bytes of the sorted labels, the same as those of most remote-write senders."""
    pairs = sorted({**labels, METRIC_NAME: name}.items())
    return encode_wire_labels(pair for pair in pairs if pair[1])


def _identity_faults(
    position: int, name: str, source: str | None, labels: Mapping[str, str], limits: LabelLimits
) -> list[SampleFault]:
    n_labels = 1 + len({*labels, *(("source",) if source else ())})
    max_names = limits.max_names_of(name)
    if n_labels > max_names:
        text = f"has {n_labels} labels, counting the metric name and the source"
        fault = LabelFault.of(limits.name_of_max_names(name), text)
        return [SampleFault(position, "labels", fault, f"at most {max_names} labels")]
    found = [
        (
            "name",
            metric_name_fault(name) or limits.label_fault(METRIC_NAME, name),
            METRIC_NAME_TEXT,
        ),
        ("source", text_fault(source or ""), UNICODE_TEXT),
        ("source", source and limits.label_fault("source", source), UNICODE_TEXT),
    ]
    for label, value in labels.items():
        field = f"labels.{label[:_SHOWN_CHARACTERS]}"
        found.append((field, label_name_fault(label), LABEL_NAME_TEXT))
        found.append((field, text_fault(value), UNICODE_TEXT))
        found.append((field, limits.label_fault(label, value), limits.label_text))
    if source and labels.get("source"):
        reason = "is set both as `source` and as `labels.source`"
        found.append(("source", reason, "only one of the two"))
    return [
        SampleFault(position, field, reason, expected)
        for field, reason, expected in found
        if reason
    ]


def _values(items: Sequence[SamplePayload]) -> np.ndarray[Any, np.dtype[np.float64]]:
    raw = [item["value"] for item in items]
    if str in set(map(type, raw)):
        raw = [SPECIAL_VALUES[value] if isinstance(value, str) else value for value in raw]
    return np.array(raw, np.float64)


def _timestamps(
    items: Sequence[SamplePayload],
    positions: Sequence[int],
    now_ms: int,
    latest_ms: int | None,
    faults: list[SampleFault],
) -> IntArray:
    raw = [item.get("timestamp") for item in items]
    kinds = set(map(type, raw))
    if kinds <= {int, float}:
        seconds = np.array(raw, np.float64)
        in_range = (seconds >= MIN_TIME_MS / 1000) & (seconds <= MAX_TIME_MS / 1000)
        if in_range.all():
            times = np.rint(seconds * 1000).astype(np.int64)
            return _check_not_in_future(times, positions, latest_ms, faults)
    times = np.full(len(raw), now_ms, np.int64)
    for row, value in enumerate(raw):
        if value is None:
            continue
        try:
            times[row] = parse_time_ms(value)
        except ValueError as exc:
            faults.append(SampleFault(positions[row], "timestamp", str(exc), TIME_TEXT))
    return _check_not_in_future(times, positions, latest_ms, faults)


def _check_not_in_future(
    times: IntArray, positions: Sequence[int], latest_ms: int | None, faults: list[SampleFault]
) -> IntArray:
    if latest_ms is not None:
        late = np.flatnonzero(times > latest_ms).tolist()
        reason, expected = "is too far in the future", f"at most {format_time_ms(latest_ms)}"
        faults += [SampleFault(positions[row], "timestamp", reason, expected) for row in late]
    return times
