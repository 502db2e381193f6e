"""Gives the rows of a restored database the bits of their NaNs again.

PostgreSQL writes every NaN as the text `NaN`, also for pg_dump. So the column `nan_bits` of a row
has the bits of a NaN that its text would lose, and `installation` has a stale marker, which tells
whether a database went through text.
"""

import struct
from collections.abc import AsyncIterator
from typing import Final

import asyncpg

from promcompat.core.histograms.columns import HISTOGRAM_BITS
from promcompat.core.model import STALE_NAN_BITS
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("migration")
_PAGE: Final = 10_000
"""Kinds of NaN that are restored at once: stale markers, and what a hostile sender has made."""


async def restore_nan_bits(connection: asyncpg.Connection) -> int:
    """Restore all rows, unless they have their bits; returns how many had not."""
    n_restored = 0
    async with connection.transaction():
        if await connection.fetchval(_QUERIES["was_text"]):
            histogram = _float_of(HISTOGRAM_BITS)
            async for bits in _pages(connection):
                nans = [_float_of(one) for one in bits]
                asked = bits, nans, histogram
                n_restored += await connection.fetchval(_QUERIES["restore_nan_bits"], *asked)
        await connection.execute(_QUERIES["set_stale_marker"], _float_of(STALE_NAN_BITS))
    return n_restored


async def _pages(connection: asyncpg.Connection) -> AsyncIterator[list[int]]:
    """The different bits of NaNs; one page at least, for histograms, which have none."""
    last, page = -(2**63), list[int]()
    while not page or len(page) == _PAGE:
        page = await connection.fetchval(_QUERIES["nan_bits_after"], last, _PAGE)
        yield page
        if not page:
            return
        last = page[-1]


def _float_of(bits: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return value
