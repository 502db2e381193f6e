"""Known series for tests of decoders: in a table, still pending, or refused."""

from collections.abc import Iterable

from promcompat.core.model import FIRST_REFUSED
from promcompat.core.series_table import (
    KnownSeries,
    PendingKeys,
    RefusedKeys,
    SeriesTable,
    SeriesTableBuilder,
)

NO_SERIES = SeriesTableBuilder(1 << 16).table
NOTHING_KNOWN = KnownSeries(NO_SERIES, 0, PendingKeys(), version=0)


def known_series(
    keys: Iterable[bytes],
    pending: Iterable[bytes] = (),
    refused: Iterable[bytes] = (),
    *,
    version: int = 0,
) -> KnownSeries:
    """These keys with the ids 100, 101, …; those pending are not in the table, from 200 on.

    Those refused have the ids FIRST_REFUSED and less, each its own.
    """
    ids = {key: 200 + number for number, key in enumerate(dict.fromkeys(pending))}
    refusals = {key: FIRST_REFUSED - number for number, key in enumerate(dict.fromkeys(refused))}
    refused_keys = (RefusedKeys(_table(refusals), 1),) if refusals else ()
    table = _table({key: 100 + number for number, key in enumerate(dict.fromkeys(keys))})
    return KnownSeries(table, 1, PendingKeys(ids), version, refused_keys)


def _table(ids: dict[bytes, int]) -> SeriesTable:
    builder = SeriesTableBuilder(1 << 20)
    builder.add(1, ids)
    return builder.table
