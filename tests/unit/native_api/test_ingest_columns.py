"""From JSON samples to columns: the key of a series is what a sender of remote write has."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from native_api.ingest_columns import ColumnReader, encode_series_key
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.remote_write.series_key import decode_series_key
from tests.factories import encode_labels

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
    batch, kept, faults = reader.read(items, [5, 6, 7, 8], 9_000, None, frozenset())  # type: ignore[arg-type]
    assert kept == [5, 8]
    assert [(one.index, one.field) for one in faults] == [(6, "name"), (7, "timestamp")]
    assert batch.series_keys[0] == batch.series_keys[1]
    assert batch.timestamps.tolist() == [1000, 9000]
    assert batch.values.tolist() == [1.0, -np.inf]
    assert list(batch.labels.values()) == [Labels.of({METRIC_NAME: "m", "a": "1", "b": "2"})]
    again, _, _ = reader.read(items[:1], [0], 0, None, {batch.series_keys[0]})  # type: ignore[arg-type]
    assert again.labels == {}


def test_times_beyond_the_latest_are_faults_by_their_index() -> None:
    items = [{"name": "m", "value": 1, "timestamp": second} for second in (1, 5, 2.5)]
    _, kept, faults = ColumnReader().read(items, [0, 1, 2], 0, 2_500, frozenset())  # type: ignore[arg-type]
    assert (kept, [one.index for one in faults]) == ([0, 2], [1])
