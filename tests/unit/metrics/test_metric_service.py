"""The rules of MetricService, over the in-memory store."""

import pytest

from promcompat.core.errors import WriteRejectedError
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits
from promcompat.core.model import Labels, MetricMetadata
from promcompat.core.ports import ALL_TIME_MS
from promcompat.metrics.metric_service import MetricService
from promcompat.querying.query_service import TRUNCATION_WARNING
from tests.support.factories import (
    block_rows,
    make_batch,
    make_labels,
    make_matcher,
    select_name,
)
from tests.support.fakes import InMemoryStore

NOW = 1_700_000_000_000
TEN_MINUTES = 600_000


def make_service(store: InMemoryStore, max_future_ms: int = TEN_MINUTES) -> MetricService:
    limits = Limits(SameLimits(TenantLimits(creation_grace_period=max_future_ms)))
    return MetricService(store, store, limits=limits, now_ms=lambda: NOW)


async def stored(store: InMemoryStore) -> dict[Labels, list[tuple[int, int]]]:
    (block,) = await store.select("t", [select_name("m", *ALL_TIME_MS)])
    return block_rows(block)


async def test_samples_too_far_in_the_future_are_rejected_and_the_others_stored() -> None:
    store = InMemoryStore()
    limit = NOW + TEN_MINUTES
    batch = make_batch({make_labels("m"): [(limit + 1, 1.0), (limit, 2.0), (5, 3.0)]})
    with pytest.raises(WriteRejectedError) as caught:
        await make_service(store).write("t", batch)
    assert str(caught.value) == "out of bounds: timestamp is too far in the future"
    (rows,) = (await stored(store)).values()
    assert [time for time, _ in rows] == [5, limit]


async def test_a_batch_wholly_in_the_future_stores_its_metadata() -> None:
    store = InMemoryStore()
    metadata = [MetricMetadata("m", "gauge", "", "")]
    batch = make_batch({make_labels("m"): [(NOW * 2, 1.0)]}, metadata)
    with pytest.raises(WriteRejectedError):
        await make_service(store).write("t", batch)
    assert await stored(store) == {}
    assert await store.metadata("t", None) == metadata


async def test_without_a_bound_any_future_is_stored() -> None:
    store = InMemoryStore()
    batch = make_batch({make_labels("m"): [(NOW * 2, 1.0)]})
    await make_service(store, max_future_ms=0).write("t", batch)
    assert len(await stored(store)) == 1


async def test_lists_are_cut_to_the_limit_with_a_warning() -> None:
    store = InMemoryStore()
    await store.write_batch(
        "t", make_batch({make_labels("m", a=str(i)): [(5, 1.0)] for i in range(3)})
    )
    service = make_service(store)
    sets = [(make_matcher("__name__", "=", "m"),)]
    cut = await service.series("t", sets, 0, 9, 2)
    assert [labels.get("a") for labels in cut.items] == ["0", "1"]
    assert cut.warnings == (TRUNCATION_WARNING,)
    for limit in (0, 3, 4):
        whole = await service.series("t", sets, 0, 9, limit)
        assert (len(whole.items), whole.warnings) == (3, ())
    values = await service.label_values("t", "a", sets, 0, 9, 1)
    assert (values.items, values.warnings) == (["0"], (TRUNCATION_WARNING,))
    names = await service.label_names("t", [], 0, 9, 1)
    assert (names.items, names.warnings) == (["__name__"], (TRUNCATION_WARNING,))
