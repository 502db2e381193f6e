"""Whatever the bytes, the decoder answers or raises BadDataError; and its two paths agree."""

import numpy as np
import snappy
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.errors import BadDataError
from promcompat.core.label_limits import DEFAULT_LABEL_LIMITS
from promcompat.core.model import Labels, WriteBatch
from promcompat.remote_write.decoder import decode_write_request
from promcompat.remote_write.snappy_block import unpack
from tests.factories import encode_field, encode_labels
from tests.wire import encode_metadata, encode_request, encode_series

LIMIT = 1 << 20

texts = st.text(st.characters(codec="utf-8"), max_size=6)
values = st.one_of(st.sampled_from([0, 1 << 63]), st.integers(0, (1 << 64) - 1))
timestamps = st.one_of(
    st.integers(1 << 35, (1 << 42) - 1), st.integers(-(1 << 63), (1 << 63) - 1), st.just(0)
)
samples = st.tuples(timestamps, values)
label_sets = st.dictionaries(texts.filter(bool), texts, max_size=4).map(
    lambda labels: tuple({"__name__": "m", **labels}.items())
)
series = st.tuples(label_sets, st.lists(samples, max_size=3))
requests = st.lists(series, max_size=6)


def columns(batch: WriteBatch) -> tuple[list[bytes], list[int], list[int]]:
    bits = np.ascontiguousarray(batch.values).view(np.uint64)
    return batch.series_keys, batch.timestamps.tolist(), bits.tolist()


def check_decoded(body: bytes, known: frozenset[bytes] = frozenset()) -> None:
    """Whatever comes is refused, or a batch whose columns fit and whose series are all told."""
    try:
        decoded = decode_write_request(unpack(body), known, DEFAULT_LABEL_LIMITS, LIMIT)
    except BadDataError:
        return
    batch = decoded.batch
    assert len(batch) == len(batch.timestamps) == len(batch.values)
    assert all(key in batch.labels or key in known for key in batch.series_keys)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_body(body: bytes) -> None:
    check_decoded(body)


@given(st.binary(max_size=200), st.frozensets(st.binary(max_size=4), max_size=3))
def test_any_bytes_as_a_message(message: bytes, known: frozenset[bytes]) -> None:
    check_decoded(bytes(snappy.compress(message)), known)


@given(st.lists(st.binary(max_size=60), max_size=5), st.frozensets(st.binary(max_size=9)))
def test_any_bytes_as_series(messages: list[bytes], known: frozenset[bytes]) -> None:
    check_decoded(encode_request(messages), known)


@given(requests, st.data())
def test_every_sample_arrives_whatever_is_known(
    request: list[tuple[tuple[tuple[str, str], ...], list[tuple[int, int]]]], data: st.DataObject
) -> None:
    body = encode_request([encode_series(pairs, *points) for pairs, points in request])
    keys = [encode_labels(pairs) for pairs, _ in request]
    known = frozenset(data.draw(st.lists(st.sampled_from(keys)))) if keys else frozenset()
    batch = decode_write_request(unpack(body), known, DEFAULT_LABEL_LIMITS, LIMIT).batch
    expected = [
        (key, time, bits)
        for key, (_, points) in zip(keys, request, strict=True)
        for time, bits in points
    ]
    assert list(zip(*columns(batch), strict=True)) == expected
    for pairs, points in request:
        key = encode_labels(pairs)
        if points and key not in known:
            assert batch.labels[key] == Labels(pairs)


@given(st.lists(st.tuples(texts, st.integers(0, 200), texts), max_size=4))
def test_metadata_of_any_text(entries: list[tuple[str, int, str]]) -> None:
    metadata = [encode_metadata(family, kind, text) for family, kind, text in entries]
    decoded = decode_write_request(
        unpack(encode_request(metadata=metadata)), frozenset(), DEFAULT_LABEL_LIMITS, LIMIT
    )
    families = [entry.family for entry in decoded.batch.metadata]
    assert len(set(families)) == len(families)


@given(st.binary(max_size=30))
def test_any_bytes_as_one_label(label: bytes) -> None:
    message = encode_field(1, label) + encode_series((), (1_700_000_000_000, 1.0))
    check_decoded(encode_request([message]))
