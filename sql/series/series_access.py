"""How every store finds the series of what it writes, reads and deletes."""

from dataclasses import dataclass

from sql.caching.series_cache import SeriesCache
from sql.database.database import Database
from sql.series.metadata import MetadataWriter
from sql.series.reader import SeriesReader
from sql.series.resolver import SeriesResolver
from sql.series.starts import SeriesStarts


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesAccess:
    """The parts that know the series of a database."""

    database: Database
    known_keys: SeriesCache
    resolver: SeriesResolver
    reader: SeriesReader
    metadata: MetadataWriter
    starts: SeriesStarts
