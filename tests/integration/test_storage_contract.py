"""PostgresMetricRepository keeps the contract of its port on every edition."""

from collections.abc import AsyncIterator

import pytest

from sql.samples.metric_repository import PostgresMetricRepository
from tests.contract_metric_repository import MetricRepositoryContract

pytestmark = pytest.mark.integration


class TestPostgresMetricRepository(MetricRepositoryContract):
    @pytest.fixture
    async def repository(self, database_url: str) -> AsyncIterator[PostgresMetricRepository]:
        repository = await PostgresMetricRepository.open(database_url)
        yield repository
        await repository.close()
