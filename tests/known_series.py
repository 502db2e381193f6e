"""Known series for tests of decoders: in a table, or still pending."""

from collections.abc import Iterable

from promcompat.core.series_table import KnownSeries, PendingKeys, SeriesTableBuilder

NO_SERIES = SeriesTableBuilder(1 << 16).table
NOTHING_KNOWN = KnownSeries(NO_SERIES, 0, PendingKeys(), version=0)


def known_series(
    keys: Iterable[bytes], pending: Iterable[bytes] = (), version: int = 0
) -> KnownSeries:
    """These keys with the ids 100, 101, …; those pending are not in the table, from 200 on."""
    builder = SeriesTableBuilder(1 << 20)
    builder.add(1, {key: 100 + number for number, key in enumerate(dict.fromkeys(keys))})
    ids = {key: 200 + number for number, key in enumerate(dict.fromkeys(pending))}
    return KnownSeries(builder.table, 1, PendingKeys(ids), version)
