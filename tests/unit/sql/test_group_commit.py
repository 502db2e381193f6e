"""Group commit in front of a committer that answers as told."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from promcompat.core.alerting.thresholds import LevelChange
from promcompat.core.errors import (
    PromcompatError,
    QueryTimeoutError,
    StorageUnavailableError,
    WriteRejectedError,
)
from sql.database.copy_format import SampleRows
from sql.database.storage_stats import StorageStats
from sql.samples.writing.group_commit import GroupCommit, GroupCommitOptions
from sql.samples.writing.sorted_rows import Conflict

DAY_MS = 86_400_000


def make_rows(*ids: int, value: float = 1.0, step_ms: int = 1) -> SampleRows:
    return SampleRows(
        np.array(ids, np.int64),
        np.arange(len(ids), dtype=np.int64) * step_ms,
        np.full(len(ids), value).view(np.uint64),
    )


class GatedCommitter:
    """Records each commit and holds it until `gate` is set; `answer` decides how it ends."""

    def __init__(self, answer: Callable[[SampleRows], list[Conflict]] = lambda _rows: []) -> None:
        self.commits: list[list[int]] = []
        self.started = asyncio.Semaphore(0)
        self.gate = asyncio.Event()
        self.gate.set()
        self._answer = answer

    async def commit(self, rows: SampleRows, changes: Sequence[LevelChange]) -> list[Conflict]:
        self.commits.append(rows.series_ids.tolist())
        self.started.release()
        await self.gate.wait()
        return self._answer(rows)


def make_writer(committer: GatedCommitter, **options: float) -> GroupCommit:
    chosen = GroupCommitOptions(**options)  # type: ignore[arg-type]
    return GroupCommit(committer, chosen, StorageStats())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_lone_write_starts_without_waiting() -> None:
    committer = GatedCommitter()
    writer = make_writer(committer, delay_seconds=3600.0)
    await writer.write(make_rows(1))
    assert committer.commits == [[1]]


async def test_writes_of_one_turn_share_a_commit() -> None:
    committer = GatedCommitter()
    writer = make_writer(committer, delay_seconds=3600.0)
    await asyncio.gather(*(writer.write(make_rows(number)) for number in range(5)))
    assert committer.commits == [[0, 1, 2, 3, 4]]


async def test_writes_during_a_commit_go_together_when_it_ends() -> None:
    committer = GatedCommitter()
    committer.gate.clear()
    writer = make_writer(committer, delay_seconds=3600.0)
    first = asyncio.create_task(writer.write(make_rows(1)))
    await turns()
    others = [asyncio.create_task(writer.write(make_rows(number))) for number in (2, 3)]
    await turns()
    assert committer.commits == [[1]]
    assert not first.done()
    committer.gate.set()
    await asyncio.gather(first, *others)
    assert committer.commits == [[1], [2, 3]]


async def test_waiting_writes_start_beside_a_running_commit_after_the_delay() -> None:
    committer = GatedCommitter()
    committer.gate.clear()
    writer = make_writer(committer, delay_seconds=0.001, max_parallel=2)
    tasks = [asyncio.create_task(writer.write(make_rows(1)))]
    await turns()
    tasks.append(asyncio.create_task(writer.write(make_rows(2))))
    await committer.started.acquire()
    await committer.started.acquire()
    tasks.append(asyncio.create_task(writer.write(make_rows(3))))
    await asyncio.sleep(0.02)
    assert committer.commits == [[1], [2]]
    committer.gate.set()
    await asyncio.gather(*tasks)
    assert committer.commits == [[1], [2], [3]]


async def test_full_group_starts_at_once_and_the_rest_follows() -> None:
    committer = GatedCommitter()
    committer.gate.clear()
    writer = make_writer(committer, delay_seconds=3600.0, max_rows=4, max_parallel=3)
    tasks = [asyncio.create_task(writer.write(make_rows(0)))]
    await turns()
    tasks += [asyncio.create_task(writer.write(make_rows(n, n))) for n in range(1, 4)]
    await turns()
    assert committer.commits == [[0], [1, 1, 2, 2]]
    committer.gate.set()
    await asyncio.gather(*tasks)
    assert committer.commits[2] == [3, 3]


async def test_each_caller_gets_its_own_conflicts() -> None:
    def answer(rows: SampleRows) -> list[Conflict]:
        return [Conflict(row, 7.0) for row in np.flatnonzero(rows.series_ids == 13).tolist()]

    writer = make_writer(GatedCommitter(answer))
    good, bad, worse = await asyncio.gather(
        writer.write(make_rows(1, 2)),
        writer.write(make_rows(3, 13, value=2.5)),
        writer.write(make_rows(13, 13, 13, value=1e6)),
        return_exceptions=True,
    )
    assert good is None
    assert str(bad) == (
        "duplicate sample for timestamp 1; overrides not allowed: existing 7, new value 2.5"
    )
    assert str(worse) == (
        "duplicate sample for timestamp 0; overrides not allowed: existing 7, new value 1e+06"
    )
    assert isinstance(bad, WriteRejectedError)


@pytest.mark.parametrize(
    ("writes", "committed"),
    [
        (((5, 6), (3, 4), (1,)), [1, 3, 4, 5, 6]),
        (((5, 6), (4, 5)), [5, 6, 4, 5]),
        (((6, 2), (1,)), [1, 6, 2]),
        (((6, 2), (4,)), [6, 2, 4]),
    ],
)
async def test_writes_are_joined_by_series_unless_these_may_meet(
    writes: Sequence[Sequence[int]], committed: list[int]
) -> None:
    committer = GatedCommitter(
        lambda rows: [Conflict(at, 7.0) for at, one in enumerate(rows.series_ids) if one == 5]
    )
    writer = make_writer(committer)
    answers = await asyncio.gather(
        *(writer.write(make_rows(*ids)) for ids in writes), return_exceptions=True
    )
    assert committer.commits == [committed]
    rejected = [answer.rows if isinstance(answer, WriteRejectedError) else () for answer in answers]
    assert rejected == [tuple(at for at, one in enumerate(ids) if one == 5) for ids in writes]


async def test_fault_of_one_caller_does_not_fail_the_others() -> None:
    def answer(rows: SampleRows) -> list[Conflict]:
        if 13 in rows.series_ids:
            raise PromcompatError("unlucky")
        return []

    committer = GatedCommitter(answer)
    writer = make_writer(committer)
    results = await asyncio.gather(
        *(writer.write(make_rows(number)) for number in (1, 13, 2)), return_exceptions=True
    )
    assert results[0] is None
    assert results[2] is None
    assert str(results[1]) == "unlucky"
    assert committer.commits == [[1, 2, 13], [1], [13], [2]]


@pytest.mark.parametrize("fault", [StorageUnavailableError("gone"), QueryTimeoutError("slow")])
async def test_database_fault_fails_the_whole_group_for_a_retry(fault: PromcompatError) -> None:
    def answer(_rows: SampleRows) -> list[Conflict]:
        raise fault

    committer = GatedCommitter(answer)
    writer = make_writer(committer)
    results = await asyncio.gather(
        *(writer.write(make_rows(number)) for number in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [StorageUnavailableError] * 3
    assert len(committer.commits) == 1


async def test_interrupted_commit_answers_its_callers() -> None:
    def answer(_rows: SampleRows) -> list[Conflict]:
        raise asyncio.CancelledError

    with pytest.raises(StorageUnavailableError, match="interrupted"):
        await make_writer(GatedCommitter(answer)).write(make_rows(1))


async def test_write_cancelled_while_waiting_is_left_out() -> None:
    committer = GatedCommitter()
    committer.gate.clear()
    writer = make_writer(committer, delay_seconds=3600.0)
    first = asyncio.create_task(writer.write(make_rows(1)))
    await turns()
    cancelled = asyncio.create_task(writer.write(make_rows(2)))
    third = asyncio.create_task(writer.write(make_rows(3)))
    await turns()
    cancelled.cancel()
    await turns()
    committer.gate.set()
    await asyncio.gather(first, third)
    assert committer.commits == [[1], [3]]


async def test_close_answers_waiting_writes_and_refuses_new_ones() -> None:
    committer = GatedCommitter()
    committer.gate.clear()
    writer = make_writer(committer, delay_seconds=3600.0)
    tasks = [asyncio.create_task(writer.write(make_rows(number))) for number in range(3)]
    await turns()
    tasks.append(asyncio.create_task(writer.write(make_rows(9))))
    await turns()
    closing = asyncio.create_task(writer.close())
    await turns()
    with pytest.raises(StorageUnavailableError, match="shutting down"):
        await writer.write(make_rows(10))
    committer.gate.set()
    await closing
    assert [task.result() for task in tasks] == [None] * 4
    assert committer.commits == [[0, 1, 2], [9]]


async def test_write_that_the_server_cut_for_its_time_is_told_as_one() -> None:
    def cut(_rows: SampleRows) -> list[Conflict]:
        raise QueryTimeoutError("query timed out in expression evaluation")

    with pytest.raises(StorageUnavailableError, match="did not finish the write in time"):
        await make_writer(GatedCommitter(cut)).write(make_rows(1))


async def test_close_of_an_idle_writer_returns() -> None:
    committer = GatedCommitter()
    await make_writer(committer).close()
    assert committer.commits == []


def rows_of(tenant: int, n_rows: int, first: int = 0) -> SampleRows:
    rows = make_rows(*range(first, first + n_rows))
    return replace(rows, tenant_ids=np.full(n_rows, tenant, np.int64))


class GroupRecorder(GatedCommitter):
    """Records how many rows of each tenant a commit has, and the first ids of its series."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[dict[int, list[int]]] = []

    async def commit(self, rows: SampleRows, changes: Sequence[LevelChange]) -> list[Conflict]:
        assert rows.tenant_ids is not None
        self.groups.append(
            {
                tenant: rows.series_ids[rows.tenant_ids == tenant].tolist()
                for tenant in np.unique(rows.tenant_ids).tolist()
            }
        )
        return await super().commit(rows, changes)


