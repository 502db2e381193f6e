"""`python -m tests.benchmarks.codec_bench FILE.npz`: the sample codec on recorded samples.

The file has the arrays `offsets` (of the series), `timestamps_delta` (the differences of all
times, in ms) and `value_bits`. The samples are encoded as blocks into `sample_block` of a real
server, read back, decoded, and compared bit for bit. Pages as of arrivals and of runs are encoded
in memory. Times are CPU seconds of this process, as the machine may be shared.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import asyncpg
import numpy as np

from sql.samples.codec.page_decoding import decode_joined
from sql.samples.codec.page_encoding import Page, encode_pages
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.tables.block_table import BlockRow, Origin, block_rows
from sql.samples.tables.slots import slot_of
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer, fast_folder, run_server

MAX_SAMPLES, MAX_BYTES = 8_192, 65_536
DAY_MS = 86_400_000
T0 = 1_700_000_000_000
NEAR = Origin(1, slot_of(T0 // DAY_MS), 0, False, 1, 1, 1)
RESULT = TypeVar("RESULT")
COLUMNS = [
    "series_id", "first_ms", "last_ms", "first_arrival", "last_arrival", "deleted_through",
    "tenant_id", "slot", "n_samples", "level", "replaces", "payload",
]  # fmt: skip


def read_samples(path: Path) -> SeriesSamples:
    """The samples of a file, with ids like those of series created one after the other."""
    with np.load(path) as arrays:
        offsets = arrays["offsets"].astype(np.int64)
        times = np.cumsum(arrays["timestamps_delta"]).astype(np.int64)
        values = arrays["value_bits"].view(np.float64)
    return SeriesSamples(_new_ids(len(offsets) - 1), offsets, times, values)


def _new_ids(n: int) -> np.ndarray:
    """The ids of series of which a hundred were created in each millisecond."""
    return (np.arange(n) // 100 << 22) + np.arange(n) + (914_577 << 32)


def counters(n_series: int, n_samples: int) -> SeriesSamples:
    """Counters as of an exporter, scraped every 15 s."""
    rng = np.random.default_rng(7)
    rates = rng.integers(1, 500, (n_series, 1)) * rng.integers(5, 15, (n_series, n_samples))
    starts = T0 + np.arange(n_series) % 1000
    return SeriesSamples(
        _new_ids(n_series),
        np.arange(n_series + 1) * n_samples,
        (starts[:, None] + 15_000 * np.arange(n_samples)).ravel(),
        (np.cumsum(rates, axis=1) + rng.integers(1_000, 300_000, (n_series, 1)))
        .astype(np.float64)
        .ravel(),
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def fastest(work: Callable[[], RESULT]) -> tuple[RESULT, float]:
    """The result, and the least CPU time of three runs."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return result, min(seconds)


def report(name: str, samples: SeriesSamples, encode: Callable[[], list[Page]]) -> list[Page]:
    """Encode and decode in memory; print sizes and speeds."""
    pages, encoding = fastest(encode)
    payloads = [page.payload for page in pages]
    decoded, decoding = fastest(lambda: decode_joined(payloads))
    same = np.array_equal(decoded.values.view(np.int64), samples.values.view(np.int64))
    assert same
    assert np.array_equal(decoded.timestamps, samples.timestamps)
    n = len(samples)
    _say(
        f"{name}: {len(pages)} pages, {sum(map(len, payloads)) / n:.3f} bytes a sample, "
        f"encoded {n / encoding / 1e6:.1f} M/s, decoded {n / decoding / 1e6:.1f} M/s"
    )
    return pages


async def measure_table(url: str, pages: list[Page], samples: SeriesSamples) -> None:
    """Store pages as blocks; print bytes a sample and the speed of reading them back."""
    connection = await asyncpg.connect(url)
    try:
        days = sorted({page.first_ms // DAY_MS for page in pages})
        for day in days:
            await connection.execute("SELECT create_block_partition($1)", slot_of(day))
        records = [
            (
                BlockRow(NEAR, page).key, page.first_ms, page.last_ms, 1, 1, 0,
                1, slot_of(page.first_ms // DAY_MS), page.n_samples, 1, False, page.payload,
            )
            for page in pages
        ]  # fmt: skip
        await connection.executemany(
            f"INSERT INTO sample_block ({', '.join(COLUMNS)})"  # noqa: S608
            f" VALUES ({', '.join(f'${k + 1}' for k in range(len(COLUMNS)))})",
            records,
        )
        await connection.execute("VACUUM ANALYZE sample_block")
        await _report_table(connection, samples)
    finally:
        await connection.close()


async def _report_table(connection: asyncpg.Connection, samples: SeriesSamples) -> None:
    tables = await connection.fetch(
        "SELECT c.oid, c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'sample_block'::regclass"
    )
    sizes = [
        await connection.fetchrow(
            "SELECT pg_table_size($1::oid), pg_indexes_size($1::oid)", row["oid"]
        )
        for row in tables
    ]
    table, index = sum(row[0] for row in sizes), sum(row[1] for row in sizes)
    start = time.perf_counter()
    rows = await connection.fetch("SELECT payload FROM sample_block ORDER BY series_id, first_ms")
    fetched = time.perf_counter()
    found = decode_joined([row[0] for row in rows])
    decoded = time.perf_counter()
    assert np.array_equal(found.values.view(np.int64), samples.values.view(np.int64))
    n = len(samples)
    _say(
        f"in sample_block: {(table + index) / n:.3f} bytes a sample (table {table / n:.3f}, index "
        f"{index / n:.3f}), read {n / (decoded - start) / 1e6:.1f} M/s "
        f"(fetched in {fetched - start:.3f} s, decoded in {decoded - fetched:.3f} s)"
    )
    limit = 200
    start = time.perf_counter()
    in_sql = await connection.fetchval(
        "SELECT count(value) FROM (SELECT payload FROM sample_block LIMIT $1) AS b"
        " CROSS JOIN LATERAL decode_page(b.payload)",
        limit,
    )
    decoding = time.perf_counter() - start
    start = time.perf_counter()
    await connection.fetchval("SELECT count(*) FROM generate_series(1, $1::bigint)", in_sql)
    counting = time.perf_counter() - start
    _say(
        f"decode_page: {in_sql / decoding / 1e6:.2f} M/s; the server counts a series of as many "
        f"numbers {decoding / counting:.1f} times as fast"
    )


def main() -> None:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    samples = read_samples(parser.parse_args().file)
    report(
        "blocks of one series",
        samples,
        lambda: encode_pages(samples, MAX_SAMPLES, MAX_BYTES, per_series=True),
    )
    blocks = report("blocks", samples, lambda: [row.page for row in block_rows(NEAR, samples)])
    for name, n_series, n_samples, largest in (
        ("arrivals of one sample a series", 20_000, 1, 2_000),
        ("runs of 20 samples a series", 20_000, 20, 65_536),
    ):
        batch = counters(n_series, n_samples)
        report(name, batch, lambda batch=batch, n=largest: encode_pages(batch, n, MAX_BYTES))  # type: ignore[misc]
    with (
        tempfile.TemporaryDirectory() as on_disk,
        fast_folder(Path(on_disk)) as folder,
        run_server("timescaledb", require_component("TimescaleDB"), folder, _say) as server,
    ):
        _measure(server, blocks, samples)


def _measure(server: DatabaseServer, blocks: list[Page], samples: SeriesSamples) -> None:
    asyncio.run(measure_table(server.create_database(), blocks, samples))


if __name__ == "__main__":
    main()
