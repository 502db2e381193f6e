"""Corrections that are killed at any of their statements: another process finishes them, once."""

import asyncio
from collections.abc import Mapping

import pytest

from promcompat.core.corrections import (
    CorrectionRequest,
    CorrectionState,
    DeleteSamples,
    RelabelSeries,
    ReplaceSamples,
    SampleChange,
    SampleScope,
    ScaleSamples,
)
from promcompat.core.errors import StorageUnavailableError
from promcompat.core.model import METRIC_NAME, Labels
from sql.samples.corrections import repository as corrections
from sql.samples.corrections import steps as correction_steps
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.support.factories import (
    block_rows,
    make_batch,
    make_block,
    make_labels,
    make_matcher,
    select_name,
    value_bits,
)
from tests.support.long_form import stride
from tests.support.storage.repositories import opened_storage
from tests.support.storage.statements import KilledError, Killer, killer_of_statements

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
EVER = (-(1 << 60), 1 << 60)
A, B, TARGET = (make_labels("m", host=host) for host in ("a", "b", "target"))
SCOPE = SampleScope([(make_matcher(METRIC_NAME, "=", "m"),)], T0 + 2, T0 + 7)
STORED = {labels: {at: 10.0 * at + extra for at in range(10)} for labels, extra in ((A, 1), (B, 2))}
OUTSIDE = (0, 1, 8, 9)
STRIDE = {"delete": 2, "replace": 2, "scale": 5, "move": 6}
"""A correction is killed at every so many-th statement: at each one it would take long."""

Samples = Mapping[Labels, Mapping[int, float]]
"""Values by milliseconds after T0."""


def kept_outside(labels: Labels) -> dict[int, float]:
    return {at: STORED[labels][at] for at in OUTSIDE}


CHANGES: dict[str, tuple[SampleChange, Samples]] = {
    "delete": (DeleteSamples(SCOPE), {A: kept_outside(A), B: kept_outside(B)}),
    "replace": (
        ReplaceSamples(SCOPE, make_block({A: [(T0 + 5, -1.0)]})),
        {A: kept_outside(A) | {5: -1.0}, B: kept_outside(B)},
    ),
    "scale": (
        ScaleSamples(SCOPE, 2.0, 1.0),
        {
            labels: {at: v if at in OUTSIDE else 2.0 * v + 1.0 for at, v in points.items()}
            for labels, points in STORED.items()
        },
    ),
    "move": (
        RelabelSeries(SCOPE, {"host": "target"}),
        {
            A: kept_outside(A),
            B: kept_outside(B),
            # Both become one series; the samples of the older one count.
            TARGET: {at: STORED[A][at] for at in range(2, 8)},
        },
    ),
}


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    monkeypatch.setattr(correction_steps, "_MAX_SAMPLES", 4)
    monkeypatch.setattr(corrections, "_TAKEOVER_SECONDS", 0.0)
    return killer_of_statements(monkeypatch)


async def write(storage: MetricStorage, tenant: str, samples: Samples) -> None:
    points = {
        labels: [(T0 + at, value) for at, value in found.items()]
        for labels, found in samples.items()
    }
    await storage.store.write_batch(tenant, make_batch(points))


async def check_answer(storage: MetricStorage, tenant: str, expected: Samples) -> None:
    (block,) = await storage.store.select(tenant, [select_name("m", *EVER)])
    found = {labels: dict(rows) for labels, rows in block_rows(block).items() if rows}
    assert found == {
        labels: {T0 + at: value_bits(value) for at, value in points.items()}
        for labels, points in expected.items()
    }


async def correct(storage: MetricStorage, tenant: str, change: SampleChange) -> None:
    """All that a process does for a correction until nothing is left of it."""
    repository = storage.corrections
    correction_id = await repository.begin(tenant, CorrectionRequest(change, "ann", ""))
    while await repository.advance(correction_id):
        pass


async def finish(storage: MetricStorage) -> None:
    """What another process does with the correction that it finds."""
    while (correction_id := await storage.corrections.claim()) is not None:
        while await storage.corrections.advance(correction_id):
            pass


async def is_killed(
    killer: Killer, storage: MetricStorage, tenant: str, change: SampleChange, number: int
) -> bool:
    try:
        with killer.before_statement(number):
            await correct(storage, tenant, change)
    except (KilledError, StorageUnavailableError):
        # The server ends the sessions of a killed process when it notices.
        await asyncio.sleep(0.01)
        return True
    return False


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize(
    "store", [StoreKind.BLOCKS, pytest.param(StoreKind.ROWS, marks=pytest.mark.rows)]
)
async def test_another_process_finishes_what_was_killed_at_any_statement(
    plain_database_url: str, killer: Killer, store: StoreKind, kind: str
) -> None:
    change, expected = CHANGES[kind]
    async with (
        opened_storage(plain_database_url, store=store) as first,
        opened_storage(plain_database_url, store=store) as second,
    ):
        number, was_killed, n_done = int(store is StoreKind.ROWS), True, 0
        while was_killed:
            tenant = f"tenant-{number}"
            await write(first, tenant, {A: STORED[A]})
            await first.drains.drainer.drain_all()
            await write(first, tenant, {B: STORED[B]})
            was_killed = await is_killed(killer, first, tenant, change, number)
            await finish(second)
            records, _ = await second.corrections.list(tenant, 1 << 62, 10)
            assert [one.state for one in records] in ([], [CorrectionState.DONE])
            await check_answer(second, tenant, expected if records else STORED)
            n_done += bool(records)
            number += stride(STRIDE[kind])
            assert number < 100
        assert number > 2 * STRIDE[kind]
        assert n_done >= (1 if kind in ("delete", "replace") else 3)
        await second.drains.drainer.drain_all()
        await check_answer(second, tenant, expected)
