"""Every store keeps the contract of its ports on every edition."""

from collections.abc import AsyncIterator
from typing import cast

import pytest

from promcompat.core.ports import Catalogue, Store
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.support.factories import block_rows, make_batch, select_name, value_bits
from tests.support.storage.contract_histograms import HistogramConflicts, HistogramContract
from tests.support.storage.contract_store import ALL_TIME, T0, UP_A, UP_B, StoreContract
from tests.support.storage.repositories import DrainedStore, opened_storage

pytestmark = pytest.mark.integration


class _Stored:
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


class _StoredContract(_Stored, StoreContract):
    pass


class TestHistogramsOfHead(_Stored, HistogramConflicts):
    """Histograms in the head, which compares them when they are written."""

    kind = StoreKind.BLOCKS


class TestDrainedHistograms(_Stored, HistogramContract):
    """Histograms in runs and blocks."""

    kind = StoreKind.BLOCKS

    @pytest.fixture
    def store(self, storage: MetricStorage) -> Store:
        return cast(Store, DrainedStore(storage))


class TestDrainedHistogramRows(TestDrainedHistograms):
    """Histograms in rows."""

    kind = StoreKind.ROWS


class TestHeadOfBlocks(_StoredContract):
    """The head answers, as so few samples are never due to be drained."""

    kind = StoreKind.BLOCKS


class TestHeadOfRows(_StoredContract):
    """The same with the other store."""

    kind = StoreKind.ROWS


class _DrainedContract(_StoredContract):
    @pytest.fixture
    def store(self, storage: MetricStorage) -> Store:
        return cast(Store, DrainedStore(storage))

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


class TestDrainedBlocks(_DrainedContract):
    """Runs and blocks answer."""

    kind = StoreKind.BLOCKS


class TestDrainedRows(_DrainedContract):
    """Rows answer."""

    kind = StoreKind.ROWS