async def groups_of(writes: Sequence[SampleRows], **options: float) -> list[dict[int, list[int]]]:
    """What is committed together when these writes wait for a commit that runs."""
    committer = GroupRecorder()
    committer.gate.clear()
    writer = make_writer(committer, delay_seconds=3600.0, max_parallel=1, **options)
    tasks = [asyncio.create_task(writer.write(rows_of(0, 1)))]
    await turns()
    tasks += [asyncio.create_task(writer.write(rows)) for rows in writes]
    await turns()
    committer.gate.set()
    await asyncio.gather(*tasks)
    return committer.groups[1:]


async def test_tenant_that_sends_much_leaves_the_others_their_share() -> None:
    """Without shares the tenant with two rows would wait for all forty of the other one."""
    busy = [rows_of(1, 10, 10 * number) for number in range(4)]
    groups = await groups_of([*busy, rows_of(2, 1, 70), rows_of(2, 1, 71)], max_rows=12)
    assert groups == [
        {1: list(range(10)), 2: [70, 71]},
        {1: list(range(10, 30))},
        {1: list(range(30, 40))},
    ]


async def test_writes_as_large_as_a_group_take_turns() -> None:
    writes = [rows_of(1, 5, 10 * number) for number in range(3)] + [rows_of(2, 5, 50)]
    groups = await groups_of(writes, max_rows=5)
    assert [[*group] for group in groups] == [[1], [2], [1], [1]]


async def test_each_tenant_keeps_its_order() -> None:
    random = np.random.default_rng(5)
    tenants = random.integers(1, 5, 60).tolist()
    writes = [rows_of(tenant, 1 + at % 4, 10 * at) for at, tenant in enumerate(tenants)]
    groups = await groups_of(writes, max_rows=16)
    for tenant in range(1, 5):
        ids = [series for group in groups for series in group.get(tenant, [])]
        assert ids == sorted(ids)
        assert len(ids) == sum(len(rows) for rows in writes if rows.tenant_ids[0] == tenant)
    # As long as all of them wait, a group has rows of each.
    assert all(len(group) == 4 for group in groups[:3])
