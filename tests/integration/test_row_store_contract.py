"""The row store keeps the contract of its ports on every edition."""

from collections.abc import AsyncIterator

import pytest

from promcompat.core.ports import Catalogue, Store
from sql.samples.metric_storage import MetricStorage
from tests.contract_store import StoreContract

pytestmark = pytest.mark.integration


class TestRowStore(StoreContract):
    @pytest.fixture
    async def storage(self, database_url: str) -> AsyncIterator[MetricStorage]:
        storage = await MetricStorage.open(database_url)
        yield storage
        await storage.close()

    @pytest.fixture
    def store(self, storage: MetricStorage) -> Store:
        return storage.store

    @pytest.fixture
    def catalogue(self, storage: MetricStorage) -> Catalogue:
        return storage.catalogue
