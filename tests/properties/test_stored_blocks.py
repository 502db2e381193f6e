"""Whatever is appended, deleted, drained and compacted in between, reads equal a dictionary."""

import itertools
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sql.samples.draining import compaction_plan
from sql.samples.tables import block_table
from tests.support.numbered_histograms import NUMBERED_BITS
from tests.support.storage.stored_blocks import (
    DAY_MS,
    NOW_MS,
    TODAY,
    Model,
    StoredBlocks,
    stored_blocks,
)

pytestmark = pytest.mark.integration

SERIES_PER_TENANT = 4
# Near days, days that become near when the clock moves on, and times far from all of them.
DAYS = [TODAY, TODAY, TODAY - 1, TODAY + 3, TODAY - 40, 0, 47_500]
samples = st.dictionaries(
    st.tuples(
        st.integers(1, SERIES_PER_TENANT),
        st.builds(lambda day, ms: day * DAY_MS + ms, st.sampled_from(DAYS), st.integers(0, 6)),
    ),
    st.sampled_from([0, 1, 1 << 63, 0x7FF0000000000002, 0x7FF8000000000001, 4607182418800017408])
    | NUMBERED_BITS,
    min_size=1,
    max_size=12,
)
tenants = st.integers(0, 1)
bounds = st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS), st.integers(0, 6))
steps = st.one_of(
    st.tuples(st.just("append"), tenants, samples, st.booleans()),
    st.tuples(st.just("append"), tenants, samples, st.just(False)),
    st.tuples(
        st.just("delete"),
        tenants,
        st.none() | st.sets(st.integers(1, SERIES_PER_TENANT), min_size=1),
        bounds,
    ),
    st.tuples(st.just("drain")),
    st.tuples(st.just("set aside")),
    st.tuples(st.just("retry")),
    st.tuples(st.just("compact"), st.integers(1, 6)),
    st.tuples(st.just("drop"), st.sampled_from([TODAY - 39, TODAY, TODAY + 1])),
    st.tuples(
        st.just("keep"), tenants, st.sampled_from(["", "m0", "m1"]), st.sampled_from([0, 1, 3])
    ),
    st.tuples(st.just("move")),
    st.tuples(st.just("move clock"), st.integers(-1, 3)),
    st.tuples(st.just("read"), tenants, bounds),
)
first_tenants = itertools.count(1, 2)


@pytest.fixture
async def blocks(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StoredBlocks]:
    """Blocks of three samples, pages of five and merges of two layers: everything happens often."""
    monkeypatch.setattr(block_table, "MIN_BLOCK_SAMPLES", 3)
    monkeypatch.setattr(block_table, "MAX_PAGE_SAMPLES", 5)
    monkeypatch.setattr(compaction_plan, "_LAYERS_MERGED", 2)
    async with stored_blocks(database_url, step_samples=8) as opened:
        yield opened


async def make_series(blocks: StoredBlocks, tenant_ids: Sequence[int]) -> None:
    """The series of tenants, of two metrics each."""
    async with blocks.connection() as connection:
        for tenant_id in tenant_ids:
            await connection.execute(
                "INSERT INTO tenant (id, name) VALUES ($1, $2)", tenant_id, f"tenant {tenant_id}"
            )
            await connection.executemany(
                "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)"
                " VALUES ($1::bigint, $2, $3, '{}', decode(md5($1::bigint::text), 'hex'))",
                [
                    (series_id(tenant_id, number), tenant_id, f"m{number % 2}")
                    for number in range(1, SERIES_PER_TENANT + 1)
                ],
            )


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(steps, min_size=5, max_size=40))
async def test_reads_equal_a_dictionary(
    blocks: StoredBlocks, script: list[tuple[object, ...]]
) -> None:
    first_tenant, model = next(first_tenants), Model()
    await blocks.clear()
    await make_series(blocks, (first_tenant, first_tenant + 1))
    blocks.clock.now_ms = NOW_MS
    for step in script:
        await take_step(blocks, model, first_tenant, *step)
    await blocks.drainer.drain_all()
    await blocks.compact_all()
    await blocks.aside.retry()
    await blocks.compact_all()
    for tenant in (0, 1):
        await compare(blocks, model, first_tenant + tenant)


async def take_step(
    blocks: StoredBlocks, model: Model, first_tenant: int, name: object, *args: object
) -> None:
    match name, args:
        case "append", (int(tenant), dict(new), bool(replaces)):
            new = {(series_id(first_tenant + tenant, k), ms): v for (k, ms), v in new.items()}
            await blocks.append(first_tenant + tenant, new, replaces=replaces)
            model.append(first_tenant + tenant, new, replaces=replaces)
        case "delete", (int(tenant), (set() | None) as numbers, bounds_of_deletion):
            day, last_day, ms = bounds_of_deletion
            tenant_id = first_tenant + tenant
            ids = sorted(series_id(tenant_id, k) for k in numbers) if numbers else None
            first_ms, last_ms = min(day, last_day) * DAY_MS + ms, max(day, last_day) * DAY_MS + 5
            await blocks.delete(tenant_id, ids, first_ms, last_ms)
            model.delete(tenant_id, ids, first_ms, last_ms)
        case "compact", (int(n_steps),):
            for _ in range(n_steps):
                await blocks.compactor.compact()
        case "drop", (int(day),):
            # What stays set aside is not dropped before it has been moved.
            if not (await blocks.aside.retry()).n_left:
                await blocks.drop_before(day)
                model.drop_before(day)
        case "keep", (int(tenant), str(metric), int(retention_class)):
            await blocks.keep(first_tenant + tenant, metric, retention_class)
        case "move clock", (int(days),):
            blocks.clock.now_ms += days * DAY_MS
        case "read", (int(tenant), (int(day), int(last_day), int(ms))):
            start_ms, end_ms = min(day, last_day) * DAY_MS + ms, max(day, last_day) * DAY_MS + 3
            await compare(blocks, model, first_tenant + tenant, start_ms, end_ms)
        case _:
            await move(blocks, name)


async def move(blocks: StoredBlocks, name: object) -> None:
    """What the service does by itself with what has arrived."""
    match name:
        case "drain":
            await blocks.drainer.drain()
        case "move":
            await blocks.move_one()
        case "set aside":
            await blocks.set_next_aside()
        case "retry":
            await blocks.aside.retry()


def series_id(tenant_id: int, number: int) -> int:
    return tenant_id * 10 + number


async def compare(blocks: StoredBlocks, model: Model, tenant_id: int, *bounds: int) -> None:
    wanted = [series_id(tenant_id, number) for number in range(1, SERIES_PER_TENANT + 1)]
    assert await blocks.read(tenant_id, wanted, *bounds) == model.read(tenant_id, wanted, *bounds)
