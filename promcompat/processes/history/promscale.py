"""A Promscale as a source of `promcompat import`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from promcompat.core.matchers import LabelMatcher
from promcompat.imports.tsdb.blocks import join
from promcompat.processes.history.blocks import window_of
from promcompat.processes.history.sources import Source, Window
from sql.promscale import PromscaleReader, opened_promscale


@dataclass(frozen=True, slots=True)
class PromscaleSource(Source):
    """The database of a Promscale."""

    reader: PromscaleReader

    async def read(self, start_ms: int, end_ms: int) -> Window:
        """See the port."""
        parts = await self.reader.read(start_ms, end_ms)
        return await asyncio.to_thread(lambda: window_of(join(parts)))


@asynccontextmanager
async def promscale_source(
    dsn: str, matchers: tuple[LabelMatcher, ...]
) -> AsyncIterator[PromscaleSource]:
    """The source, while its connection is open. Raises PromcompatError."""
    async with opened_promscale(dsn, matchers) as reader:
        yield PromscaleSource(reader)
