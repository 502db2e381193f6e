"""From JSON samples to columns: the key of a series is what a sender of remote write has."""

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from native_api.ingest.columns import ColumnReader, encode_series_key
from native_api.ingest.payloads import SamplePayload
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import METRIC_NAME, Labels, WriteBatch
from promcompat.core.series_table import KnownSeries
from promcompat.remote_write.series_key import decode_series_key
from tests.support.factories import encode_labels
from tests.support.known_series import NOTHING_KNOWN, known_series

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
_NAMES = _TEXT.filter(lambda text: text not in ("", METRIC_NAME))


@given(_NAMES, st.dictionaries(_NAMES, _TEXT, max_size=4))
def test_keys_are_the_wire_bytes_of_sorted_labels(name: str, labels: dict[str, str]) -> None:
    expected = Labels.of({**labels, METRIC_NAME: name})
    key = encode_series_key(name, labels)
    assert key == encode_labels(expected)
    assert decode_series_key(key) == expected


def test_rows_keep_their_place_and_known_series_are_not_decoded() -> None:
    reader = ColumnReader()
    items = [
        {"name": "m", "value": 1, "labels": {"b": "2", "a": "1"}, "timestamp": 1},
        {"name": "", "value": 2},
        {"name": "m", "value": "NaN", "labels": {"a": "1", "b": "2"}, "timestamp": "bad"},
        {"name": "m", "value": "-Inf", "labels": {"a": "1", "b": "2", "c": ""}},
    ]
    batch, kept, faults = reader.read(
        items,  # type: ignore[arg-type]
        [5, 6, 7, 8],
        [None] * 4,
        9_000,
        None,
        NOTHING_KNOWN,
        LabelLimits(),
    )
    assert kept == [5, 8]
    assert [(fault.index, fault.field) for fault in faults] == [(6, "name"), (7, "timestamp")]
    assert batch.unknown_keys[0] == batch.unknown_keys[1]
    assert batch.timestamps.tolist() == [1000, 9000]
    assert batch.values.tolist() == [1.0, -np.inf]
    assert list(batch.labels.values()) == [Labels.of({METRIC_NAME: "m", "a": "1", "b": "2"})]
    recognised = reader.recognise(items[:1])
    again, _, _ = reader.read(
        items[:1], [0], recognised, 0, None, known_series(batch.unknown_keys), LabelLimits()
    )  # type: ignore[arg-type]
    assert (again.series_ids.tolist(), again.unknown_keys, again.labels) == ([100], [], {})


def test_series_that_another_tenant_made_known_are_within_the_limits_of_this_one() -> None:
    reader = ColumnReader()
    items = [
        {"name": "m", "value": 1, "labels": {"a": "x" * length, "b": "1"}} for length in (5, 50, 5)
    ]

    def read(limits: LabelLimits, known: KnownSeries = NOTHING_KNOWN) -> tuple[WriteBatch, Any]:
        keys = reader.recognise(items)
        batch, kept, faults = reader.read(items, [0, 1, 2], keys, 0, None, known, limits)  # type: ignore[arg-type]
        assert len(batch) == len(kept) == len(batch.series_ids)
        return batch, [(kept, fault.index, fault.field, fault.reason.limit) for fault in faults]  # type: ignore[attr-defined]

    batch, faults = read(LabelLimits())
    assert not faults
    narrow, few = LabelLimits(max_value_bytes=10), LabelLimits(max_names=2)
    assert read(narrow)[1] == [([0, 2], 1, "labels", "max_label_value_length")]
    assert [index for _, index, *_ in read(few)[1]] == [0, 1, 2]
    assert read(narrow, known_series(batch.unknown_keys))[1] == []


def test_times_beyond_the_latest_are_faults_by_their_index() -> None:
    items = [{"name": "m", "value": 1, "timestamp": second} for second in (1, 5, 2.5)]
    _, kept, faults = ColumnReader().read(
        items, [0, 1, 2], [None] * 3, 0, 2_500, NOTHING_KNOWN, LabelLimits()
    )  # type: ignore[arg-type]
    assert (kept, [fault.index for fault in faults]) == ([0, 2], [1])


