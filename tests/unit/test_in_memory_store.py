"""The fake store keeps the contract of its ports."""

import pytest

from promcompat.core.ports import Catalogue, Store
from tests.support.fakes import InMemoryStore
from tests.support.storage.contract_store import StoreContract


class TestInMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return InMemoryStore()

    @pytest.fixture
    def catalogue(self, store: InMemoryStore) -> Catalogue:
        return store
