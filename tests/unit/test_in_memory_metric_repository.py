"""The fake repository keeps the contract of the port."""

import pytest

from promcompat.core.ports import MetricRepository
from tests.contract_metric_repository import MetricRepositoryContract
from tests.fakes import InMemoryMetricRepository


class TestInMemoryMetricRepository(MetricRepositoryContract):
    @pytest.fixture
    def repository(self) -> MetricRepository:
        return InMemoryMetricRepository()
