"""A writer, a drainer, a merger and two queries, paused between any two of their statements.

An answer has everything that was acknowledged before its question, and nothing that was not sent
before its end; afterwards the samples are those of a model in memory, bit for bit.
"""

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sql.samples.draining import compaction_plan
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.support.storage.repositories import opened_storage
from tests.support.storage.statements import StatementSchedule, pause_before_statements
from tests.support.storage.storage_processes import (
    Row,
    Rows,
    ask_samples,
    ask_selections,
    write_rows,
)

pytestmark = pytest.mark.integration

SERIES: Final = range(3)
START_MS: Final = 1_700_000_000_000
ALL: Final = (-(1 << 60), 1 << 60)
_tenants = itertools.count()

rows = st.tuples(
    st.sampled_from(SERIES),
    st.integers(0, 5).map(lambda number: START_MS + number),
    st.sampled_from([0, 1 << 63, 0x3FF8000000000000]),
)
batches = st.lists(st.lists(rows, min_size=1, max_size=4), min_size=1, max_size=4)
choices = st.lists(st.integers(0, 4), max_size=80)


@dataclass(slots=True)
class Model:
    """The samples that were sent, and how many batches of them were acknowledged."""

    batches: list[list[Row]]
    n_sent: int = 0
    n_acknowledged: int = 0
    faults: list[str] = field(default_factory=list)

    def samples(self, n_batches: int) -> dict[tuple[int, int], int]:
        """What is stored after so many batches: the first sample of a time."""
        found: dict[tuple[int, int], int] = {}
        for series, time_ms, bits in itertools.chain(*self.batches[:n_batches]):
            found.setdefault((series, time_ms), bits)
        return found

    def check(self, answer: Rows, n_before: int) -> None:
        """Note what an answer lacks or must not have."""
        found = {(series, time_ms): b for series, row in answer.items() for time_ms, b in row}
        before, after = self.samples(n_before), self.samples(self.n_sent)
        if not before.items() <= found.items() <= after.items():
            self.faults.append(f"{found} is not between {before} and {after}")
        if len(found) != sum(map(len, answer.values())):
            self.faults.append(f"{answer} has samples twice")


@dataclass(frozen=True, slots=True)
class Processes:
    """As many storages on one database. The head of `forgetful` has room for no sample."""

    writer: MetricStorage
    drainer: MetricStorage
    merger: MetricStorage
    asked: MetricStorage
    forgetful: MetricStorage

    async def write(self, tenant: str, model: Model) -> None:
        """Send one batch after the other."""
        for batch in model.batches[model.n_acknowledged :]:
            model.n_sent += 1
            await write_rows(self.writer, tenant, batch)
            model.n_acknowledged += 1

    async def drain(self) -> None:
        """Two drains."""
        for _ in range(2):
            await self.drainer.drains.drainer.drain()

    async def merge(self) -> None:
        """Two steps of compaction."""
        for _ in range(2):
            await self.merger.drains.compactor.compact()

    async def ask(self, storage: MetricStorage, tenant: str, model: Model) -> None:
        """Ask twice."""
        for _ in range(2):
            n_before = model.n_acknowledged
            model.check(await ask_samples(storage, tenant, SERIES, *ALL), n_before)


@pytest.fixture
async def processes(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Processes]:
    monkeypatch.setattr(compaction_plan, "_LAYERS_MERGED", 2)
    pause_before_statements(monkeypatch)
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(
                opened_storage(
                    plain_database_url, store=StoreKind.BLOCKS, max_head_bytes=max_head_bytes
                )
            )
            for max_head_bytes in (*[1 << 20] * 4, 1)
        ]
        yield Processes(*opened)


LATER: Final = [[(0, START_MS, 0), (1, START_MS, 1 << 63)], [(0, START_MS + 1, 0)]]


@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches, choices)
@example(LATER, [])
@example(LATER, [4, 3, 2, 1, 0] * 16)
async def test_any_order_of_statements_answers_as_the_model(
    processes: Processes, sent: list[list[Row]], order: list[int]
) -> None:
    tenant, model = f"tenant-{next(_tenants)}", Model([LATER[0], *sent])
    await processes.write(tenant, Model([LATER[0]]))
    await processes.drain()
    await processes.write(tenant, Model([LATER[0]]))  # Repeated, so it is an arrival once more.
    model.n_sent = model.n_acknowledged = 1
    await StatementSchedule(order).run(
        processes.write(tenant, model),
        processes.drain(),
        processes.merge(),
        processes.ask(processes.asked, tenant, model),
        processes.ask(processes.forgetful, tenant, model),
    )
    assert not model.faults
    model.check(await ask_samples(processes.asked, tenant, SERIES, *ALL), len(model.batches))
    await processes.drain()
    model.check(await ask_samples(processes.asked, tenant, SERIES, *ALL), len(model.batches))
    assert not model.faults


async def test_a_drain_between_two_statements_of_a_question_hides_nothing(
    processes: Processes,
) -> None:
    """The head of the process that is asked has no room for samples.

    So its question reads undrained arrivals and pages in two statements, while a drain moves
    samples from one to the other.
    """
    for n_statements in range(10):
        tenant, model = f"tenant-{next(_tenants)}", Model(LATER)
        await processes.write(tenant, Model([LATER[0]]))
        await processes.drain()
        await processes.ask(processes.forgetful, tenant, Model([LATER[0]]))
        await processes.write(tenant, Model([LATER[1]]))
        model.n_sent = model.n_acknowledged = len(LATER)
        await StatementSchedule([0] * n_statements + [1] * 60).run(
            processes.ask(processes.forgetful, tenant, model), processes.drain()
        )
        assert not model.faults, n_statements


IN_BOTH: Final = [[(series, START_MS + n, 0) for series in (0, 1)] for n in range(3)]


@pytest.mark.parametrize("name", ["asked", "forgetful"])
async def test_a_batch_that_is_drained_during_a_question_is_in_all_selections_or_in_none(
    processes: Processes, name: str
) -> None:
    """Fails when the question's transaction is only READ COMMITTED (forgetful).

    Without a transaction (asked), it fails when pages are not compared with the head's view.
    """
    asked = getattr(processes, name)
    for n_statements in range(12):
        tenant, model = f"tenant-{next(_tenants)}", Model(IN_BOTH[:1])
        await processes.write(tenant, model)
        await processes.drain()
        await processes.ask(asked, tenant, model)
        model.batches.append(IN_BOTH[1])
        await processes.write(tenant, model)
        model.batches.append(IN_BOTH[2])
        answers: list[list[Rows]] = []

        async def ask(tenant: str = tenant, answers: list[list[Rows]] = answers) -> None:
            answers.append(await ask_selections(asked, tenant, [[0], [1]], *ALL))

        async def write(tenant: str = tenant, model: Model = model) -> None:
            await processes.write(tenant, model)
            await processes.drain()

        await StatementSchedule([0] * n_statements + [1] * 80).run(ask(), write())
        [[first, second]] = answers
        assert first[0] == second[1], n_statements
        assert len(first[0]) >= 2
