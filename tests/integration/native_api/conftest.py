"""The native API, served in the process of the test."""

from collections.abc import AsyncIterator

import pytest

from tests.support.services.native_service import NativeClient, running_native_service


@pytest.fixture
async def native(database_url: str) -> AsyncIterator[NativeClient]:
    """A client of a service on a fresh database, of each edition in turn."""
    async with running_native_service(database_url) as client:
        yield client
