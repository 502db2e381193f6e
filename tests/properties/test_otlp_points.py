"""What a kernel reads of export requests is what their translation gives, whatever is known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promcompat.core.errors import BadDataError
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.series_table import KnownSeries
from promcompat.otlp import known_points
from promcompat.otlp.batches import make_batch
from promcompat.otlp.deltas import DeltaTotals
from promcompat.otlp.known_points import KnownPoints
from promcompat.otlp.reader import OtlpReader
from promcompat.otlp.requests import parse_protobuf
from promcompat.otlp.resources import OtlpOptions
from promcompat.otlp.samples import Samples
from promcompat.otlp.translation import translate
from tests.support.factories import encode_field, encode_varint
from tests.support.known_series import NOTHING_KNOWN, known_series

GAUGE, SUM, HISTOGRAM = 5, 7, 9


def fixed64(number: int, content: int) -> bytes:
    """A field of eight bytes."""
    return encode_varint(number << 3 | 1) + (content % (1 << 64)).to_bytes(8, "little")


def varint(number: int, content: int) -> bytes:
    """A field of a varint."""
    return encode_varint(number << 3) + encode_varint(content % (1 << 64))


def rarely(odd: st.SearchStrategy[bytes], usual: st.SearchStrategy[bytes]) -> Any:
    """One of many is odd: a request has many parts, and most of it should be usual."""
    return st.integers(0, 30).flatmap(lambda choice: odd if choice == 30 else usual)


def some_of(*fields: st.SearchStrategy[bytes], others: st.SearchStrategy[bytes]) -> Any:
    """Messages that usually have each of these fields, sometimes in another order, or others."""
    usual = st.tuples(*fields).map(b"".join)
    odd = st.lists(st.one_of(*fields, others), max_size=8).map(b"".join)
    return rarely(odd, usual)


nothing = st.just(b"")
unknown_fields = st.one_of(
    st.builds(encode_field, st.sampled_from([4, 13, 15, 16, 2047]), st.binary(max_size=4)),
    st.builds(varint, st.sampled_from([1, 2, 3, 7, 12, 15]), st.integers(0, 3)),
    st.builds(fixed64, st.sampled_from([1, 2, 5, 7, 12]), st.integers(0, 3)),
    st.sampled_from([b"\x0d\0\0\0\0", b"\x0b\x0c", b"\x8a\x00\x00", b"\x12\x80\x00", b"\x3a"]),
    st.binary(max_size=4),
)
texts = st.sampled_from(["a", "b", "a.b", "host", "service.name", "", "é", "x" * 70])
values = rarely(
    st.just(b"\x0a\x01\xff"),
    st.one_of(
        st.builds(lambda text: encode_field(1, text.encode()), texts),
        st.builds(lambda number: varint(3, number), st.integers(-2, 2)),
    ),
)
attribute_contents = st.builds(
    lambda key, value: encode_field(1, key.encode()) + encode_field(2, value), texts, values
)
attributes = st.lists(attribute_contents, max_size=2)


def attribute_fields(number: int) -> st.SearchStrategy[bytes]:
    return attributes.map(lambda found: b"".join(encode_field(number, one) for one in found))


times = st.one_of(
    st.integers(1_700_000_000_000, 1_700_000_000_003).map(lambda ms: ms * 1_000_000 + 1),
    st.sampled_from([0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]),
)
doubles = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0x7FF0000000000002, 0x7FFD48 << 40, 0x7FF8000000000001, 1 << 63]),
)
exemplar_contents = rarely(
    st.sampled_from([b"", b"\xff", fixed64(2, 1), fixed64(3, 5) + fixed64(6, 2)]),
    st.builds(
        lambda time, value, trace, found: fixed64(2, time) + value + trace + found,
        times,
        st.one_of(
            st.sampled_from([0.25, 0.5, 1.5, 7.0, float("nan")]).map(
                lambda number: fixed64(3, int(np.float64(number).view(np.uint64)))
            ),
            st.integers(-1, 3).map(lambda number: fixed64(6, number)),
        ),
        st.sampled_from([b"", encode_field(4, b"\1" * 8) + encode_field(5, b"\2" * 16)]),
        attribute_fields(7),
    ),
)


def exemplars_of(number: int) -> st.SearchStrategy[bytes]:
    """Most points have none."""
    some = st.lists(exemplar_contents, min_size=1, max_size=3)
    return st.one_of(st.just([]), some).map(
        lambda found: b"".join(encode_field(number, one) for one in found)
    )


number_points = some_of(
    st.one_of(nothing, st.builds(fixed64, st.just(2), times)),
    st.builds(fixed64, st.just(3), times),
    st.one_of(
        st.builds(fixed64, st.just(4), doubles),
        st.builds(fixed64, st.just(6), st.integers(-(1 << 63), (1 << 63) - 1)),
    ),
    exemplars_of(5),
    attribute_fields(7),
    rarely(st.sampled_from([varint(8, 1), varint(8, 2)]), nothing),
    others=unknown_fields,
)


def packed(number: int, contents: list[int]) -> bytes:
    return encode_field(number, b"".join(part.to_bytes(8, "little") for part in contents))


bounds = st.lists(
    st.sampled_from([0.5, 1.0, 2.5]).map(lambda x: int(np.float64(x).view(np.uint64))), max_size=2
)
histogram_points = some_of(
    st.one_of(nothing, st.builds(fixed64, st.just(2), times)),
    st.builds(fixed64, st.just(3), times),
    st.builds(fixed64, st.just(4), st.integers(0, (1 << 64) - 1)),
    st.one_of(nothing, st.builds(fixed64, st.just(5), doubles)),
    st.builds(packed, st.just(6), st.lists(st.integers(0, 1 << 62), min_size=1, max_size=3)),
    bounds.map(lambda found: packed(7, found) if found else b""),
    exemplars_of(8),
    attribute_fields(9),
    rarely(st.just(varint(10, 1)), st.sampled_from([b"", fixed64(11, 5), fixed64(12, 6)])),
    others=unknown_fields,
)
exponential_points = st.builds(
    lambda *parts: b"".join(parts),
    times.map(lambda time: fixed64(3, time)), attribute_fields(1), exemplars_of(11),
)  # fmt: skip
temporalities = st.sampled_from([2, 2, 2, 2, 1, 0]).map(lambda number: varint(2, number))
is_monotonic = st.sampled_from([b"", varint(3, 1)])


def points(content: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(content, max_size=3).map(
        lambda found: b"".join(encode_field(1, point) for point in found)
    )


data = st.one_of(
    st.builds(encode_field, st.just(GAUGE), points(number_points)),
    st.builds(
        lambda *parts: encode_field(SUM, b"".join(parts)),
        points(number_points), temporalities, is_monotonic,
    ),
    st.builds(
        lambda *parts: encode_field(HISTOGRAM, b"".join(parts)),
        points(histogram_points), temporalities,
    ),
    st.builds(
        lambda found: encode_field(10, found + varint(2, 2)), points(exponential_points)
    ),
    st.builds(lambda found: encode_field(11, found), points(exponential_points)),
)  # fmt: skip
metrics = some_of(
    rarely(
        st.sampled_from([encode_field(1, b"%%"), encode_field(1, b"\xff")]),
        st.sampled_from([b"m", b"m.n", b"m_n", b"target_info"]).map(
            lambda text: encode_field(1, text)
        ),
    ),
    st.sampled_from([b"", encode_field(2, b"one"), encode_field(2, b"two")]),
    st.sampled_from([b"", encode_field(3, b"s"), encode_field(3, b"1")]),
    data,
    others=st.one_of(data, unknown_fields),
)
scope_heads = st.one_of(
    nothing,
    st.builds(
        lambda name, found: encode_field(1, encode_field(1, name) + found),
        rarely(st.just(b"\xff"), st.sampled_from([b"lib", b""])), attribute_fields(3),
    ),
)  # fmt: skip
schemas = rarely(
    st.just(encode_field(3, b"\xff")), st.sampled_from([b"", encode_field(3, b"https://schema")])
)


def lists_of(number: int, content: st.SearchStrategy[bytes], most: int) -> Any:
    return st.lists(content, max_size=most).map(
        lambda found: b"".join(encode_field(number, one) for one in found)
    )


scopes = some_of(scope_heads, lists_of(2, metrics, 3), schemas, others=unknown_fields)
resource_heads = st.one_of(
    nothing, attribute_fields(1).map(lambda content: encode_field(1, content))
)
resources = some_of(resource_heads, lists_of(2, scopes, 2), schemas, others=unknown_fields)
requests = rarely(
    st.builds(lambda *parts: b"".join(parts), lists_of(1, resources, 2), unknown_fields),
    lists_of(1, resources, 2),
)
options = st.builds(
    OtlpOptions,
    promoted=st.sampled_from([frozenset(), frozenset(["host", "a.b"])]),
    promotes_all=st.booleans(),
    promotes_scope=st.booleans(),
    converts_to_custom_buckets=st.booleans(),
    sums_deltas=st.booleans(),
)


def columns_of(samples: Samples, known: KnownSeries) -> Any:
    """Everything that becomes of samples; the bits of values."""
    made = make_batch(samples, known, LabelLimits())
    batch = made.batch
    histograms, points = batch.histograms, made.points.tolist()
    return (
        batch.series_ids.tolist(),
        batch.timestamps.tolist(),
        np.ascontiguousarray(batch.values).view(np.uint64).tolist(),
        list(batch.unknown_keys),
        {key: batch.labels[key] for key in batch.unknown_keys},
        sorted(batch.metadata, key=lambda entry: entry.family),
        batch.starts.tolist() if batch.starts is not None else None,
        None if histograms is None else len(histograms),
        list(made.refused.values()),
        [points.index(point) if point >= 0 else point for point in points],
        samples.rejected,
        # NaN is equal to itself as a text.
        list(map(repr, samples.exemplars)),
        samples.n_translated,
    )


def read(reader: OtlpReader, message: bytes, known: KnownSeries) -> Any:
    try:
        return columns_of(
            reader.read(message, reader.totals.request("default"), is_json=False), known
        )
    except BadDataError:
        return None


def expected(reader: OtlpReader, message: bytes, known: KnownSeries) -> Any:
    """The same by translation alone."""
    try:
        request = parse_protobuf(message)
        totals = reader.totals.request("default")
        samples = translate(request, reader.options, totals, reader.known)
    except BadDataError:
        return None
    return columns_of(samples, known)


def series_of(messages: list[bytes], chosen: OtlpOptions) -> KnownSeries:
    """Every second series of requests."""
    keys: dict[bytes, None] = {}
    for message in messages:
        try:
            samples = translate(parse_protobuf(message), chosen, DeltaTotals().request("other"))
        except BadDataError:
            continue
        keys |= dict.fromkeys(samples.keys)
    listed = list(keys)
    return known_series(listed[::2], listed[1::4])


def check(messages: list[bytes], chosen: OtlpOptions) -> None:
    """Each request twice in turn, as the first and in a process that knows all of them."""
    reader, other = OtlpReader(chosen), OtlpReader(chosen)
    for known in (NOTHING_KNOWN, series_of(messages, chosen)):
        for message in messages:
            assert read(reader, message, known) == expected(other, message, known)


@given(st.lists(requests, min_size=1, max_size=3), options)
def test_requests_are_read_as_they_are_translated(
    messages: list[bytes], chosen: OtlpOptions
) -> None:
    check(messages, chosen)


@given(requests, st.data())
def test_damaged_requests_are_read_as_they_are_translated(message: bytes, data: Any) -> None:
    place = data.draw(st.integers(0, len(message)))
    replaced = data.draw(st.binary(max_size=2))
    damaged = message[:place] + replaced + message[place + len(replaced) :]
    check([message, damaged, message[:place]], OtlpOptions())


@given(st.binary(max_size=40))
def test_any_bytes_are_read_as_they_are_translated(message: bytes) -> None:
    check([message], OtlpOptions())


def attribute_of(key: str, text: str, number: int = 9) -> bytes:
    content = encode_field(1, key.encode()) + encode_field(2, encode_field(1, text.encode()))
    return encode_field(number, content)


def point_of(time: int, value: int, label: str) -> bytes:
    return encode_field(1, fixed64(3, time) + fixed64(6, value) + attribute_of("k", label, 7))


def request_of(name: str, *found: bytes, data: int = GAUGE) -> bytes:
    metric = encode_field(1, name.encode()) + encode_field(data, b"".join(found))
    return encode_field(1, encode_field(2, encode_field(2, metric)))


def test_what_was_sent_before_is_not_translated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = OtlpReader()
    for number in range(3):
        if number == 2:
            monkeypatch.setattr(KnownPoints, "_keys_of", None)
            monkeypatch.setattr(KnownPoints, "_metric", None)
        labels = "ab" if number < 2 else "ba"
        message = request_of("m", *(point_of(10**9, number, label) for label in labels))
        samples = reader.read(message, reader.totals.request("default"), is_json=False)
        assert samples.read is not None
        assert samples.read.values.tolist() == [number, number]
        assert len({*samples.read.keys}) == 2


def test_points_with_exemplars_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of SDKs, which write the fields of a point in the order of their numbers."""
    halves = [int(np.float64(bound).view(np.uint64)) for bound in (0.5, 1.0)]
    reader, attribute = OtlpReader(), attribute_of("k", "a")
    for number in range(3):
        if number == 2:
            monkeypatch.setattr(KnownPoints, "_keys_of", None)
        exemplars = b"".join(
            encode_field(8, fixed64(2, 10**9) + fixed64(6, value) + encode_field(5, b"\1" * 16))
            for value in range(number)
        )
        counts = packed(6, [1, 1, number]) + packed(7, halves)
        point = fixed64(3, 10**9) + fixed64(4, 5) + counts + exemplars + attribute
        message = request_of("m", encode_field(1, point) + varint(2, 2), data=HISTOGRAM)
        samples = reader.read(message, reader.totals.request("default"), is_json=False)
        assert samples.read is not None
        assert not samples.keys
        assert samples.read.values.tolist() == [5, 1, 2, 5]
        shown = [(one.key, one.value, *one.labels) for one in samples.exemplars]
        trace = ("trace_id", "01" * 16)
        places = [1, 2][:number]
        assert shown == [
            (samples.read.keys[place], value, trace) for value, place in enumerate(places)
        ]


