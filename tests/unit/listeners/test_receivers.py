"""What the receivers of lines keep until they read and store them, and where they read them."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

import pytest

from promcompat.imports.columns import ImportedColumns
from promcompat.imports.statsd_aggregation import StatsdAggregator
from promcompat.imports.statsd_lines import StatsdEvent
from promcompat.listeners.receivers import Flusher, GraphiteReceiver, StatsdReceiver

LINE = "a" * (1 << 18) + " 1"


@dataclass
class Written:
    """Keeps what would be stored."""

    columns: list[ImportedColumns] = field(default_factory=list)

    async def write(self, columns: ImportedColumns) -> None:
        self.columns.append(columns)


async def test_memory_of_waiting_lines_is_bounded_and_what_is_dropped_is_counted() -> None:
    written = Written()
    receiver = GraphiteReceiver(cast(Flusher, written), lambda: 5_000)
    for _ in range(2):
        for _ in range(280):
            receiver.take([LINE])
        receiver.take(["b 1 7"] * 200_000)
        receiver.take(["b 2", "nonsense"])
        await receiver.flush()
    for columns in written.columns:
        assert columns.timestamps.tolist() == [5_000] * 256
        assert columns.faults.number == 25 + 200_000 + 1
        assert columns.faults.reasons[1:] == ["too many lines wait to be read"]
    await receiver.flush()
    assert len(written.columns) == 2


@dataclass
class Waiting(Written):
    """Waits for its database until it is cancelled, and stores later."""

    is_away: bool = True
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, columns: ImportedColumns) -> None:
        if self.is_away:
            self.asked.set()
            await asyncio.Event().wait()
        await super().write(columns)


async def test_lines_whose_flush_ends_with_the_process_are_stored_by_the_last_one() -> None:
    now_ms, written = iter((5_000, 6_000)), Waiting()
    receiver = GraphiteReceiver(cast(Flusher, written), lambda: next(now_ms))
    receiver.take(["a 1"])
    flush = asyncio.create_task(receiver.flush())
    await written.asked.wait()
    flush.cancel()
    await asyncio.gather(flush, return_exceptions=True)
    receiver.take(["b 2"])
    written.is_away = False
    await receiver.flush()
    (columns,) = written.columns
    assert columns.timestamps.tolist() == [5_000, 6_000]


@pytest.mark.parametrize("name", ["graphite", "statsd flush", "statsd aggregate"])
async def test_lines_that_a_thread_was_to_read_when_the_process_ends_are_stored_by_the_last_flush(
    name: str,
) -> None:
    written, may_go_on = Written(), threading.Event()
    flusher = cast(Flusher, written)
    graphite = GraphiteReceiver(flusher, lambda: 5_000)
    statsd = StatsdReceiver(flusher, StatsdAggregator(10, 1 << 40), lambda: 5_000)
    receiver = graphite if name == "graphite" else statsd
    receiver.take(["a 1"] if receiver is graphite else ["a:1|c"])
    loop = asyncio.get_running_loop()
    # The threads are all busy.
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = asyncio.create_task(asyncio.to_thread(may_go_on.wait, 60))
    flush = asyncio.create_task(
        statsd.aggregate() if name == "statsd aggregate" else receiver.flush()
    )
    for _ in range(5):
        await asyncio.sleep(0)
    flush.cancel()
    await asyncio.sleep(0)
    may_go_on.set()
    await asyncio.gather(busy, flush, return_exceptions=True)
    await receiver.flush()
    assert [columns.values.tolist() for columns in written.columns] == [[1.0]]


class NotedThreads(StatsdAggregator):
    """Notes which threads add events and make samples."""

    def __init__(self) -> None:
        super().__init__(max_series=10, expiry_ms=1 << 40)
        self.threads: set[int] = set()

    def add(self, event: StatsdEvent, now_ms: int) -> None:
        self.threads.add(threading.get_ident())
        super().add(event, now_ms)

    def flush(self, now_ms: int) -> ImportedColumns:
        self.threads.add(threading.get_ident())
        return super().flush(now_ms)


async def test_statsd_lines_wait_until_a_thread_reads_them() -> None:
    written, aggregator = Written(), NotedThreads()
    receiver = StatsdReceiver(cast(Flusher, written), aggregator, lambda: 5_000)
    receiver.take(["hits:1|c", "", "nonsense"])
    assert not aggregator.threads
    await receiver.aggregate()
    receiver.take(["hits:2|c"])
    receiver.take(["hits:4|c"] * 200_000)
    await receiver.flush()
    assert threading.get_ident() not in aggregator.threads
    (columns,) = written.columns
    assert columns.values.tolist() == [3.0]
    assert columns.faults.number == 200_000 + 1
    assert columns.faults.reasons[1:] == ["too many lines wait to be read"]
