"""The HTTP application over the in-memory store."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from promcompat.core.ports import Store
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import Service, running_service

StartService = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start_service() -> AsyncIterator[StartService]:
    """Starts applications with chosen settings and repositories."""
    async with AsyncExitStack() as stack:

        async def start(store: Store | None = None, **options: Any) -> Service:
            stored = InMemoryStore() if store is None else store
            return await stack.enter_async_context(running_service(stored, **options))

        yield start


@pytest.fixture
async def service(start_service: StartService) -> Service:
    """One application with the default settings."""
    return await start_service()