@pytest.mark.parametrize("seconds", [-1.0, 600.0])
def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(known_points, "_BYTES_OF_NODE", 10_000)
    monkeypatch.setattr(known_points, "_KEPT_SECONDS", seconds)
    points_of_process = KnownPoints(OtlpOptions(), max_bytes=200_000)
    sizes = []
    for number in range(20):
        found = points_of_process.find(request_of(f"m{number}", point_of(1, 1, "a")))
        assert found is not None
        points_of_process.learn(points_of_process.make(found))
        again = points_of_process.find(request_of(f"m{number}", point_of(1, 1, "a")))
        assert again is not None
        sizes.append(len(again.tree.nodes))
    assert 3 < max(sizes) < 12
    assert (sizes[-1] == max(sizes)) == (seconds > 0)
    assert (sizes.count(0) > 0) == (seconds < 0)


def test_threads_learn_beside_each_other() -> None:
    """What several learn at once is there once."""
    points_of_process = KnownPoints(OtlpOptions())
    messages = [request_of(name, point_of(1, 1, label)) for name in "ab" for label in "cd"]
    found = list(map(points_of_process.find, [*messages, *messages]))
    for one in found:
        assert one is not None
        points_of_process.learn(points_of_process.make(one))
    for message in messages:
        again = points_of_process.find(message)
        assert again is not None
        assert not again.n_left_bytes
        assert not len(again.lines)
        assert (len(again.tree.nodes), len(again.tree.keys)) == (4, 4)


@settings(max_examples=20)
@given(st.integers(0, 3), st.booleans())
def test_the_order_of_points_may_change(swap: int, is_reversed: bool) -> None:
    reader, other = OtlpReader(), OtlpReader()
    names = ["a", "b", "c", "d"]
    names[0], names[swap] = names[swap], names[0]
    for number, order in enumerate((["a", "b", "c", "d"], names[:: -1 if is_reversed else 1])):
        message = b"".join(request_of(name, point_of(1, number, name)) for name in order)
        known = NOTHING_KNOWN
        assert read(reader, message, known) == expected(other, message, known)
