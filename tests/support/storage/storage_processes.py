"""Storages on one database, each in a process of its own, as replicas of the service are."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

import asyncpg
import numpy as np

from promcompat.core.errors import WriteRejectedError
from promcompat.core.model import Labels, SeriesSelection
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.support.factories import block_rows, make_batch, make_labels, make_matcher
from tests.support.storage.repositories import delete_samples, opened_storage

METRIC: Final = "interleaved"
Row = tuple[int, int, int]
"""The number of a series, Unix ms, and the bits of the value."""
Rows = dict[int, list[tuple[int, int]]]
"""Times and bits of each series' samples."""
_STOP_SECONDS: Final = 30
_SEARCH_PATH: Final = "SET search_path = promcompat, public"


def series_labels(number: int) -> Labels:
    """The labels of a series."""
    return make_labels(METRIC, number=str(number))


async def write_rows(storage: MetricStorage, tenant: str, rows: Sequence[Row]) -> bool:
    """Write rows in one batch; False when one of them was refused as a duplicate."""
    values = np.array([bits for _, _, bits in rows], np.uint64).view(np.float64)
    batch = make_batch(
        (series_labels(number), [(time_ms, value)])
        for (number, time_ms, _), value in zip(rows, values, strict=True)
    )
    try:
        await storage.store.write_batch(tenant, batch)
    except WriteRejectedError:
        return False
    return True


def _selection(numbers: Sequence[int], start_ms: int, end_ms: int) -> SeriesSelection:
    pattern = "|".join(map(str, numbers))
    matchers = (make_matcher("__name__", "=", METRIC), make_matcher("number", "=~", pattern))
    return SeriesSelection(matchers=matchers, start_ms=start_ms, end_ms=end_ms)


async def ask_samples(
    storage: MetricStorage, tenant: str, numbers: Sequence[int], start_ms: int, end_ms: int
) -> Rows:
    """The samples of some series in `(start_ms, end_ms]`."""
    [found] = await ask_selections(storage, tenant, [numbers], start_ms, end_ms)
    return found


async def ask_selections(
    storage: MetricStorage,
    tenant: str,
    selections: Sequence[Sequence[int]],
    start_ms: int,
    end_ms: int,
) -> list[Rows]:
    """What one query finds of each group of series."""
    asked = [_selection(numbers, start_ms, end_ms) for numbers in selections]
    blocks = await storage.store.select(tenant, asked)
    return [
        {
            int(labels.as_dict()["number"]): rows
            for labels, rows in block_rows(block).items()
            if rows
        }
        for block in blocks
    ]


async def _delete(
    storage: MetricStorage, tenant: str, numbers: Sequence[int], start_ms: int, end_ms: int
) -> None:
    """Delete the samples that `ask_samples` would answer."""
    await delete_samples(storage, tenant, _selection(numbers, start_ms, end_ms))


async def _drain(storage: MetricStorage) -> None:
    """Move all that has arrived into runs."""
    await storage.drains.drainer.drain_all()


async def _compact(storage: MetricStorage) -> None:
    """One step of merging."""
    await storage.drains.compact_step()


_COMMANDS: Final[Mapping[str, Callable[..., Coroutine[Any, Any, object]]]] = {
    "write": write_rows,
    "ask": ask_samples,
    "delete": _delete,
    "drain": _drain,
    "compact": _compact,
}


def share_one_session(patch: Callable[[object, str, object], None] = setattr) -> None:
    """Prepare nothing by name and reset nothing: connections of this process share a session."""
    patch(asyncpg, "create_pool", partial(asyncpg.create_pool, statement_cache_size=0))
    patch(asyncpg.Connection, "get_reset_query", lambda _connection: _SEARCH_PATH)


def _serve(pipe: Connection, url: str, store: StoreKind, shares_session: bool) -> None:
    """Carry out commands until the pipe ends."""
    if shares_session:
        share_one_session()

    async def serve() -> None:
        async with opened_storage(url, store=store) as storage:
            pipe.send(None)
            while (command := await asyncio.to_thread(pipe.recv)) is not None:
                name, arguments = command
                try:
                    answer = await _COMMANDS[name](storage, *arguments)
                except Exception as exc:
                    # The boundary of the process: the test fails with it.
                    answer = exc
                pipe.send(answer)

    asyncio.run(serve())


@dataclass(frozen=True, slots=True)
class StorageProcess:
    """One process; it carries out one command at a time."""

    process: BaseProcess
    pipe: Connection

    def begin(self, name: str, *arguments: object) -> None:
        """Send a command; `finish` has its answer."""
        self.pipe.send((name, arguments))

    def finish(self) -> Any:
        """The answer to the command that was sent; raises what the command raised."""
        answer = self.pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def storage_processes(
    url: str, store: StoreKind, n_processes: int, *, shares_session: bool = False
) -> Iterator[list[StorageProcess]]:
    """Processes that are ready; they end with the block.

    `shares_session`: all connections to this database share one session, and only one process at a
    time may have a command (see `tests.support.programs.community`).
    """
    context, started = get_context("spawn"), []
    try:
        for _ in range(n_processes):
            ours, theirs = context.Pipe()
            arguments = (theirs, url, store, shares_session)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()  # So that nobody waits for a process that has ended.
            started.append(StorageProcess(process, ours))
            if shares_session:
                ours.recv()
        if not shares_session:
            for each in started:
                each.finish()
        yield started
    finally:
        for each in started:
            each.pipe.send(None)
        for each in started:
            each.process.join(_STOP_SECONDS)
