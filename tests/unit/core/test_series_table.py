"""The table of known series: keys are told apart by tenant, hash and bytes."""

import importlib.util
import threading
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core import series_table
from promcompat.core.model import UNKNOWN_SERIES
from promcompat.core.series_table import SeriesTableBuilder
from promcompat.core.series_table_kernels import NOT_FOUND

keys = st.lists(st.binary(max_size=20), unique=True, max_size=50)


def test_unknown_is_the_same_everywhere() -> None:
    assert NOT_FOUND == UNKNOWN_SERIES


@given(keys, keys)
def test_every_key_is_found_under_its_tenant_alone(first: list[bytes], second: list[bytes]) -> None:
    builder = SeriesTableBuilder(1 << 16)
    builder.add(1, {key: number for number, key in enumerate(first)})
    builder.add(2, {key: 100 + number for number, key in enumerate(second)})
    table = builder.table
    assert table.find(1, first).tolist() == list(range(len(first)))
    assert table.find(2, second).tolist() == [100 + number for number in range(len(second))]
    others = [key for key in second if key not in first]
    assert table.find(1, others).tolist() == [UNKNOWN_SERIES] * len(others)


def test_the_table_is_at_most_half_full() -> None:
    builder = SeriesTableBuilder(1 << 22)
    for first in range(0, 20_000, 1_000):
        builder.add(0, {str(number).encode(): number for number in range(first, first + 1_000)})
        slots = builder.table.slots
        assert np.count_nonzero(slots >= 0) == len(builder) <= len(slots) // 2


@given(st.integers(1, 2_000))
def test_short_and_long_keys_share_the_memory(length: int) -> None:
    """Each entry counts with 49 bytes and its key, so long keys leave no room unused."""
    builder = SeriesTableBuilder(1 << 16)
    n_fitting = (1 << 16) // (length + 49)
    wanted = [number.to_bytes(2, "big").rjust(length, b" ") for number in range(n_fitting)]
    wanted = list(dict.fromkeys(key[-length:] for key in wanted))
    assert builder.has_room(wanted)
    builder.add(0, {key: number for number, key in enumerate(wanted)})
    assert builder.table.find(0, wanted).tolist() == list(range(len(wanted)))
    if len(wanted) == n_fitting:
        assert not builder.has_room([bytes(length)])


def test_equal_hashes_do_not_make_keys_equal() -> None:
    """As if somebody had found other bytes, or another tenant, with the hash of a key."""
    builder = SeriesTableBuilder(1 << 16)
    builder.add(1, {b"wanted key": 5})
    table = builder.table
    forged = table.keys.copy()
    forged[3] ^= 1
    assert replace(table, keys=forged).find(1, [b"wanted key"]).tolist() == [UNKNOWN_SERIES]
    other_tenant = np.full_like(table.tenants, 2)
    assert replace(table, tenants=other_tenant).find(1, [b"wanted key"]).tolist() == [
        UNKNOWN_SERIES
    ]
    longer = table.starts.copy()
    longer[1] += 1
    assert replace(table, starts=longer).find(1, [b"wanted key"]).tolist() == [UNKNOWN_SERIES]


def test_a_full_table_ends_the_search() -> None:
    builder = SeriesTableBuilder(1 << 16)
    builder.add(0, {b"x": 1})
    full = np.zeros_like(builder.table.slots)
    assert replace(builder.table, slots=full).find(0, [b"y", b"x"]).tolist() == [UNKNOWN_SERIES, 1]


def test_a_published_table_does_not_change_when_keys_are_added() -> None:
    """Decoders search it in other threads, without a lock."""
    builder = SeriesTableBuilder(1 << 16)
    builder.add(0, {b"first": 1})
    table = builder.table
    before = [column.copy() for column in (table.slots, table.hashes, table.ids, table.starts)]
    builder.add(0, {b"second": 2})
    assert len(builder.table.slots) == len(table.slots)
    after = (table.slots, table.hashes, table.ids, table.starts)
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    assert table.find(0, [b"first", b"second"]).tolist() == [1, UNKNOWN_SERIES]


def test_each_process_hashes_under_a_secret_of_its_own() -> None:
    """Nobody can know which keys share a slot."""
    spec = importlib.util.spec_from_file_location("another_series_table", series_table.__file__)
    assert spec is not None
    assert spec.loader is not None
    another = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(another)
    hashes = []
    for module in (series_table, another):
        builder = module.SeriesTableBuilder(1 << 16)
        builder.add(0, {b"key": 1})
        hashes.append(int(builder.table.hashes[0]))
    assert hashes[0] != hashes[1]


def test_threads_search_while_the_table_grows() -> None:
    builder = SeriesTableBuilder(1 << 22)
    wrong: list[int] = []
    done = threading.Event()

    def search() -> None:
        wanted = [str(number).encode() for number in range(10_000)]
        while not done.is_set():
            found = builder.table.find(0, wanted)
            numbers = np.arange(len(wanted))
            wrong.extend(numbers[(found != numbers) & (found != UNKNOWN_SERIES)].tolist())

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for first in range(0, 10_000, 100):
        builder.add(0, {str(number).encode(): number for number in range(first, first + 100)})
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


@given(keys, st.sets(st.integers(0, 49)))
def test_used_entries_and_the_newest_move_to_a_new_table(
    known: list[bytes], used: set[int]
) -> None:
    builder = SeriesTableBuilder(1 << 16)
    builder.add(0, {key: number for number, key in enumerate(known)})
    builder.add(0, {bytes(30) + bytes([number]): 1000 + number for number in range(100)})
    used_keys = [key for number, key in enumerate(known) if number in used]
    builder.table.find(0, used_keys)
    builder.keep_used()
    expected = [number if number in used else UNKNOWN_SERIES for number in range(len(known))]
    assert builder.table.find(0, known).tolist() == expected
    newest = [bytes(30) + bytes([number]) for number in range(90, 100)]
    assert builder.table.find(0, newest).tolist() == list(range(1090, 1100))
    assert len(builder) <= (len(known) + 100) // 2
