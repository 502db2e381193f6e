"""The COPY stream of stored pages, cut anywhere."""

import struct
from itertools import pairwise
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.errors import PromcompatError
from sql.samples.tables.page_stream import PageRow, PageStream

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"

int64 = st.integers(-(2**63), 2**63 - 1)
page_rows = st.builds(
    PageRow,
    source=st.integers(0, 2),
    slot=st.integers(-(2**31), 2**31 - 1),
    replaces=st.booleans(),
    last_arrival=int64,
    first_series=int64,
    last_series=int64,
    first_ms=int64,
    first_arrival=int64,
    payload=st.binary(max_size=300),
)


_joining_order = attrgetter(
    "source", "slot", "replaces", "last_arrival", "first_series", "first_ms"
)


def encoded(row: PageRow) -> bytes:
    fields = struct.pack(
        ">hih ii i? iq iq iq iq iq ii",
        *(10, 2, row.source, 4, row.slot, 1, row.replaces, 8, row.last_arrival),
        *(8, row.first_arrival, 8, row.first_series, 8, row.last_series, 8, row.first_ms, 4, 5),
    )
    return fields + struct.pack(">i", len(row.payload)) + row.payload


def deletion(arrival_id: int, first_ms: int, last_ms: int, ids: list[int] | None) -> bytes:
    fields = struct.pack(
        ">hih ii i? iq iq iq iq iq ii",
        *(10, 2, 3, 4, 0, 1, False, 8, arrival_id, 8, 0, 8, first_ms, 8, last_ms, 8, 0, 4, 0),
    )
    if ids is None:
        return fields + struct.pack(">i", -1)
    header = struct.pack(">iiiii", 1, 0, 20, len(ids), 1)
    array = header + b"".join(struct.pack(">iq", 8, one) for one in ids)
    return fields + struct.pack(">i", len(array)) + array


def joining_order(row: PageRow) -> tuple[object, ...]:
    return (*row.layer, row.first_series, row.first_ms)


@given(rows=st.lists(page_rows, max_size=5), cuts=st.lists(st.integers(0, 2_000), max_size=6))
def test_rows_are_read_however_the_stream_is_cut(rows: list[PageRow], cuts: list[int]) -> None:
    stream = HEADER + b"".join(encoded(row) for row in rows) + TRAILER
    ends = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    read = PageStream()
    for start, end in pairwise(ends):
        read.feed(stream[start:end])
    assert read.n_bytes == len(stream)
    # Pages whose version is 3 have histograms, which take eight times their payload in memory.
    weights = [8 if row.payload[:1] == b"\x03" else 1 for row in rows]
    assert read.n_pending_bytes == sum(
        weight * len(row.payload) for weight, row in zip(weights, rows, strict=True)
    )
    assert read.n_pending_samples == 5 * len(rows)
    assert read.take_pages() == sorted(rows, key=joining_order)
    assert read.take_pages() == []
    assert read.n_pending_bytes == 0


def test_deletions_are_told_from_pages() -> None:
    read = PageStream()
    read.feed(HEADER + deletion(7, 1, 2, None) + deletion(9, 3, 4, [5, 6]) + deletion(8, 0, 0, []))
    whole, some, none = read.deletions
    assert (whole.arrival_id, whole.series_ids, whole.first_ms, whole.last_ms) == (7, None, 1, 2)
    assert some.series_ids is not None
    assert some.series_ids.tolist() == [5, 6]
    assert none.series_ids is not None
    assert none.series_ids.tolist() == []
    assert read.take_pages() == []


def test_a_row_of_other_columns_is_refused() -> None:
    with pytest.raises(PromcompatError, match="has 4 fields"):
        PageStream().feed(HEADER + b"\x00\x04" + bytes(200))