_TEXTS = st.sampled_from(["", "a", "b", "1"])
_ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 1, 1.0, [], {}, ["a"], {"a": 1}, {"a": []}, "a", float("nan")]
)
_LABELS = st.dictionaries(_TEXTS, _TEXTS | _ODD, max_size=3)
_ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "name": _TEXTS | _ODD,
        "value": st.floats() | st.integers(0, 3) | _ODD,
        "labels": _LABELS | _ODD,
        "source": _TEXTS | _ODD,
        "timestamp": st.integers(0, 3) | _ODD,
        "other": _ODD,
    },
)
_ALL_SERIES = [
    {"name": name, "value": 1, "source": source, "labels": dict(pairs)}
    for name in ("a", "b", "1")
    for source in (None, "", "a")
    for n_labels in range(3)
    for names in permutations(("a", "b", "1"), n_labels)
    for values in product(("", "a", "b", "1"), repeat=n_labels)
    for pairs in (zip(names, values, strict=True),)
]
_WARM = ColumnReader()
_WARM.read(
    _ALL_SERIES,
    range(len(_ALL_SERIES)),
    [None] * len(_ALL_SERIES),
    0,
    None,
    NOTHING_KNOWN,
    LabelLimits(),
)  # type: ignore[arg-type]


@given(st.lists(_ITEMS | _ODD, min_size=1, max_size=2))
def test_what_is_recognised_would_be_valid_and_has_the_same_series(items: list[Any]) -> None:
    recognised = _WARM.recognise(items)
    for item, key in zip(items, recognised, strict=True):
        if key is not None:
            TypeAdapter(SamplePayload).validate_python(item)
            batch, _, faults = ColumnReader().read(
                [item], [0], [None], 0, None, NOTHING_KNOWN, LabelLimits()
            )
            assert (batch.unknown_keys, faults) == ([key], [])


@pytest.mark.parametrize("item", _ALL_SERIES[:20])
def test_a_series_met_before_is_recognised(item: Any) -> None:
    again = {**item, "value": 2.5, "timestamp": "2026-11-24T05:00:00Z"}
    assert _WARM.recognise([again, item]) == 2 * [encode_series_key(item["name"], _labels_of(item))]
    assert _WARM.recognise([again, {**item, "value": "2"}]) == [None, None]


def _labels_of(item: Any) -> dict[str, str]:
    return {**item["labels"], "source": item["source"] or ""}


def test_labels_beyond_the_limits_are_faults_of_their_sample_alone() -> None:
    limits = LabelLimits(max_names=4, max_name_bytes=8, max_value_bytes=6)
    labels = [
        {"a": "123456", "b": "1"},
        {"a": "1234567"},
        {"abcdefghi": "1"},
        {str(number): "1" for number in range(4)},
    ]
    items = [{"name": "m", "value": 1, "timestamp": 1, "labels": given} for given in labels]
    items += [{"name": "m" * 7, "value": 1, "timestamp": 1}]
    _, kept, faults = ColumnReader().read(
        items, range(5), [None] * 5, 9, None, NOTHING_KNOWN, limits
    )  # type: ignore[arg-type]
    assert kept == [0]
    assert [(fault.index, fault.field) for fault in faults] == [
        (1, "labels.a"),
        (2, "labels.abcdefghi"),
        (3, "labels"),
        (4, "name"),
    ]
    assert faults[2].expected == "at most 4 labels"


def test_a_million_labels_are_one_fault() -> None:
    labels = {str(number): "x" for number in range(100_000)}
    item = {"name": "m", "value": 1, "timestamp": 1, "labels": labels}
    _, _, faults = ColumnReader().read([item], [0], [None], 9, None, NOTHING_KNOWN, LabelLimits())  # type: ignore[list-item]
    assert len(faults) == 1
