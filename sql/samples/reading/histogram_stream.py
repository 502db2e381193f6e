"""Histograms of rows as they come from the database, and the samples that they belong to."""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.histograms.columns import histogram_cells, is_histogram
from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection
from sql.database.statements import Statement
from sql.samples.codec.histogram_rows import decode_histogram_rows
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.reading.allowance import SampleAllowance, copy_out

_HEADER_BYTES: Final = 19
_FIELDS: Final = 4
_LENGTH: Final = struct.Struct(">i")
_FIELD_COUNT: Final = struct.Struct(">h")


async def with_histograms(
    connection: Connection,
    samples: SeriesSamples,
    allowance: SampleAllowance,
    statement_of: Callable[[IntArray, IntArray], Statement],
) -> SeriesSamples:
    """Samples with the histograms of which rows have only a mark in the column of values.

    `statement_of` makes the statement that reads those of some samples, of given series and times;
    its rows are those of `histograms_statement`. Raises what the allowance raises, and
    StorageUnavailableError if one of them is missing or damaged.
    """
    keys = _marked(samples)
    if keys is None:
        return samples
    decoder = _HistogramDecoder()
    allowance.watch_histograms(decoder)
    await copy_out(connection, statement_of(*keys), decoder, allowance)
    joined = await asyncio.to_thread(decoder.joined_to, samples, *keys)
    allowance.add_histograms([joined])
    allowance.check()
    return joined


def _marked(samples: SeriesSamples) -> tuple[IntArray, IntArray] | None:
    """Series and time of each sample that is a histogram, in their order; None if none is."""
    refers = is_histogram(samples.values)
    if not refers.any():
        return None
    ids = np.repeat(samples.ids, np.diff(samples.offsets))
    return ids[refers], samples.timestamps[refers]


class _HistogramDecoder:
    """Collects the COPY stream of `histograms_statement`; it counts bytes, but no more samples."""

    __slots__ = ("_chunks", "n_bytes")

    n_rows = 0

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.n_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        self._chunks.append(chunk)
        self.n_bytes += len(chunk)

    def joined_to(self, samples: SeriesSamples, ids: IntArray, times: IntArray) -> SeriesSamples:
        """The samples with their histograms, which are those of these series and times, in order.

        Raises StorageUnavailableError if one of them is missing or damaged.
        """
        rows = self._rows()
        found_ids = np.repeat([row[0] for row in rows], [len(row[1]) // 8 for row in rows])
        found_times = np.frombuffer(b"".join(row[1] for row in rows), ">i8").astype(np.int64)
        lengths = np.frombuffer(b"".join(row[2] for row in rows), ">i4").astype(np.int64)
        histograms = decode_histogram_rows(b"".join(row[3] for row in rows), lengths)
        order = np.lexsort((found_times, found_ids))
        is_complete = np.array_equal(found_ids[order], ids)
        if not is_complete or not np.array_equal(found_times[order], times):
            raise StorageUnavailableError("rows of histograms are stored without their histograms")
        values = samples.values.copy()
        values[is_histogram(values)] = histogram_cells(np.arange(len(order)))
        return replace(samples, values=values, histograms=histograms.take(order))

    def _rows(self) -> list[tuple[int, bytes, bytes, bytes]]:
        """The rows of the stream: series id, times, lengths, histograms. Few, one for each day."""
        stream = b"".join(self._chunks)
        self._chunks = []
        rows, at = [], _HEADER_BYTES
        while _FIELD_COUNT.unpack_from(stream, at)[0] == _FIELDS:
            at += _FIELD_COUNT.size
            fields = []
            for _ in range(_FIELDS):
                begin = at + _LENGTH.size
                at = begin + _LENGTH.unpack_from(stream, at)[0]
                fields.append(stream[begin:at])
            rows.append((int.from_bytes(fields[0], signed=True), *fields[1:]))
        return rows  # type: ignore[return-value]
