"""The table of the row store: one sample a row, in a hypertable or in partitions of a day."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.errors import DatabaseRefusedError
from promcompat.core.histograms.columns import (
    HISTOGRAM_BITS,
    Ragged,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.model import BoolArray, IntArray
from sql.database.connection_pool import Connection
from sql.database.copy_format import (
    SampleRows,
    encode_numbered_samples,
    encode_samples,
    encode_wide_samples,
)
from sql.query_loader import load_queries
from sql.samples.codec.histogram_rows import encode_histogram_rows
from sql.times import MS_PER_DAY

SAMPLE_TABLE: Final = "sample"
SAMPLE_COLUMNS: Final = ("series_id", "ts", "value")
_WIDE_COLUMNS: Final = (*SAMPLE_COLUMNS, "histogram")
_MARKED_COLUMNS: Final = (*SAMPLE_COLUMNS, "nan_bits")
STAGING_TABLE: Final = "sample_staging"
TEXT_NAN_BITS: Final = np.uint64(0x7FF8 << 48)
"""What PostgreSQL reads the text `NaN` as."""
_QUERIES: Final = load_queries("samples")
_DAYS_PER_TRANSACTION: Final = 64
"""Each new table takes a handful of the server's lock slots until its transaction ends."""


async def is_partitioned(connection: Connection) -> bool:
    """Whether the table has plain partitions, which its writers create; else it is a hypertable.

    Raises DatabaseRefusedError when it is neither: a dump that was restored without TimescaleDB's
    two functions leaves an empty plain table, which would go unnoticed.
    """
    table = await connection.fetchrow(_QUERIES["sample_table"])
    kind = None if table is None else table["kind"]
    if kind == b"p":
        return True
    may_be_hypertable = kind == b"r" and table["has_timescaledb"]
    if may_be_hypertable and await connection.fetchval(_QUERIES["is_hypertable"]):
        return False
    raise DatabaseRefusedError(
        "the table promcompat.sample is not a hypertable and has no partitions: the database was "
        "restored incompletely. Restore the backup again as described in "
        "docs/operations/backups.md, with timescaledb_pre_restore() before and "
        "timescaledb_post_restore() after it"
    )


def encode_rows(rows: SampleRows) -> Iterator[tuple[Sequence[str], bytes]]:
    """Rows as COPY streams, each with its columns.

    NaNs whose bits a dump would lose have a stream of their own, with the column `nan_bits`.
    """
    is_marked = _loses_bits_as_text(rows)
    if not is_marked.any():
        yield _encode_unmarked(rows)
        return
    marked = rows.take(np.flatnonzero(is_marked))
    yield _MARKED_COLUMNS, encode_numbered_samples(marked, marked.bits.view(np.int64))
    if not is_marked.all():
        yield _encode_unmarked(rows.take(np.flatnonzero(~is_marked)))


def _loses_bits_as_text(rows: SampleRows) -> BoolArray:
    """Which values are NaNs that PostgreSQL's text, which is `NaN`, does not bring back."""
    values = rows.bits.view(np.float64)
    loses: BoolArray = np.isnan(values) & (rows.bits != TEXT_NAN_BITS)
    return loses if rows.histograms is None else loses & ~is_histogram(values)


def _encode_unmarked(rows: SampleRows) -> tuple[Sequence[str], bytes]:
    """There is a column for histograms if rows have any."""
    values = rows.bits.view(np.float64)
    if rows.histograms is None or not (refers := is_histogram(values)).any():
        return SAMPLE_COLUMNS, encode_samples(rows)
    numbers = histogram_numbers(values[refers])
    encoded, lengths = encode_histogram_rows(rows.histograms.take(numbers))
    row_lengths = np.zeros(len(rows), np.int64)
    row_lengths[refers] = lengths
    # What a cell refers to stands beside it, so every one is the same.
    bits = np.where(refers, np.uint64(HISTOGRAM_BITS), rows.bits)
    histograms = Ragged.of_lengths(row_lengths, np.frombuffer(encoded, np.uint8))
    return _WIDE_COLUMNS, encode_wide_samples(replace(rows, bits=bits), histograms)


def unix_days(timestamps: IntArray) -> IntArray:
    """The distinct days of Unix ms timestamps, ascending, as days since 1970-01-01."""
    return distinct(timestamps // MS_PER_DAY)


class SamplePartitions:
    """The days that are known to have a partition, on plain PostgreSQL."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def has_all(self, days: IntArray) -> bool:
        """Whether all of these days are known to have a partition."""
        return self._known.issuperset(days.tolist())

    async def ensure(self, connection: Connection, days: IntArray) -> None:
        """Create the missing ones, in separate transactions; other processes may do the same."""
        missing = [day for day in days.tolist() if day not in self._known]
        for start in range(0, len(missing), _DAYS_PER_TRANSACTION):
            chunk = missing[start : start + _DAYS_PER_TRANSACTION]
            await connection.execute(_QUERIES["create_sample_partitions"], chunk)
            self._known.update(chunk)

    def forget(self) -> None:
        """Look again for every day: somebody dropped a partition."""
        self._known.clear()
