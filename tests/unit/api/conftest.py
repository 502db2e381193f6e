"""The HTTP application over the in-memory repository."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from promcompat.core.ports import MetricRepository
from tests.fakes import InMemoryMetricRepository
from tests.http_service import Service, running_service

StartService = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start_service() -> AsyncIterator[StartService]:
    """Starts applications with chosen settings and repositories."""
    async with AsyncExitStack() as stack:

        async def start(repository: MetricRepository | None = None, **options: Any) -> Service:
            stored = InMemoryMetricRepository() if repository is None else repository
            return await stack.enter_async_context(running_service(stored, **options))

        yield start


@pytest.fixture
async def service(start_service: StartService) -> Service:
    """One application with the default settings."""
    return await start_service()
