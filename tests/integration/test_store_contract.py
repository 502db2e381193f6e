"""Every store keeps the contract of its ports on every edition."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from promcompat.core.model import WriteBatch
from promcompat.core.ports import Catalogue, Store
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.contract_store import ALL_TIME, T0, UP_A, UP_B, StoreContract
from tests.factories import block_rows, make_batch, select_name, value_bits
from tests.repositories import opened_storage

pytestmark = pytest.mark.integration


class _StoredContract(StoreContract):
    kind: StoreKind

    @pytest.fixture
    async def storage(self, database_url: str) -> AsyncIterator[MetricStorage]:
        async with opened_storage(database_url, store=self.kind) as storage:
            yield storage

    @pytest.fixture
    def store(self, storage: MetricStorage) -> Store:
        return storage.store

    @pytest.fixture
    def catalogue(self, storage: MetricStorage) -> Catalogue:
        return storage.catalogue


class TestRowStore(_StoredContract):
    kind = StoreKind.ROWS


class TestBlockStore(_StoredContract):
    """The head answers, as so few samples are never due to be drained."""

    kind = StoreKind.BLOCKS


class _Drained:
    """The block store when everything is drained and compacted at once."""

    def __init__(self, storage: MetricStorage) -> None:
        self._store, self._drains = storage.store, storage.drains

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        try:
            await self._store.write_batch(tenant, batch)
        finally:
            assert self._drains is not None
            await self._drains.drainer.drain_all()
            await self._drains.compact()


class TestDrainedBlockStore(_StoredContract):
    """Runs and blocks answer."""

    kind = StoreKind.BLOCKS

    @pytest.fixture
    def store(self, storage: MetricStorage) -> Store:
        return _Drained(storage)

    async def test_other_value_at_a_stored_time_is_rejected_and_the_rest_kept(
        self, store: Store
    ) -> None:
        """What is drained is not compared when it is written: the first value counts."""
        await store.write_batch("default", make_batch({UP_A: [(T0, 1.0)]}))
        second = {UP_A: [(T0, 2.0), (T0 + 1, 3.0)], UP_B: [(T0, 4.0)]}
        await store.write_batch("default", make_batch(second))
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert block_rows(block) == {
            UP_A: [(T0, value_bits(1.0)), (T0 + 1, value_bits(3.0))],
            UP_B: [(T0, value_bits(4.0))],
        }

    async def test_zero_and_minus_zero_conflict(self, store: Store) -> None:
        await store.write_batch("default", make_batch({UP_A: [(T0, 0.0)]}))
        await store.write_batch("default", make_batch({UP_A: [(T0, -0.0)]}))
        block = await self.select_one(store, select_name("up", *ALL_TIME))
        assert block_rows(block) == {UP_A: [(T0, value_bits(0.0))]}
