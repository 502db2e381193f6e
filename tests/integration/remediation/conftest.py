"""What every test of remediations begins with."""

from collections.abc import AsyncIterator

import pytest

from tests.support.services.remediation import Stage, opened_stage


@pytest.fixture
async def stage(plain_database_url: str) -> AsyncIterator[Stage]:
    """A fresh database with one hot sensor, and the records of its remediations."""
    async with opened_stage(plain_database_url) as stage:
        yield stage
