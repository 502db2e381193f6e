"""`decode_page`, the decoder in plain SQL, reads every page as the kernels do, to the bit."""

import asyncio
from collections.abc import Callable, Iterator

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from promcompat.core.histograms.columns import Histograms, histogram_numbers, is_histogram
from promql.values.histogram_columns import HistogramColumns
from sql.samples.codec.page_decoding import decode_pages
from sql.samples.codec.page_encoding import encode_pages
from sql.samples.codec.page_kernels import DICTIONARY_VERSION
from sql.samples.columns.series_samples import SeriesSamples
from tests.support.storage.sample_columns import (
    STALE_BITS,
    T0,
    samples_of,
    samples_with_histograms,
    series_samples,
)

pytestmark = pytest.mark.integration

SLOW = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
Columns = list[tuple[int, int, int]]
Decode = Callable[..., Columns]
Ask = Callable[..., list[asyncpg.Record]]


def columns(samples: SeriesSamples) -> Columns:
    """Rows of series id, time and value bits, in order."""
    ids = np.repeat(samples.ids, np.diff(samples.offsets))
    bits = samples.values.view(np.int64)
    return list(zip(ids.tolist(), samples.timestamps.tolist(), bits.tolist(), strict=True))


@pytest.fixture
def decode(database_url: str) -> Iterator[Decode]:
    """Calls `decode_page` with a payload and the arguments behind it."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))
        yield lambda *arguments: runner.run(_decoded(connection, *arguments))
        runner.run(connection.close())


@pytest.fixture
def ask(plain_database_url: str) -> Iterator[Ask]:
    """Asks the database anything."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(plain_database_url))
        yield lambda *question: runner.run(connection.fetch(*question))
        runner.run(connection.close())


async def _decoded(connection: asyncpg.Connection, *arguments: object) -> Columns:
    places = ", ".join(f"${k + 1}" for k in range(len(arguments)))
    rows = await connection.fetch(f"SELECT * FROM decode_page({places})", *arguments)  # noqa: S608
    return [(row[0], row[1], _bits(row[2]) if row[3] is None else row[3]) for row in rows]


def _bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


@settings(max_examples=60, suppress_health_check=SLOW)
@given(samples=series_samples())
def test_sql_decodes_what_the_kernels_decode(decode: Decode, samples: SeriesSamples) -> None:
    for page in encode_pages(samples, 1000, 1 << 20):
        assert decode(page.payload) == columns(decode_pages([page.payload])[0])


@pytest.mark.parametrize("end", [0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_sql_decodes_values_whose_bits_are_near_an_end_of_their_range(
    decode: Decode, end: int
) -> None:
    """Sums of such bits overflow in SQL, unless they are made in the right order."""
    rng = np.random.default_rng(end & 0xFFFF)
    for _ in range(100):
        n = int(rng.integers(2, 40))
        steps = rng.integers(0, 1 << int(rng.integers(1, 58)), n, np.uint64)
        rising = np.cumsum(steps, dtype=np.uint64)
        distances = rising[-1] - rising if rng.integers(2) else rng.permutation(rising)
        bits = np.uint64(end) - distances if end & 1 else np.uint64(end) + distances
        rows = [(T0 + k, number) for k, number in enumerate(bits.view(np.int64).tolist())]
        samples = samples_of([(1, rows)])
        for page in encode_pages(samples, 1000, 1 << 20):
            assert decode(page.payload) == columns(decode_pages([page.payload])[0])


@settings(max_examples=30, suppress_health_check=SLOW)
@given(samples=series_samples(), data=st.data())
def test_sql_decodes_wanted_series_and_times(
    decode: Decode, samples: SeriesSamples, data: st.DataObject
) -> None:
    wanted = _wanted(samples, data)
    times = st.sampled_from(samples.timestamps.tolist())
    first_ms, last_ms = data.draw(times), data.draw(times)
    [page] = encode_pages(samples, 10_000, 1 << 20)
    assert decode(page.payload, wanted, first_ms, last_ms) == [
        row for row in columns(samples) if row[0] in wanted and first_ms <= row[1] <= last_ms
    ]


def _wanted(samples: SeriesSamples, data: st.DataObject) -> list[int]:
    """Ids of some series of a page, and of few or many others around and between them."""
    ids = samples.ids.tolist()
    others = data.draw(st.sampled_from([[], [5], [*range(-50, 100), *(k ^ 1 for k in ids)]]))
    return sorted({*data.draw(st.sets(st.sampled_from(ids))), *others})


@pytest.mark.parametrize("n_patterns", [3, 256])
def test_sql_decodes_a_dictionary(decode: Decode, n_patterns: int) -> None:
    rng = np.random.default_rng(4)
    patterns = rng.integers(-(2**63), 2**63 - 1, n_patterns)
    patterns[:2] = STALE_BITS, 0x7FF8000000000001
    bits = patterns[np.append(np.arange(n_patterns), rng.integers(0, n_patterns, 2000))]
    rows = [(T0 + 1000 * i, b) for i, b in enumerate(bits.tolist())]
    samples = samples_of([(1, rows)])
    [page] = encode_pages(samples, 10_000, 1 << 20)
    assert page.payload[0] == DICTIONARY_VERSION
    assert decode(page.payload) == columns(samples)


@pytest.mark.parametrize("n_series", [1, 700])
def test_sql_decodes_long_pages_of_every_width(decode: Decode, n_series: int) -> None:
    rng = np.random.default_rng(3)
    for width in range(0, 63, 3):
        steps = rng.integers(0, 2**width, 700) - 2 ** max(0, width - 1)
        numbers = np.cumsum(np.cumsum(steps)) if width < 36 else steps
        bits = np.where(rng.random(700) < 0.01, STALE_BITS, numbers.astype(float).view(np.int64))
        rows = [(T0 + 1000 * i, b) for i, b in enumerate(bits.tolist())]
        series = [(1, rows)] if n_series == 1 else [(k + 1, [row]) for k, row in enumerate(rows)]
        samples = samples_of(series)
        [page] = encode_pages(samples, 10_000, 1 << 20)
        assert decode(page.payload) == columns(samples)


def test_sql_refuses_a_format_it_does_not_know(decode: Decode) -> None:
    with pytest.raises(asyncpg.DataCorruptedError, match="format 4"):
        decode(b"\x04" + bytes(60))


@settings(max_examples=20, suppress_health_check=SLOW)
@given(samples=samples_with_histograms(), data=st.data())
def test_sql_decodes_pages_with_histograms(
    ask: Ask, samples: SeriesSamples, data: st.DataObject
) -> None:
    assume(samples.histograms is not None)
    ids = np.repeat(samples.ids, np.diff(samples.offsets)).tolist()
    keys = list(zip(ids, samples.timestamps.tolist(), strict=True))
    pages = [page.payload for page in encode_pages(samples, 1000, 1 << 20)]
    rows = [row for page in pages for row in ask("SELECT * FROM decode_page($1)", page)]
    assert [(row[0], row[1]) for row in rows] == keys
    refers = is_histogram(samples.values)
    assert [row["histogram"] is not None for row in rows] == refers.tolist()
    bits = samples.values.view(np.int64)[~refers].tolist()
    floats = [row for row in rows if row["histogram"] is None]
    assert [_bits(row[2]) if row[3] is None else row[3] for row in floats] == bits
    assert samples.histograms is not None
    pool = samples.histograms.take(histogram_numbers(samples.values[refers]))
    found = [row for row in rows if row["histogram"] is not None]
    assert all(row["value"] is None and row["nan_bits"] is None for row in found)
    _assert_are([row["histogram"] for row in found], pool)
    wanted = _wanted(samples, data)
    of_wanted = [
        row for page in pages for row in ask("SELECT * FROM decode_page($1, $2)", page, wanted)
    ]
    # As texts, in which any NaN equals itself.
    assert str(of_wanted) == str([row for row in rows if row["series_id"] in wanted])


def _assert_are(found: list[asyncpg.Record], pool: Histograms) -> None:
    """Counts are float8 in SQL, and any NaN is the same."""
    own = HistogramColumns.of(pool)
    columns = {
        "count": own.counts,
        "sum": own.sums,
        "schema": own.schemas,
        "zero_threshold": own.zero_thresholds,
        "zero_count": own.zero_counts,
    }
    for name, column in columns.items():
        np.testing.assert_array_equal([one[name] for one in found], column, name)
    hints = ["unknown", "reset", "not_reset", "gauge"]
    assert [one["counter_reset_hint"] for one in found] == [hints[hint] for hint in own.hints]
    for side, buckets in (("positive", own.positive), ("negative", own.negative)):
        lengths = np.diff(buckets.offsets).tolist()
        assert [len(one[f"{side}_indexes"]) for one in found] == lengths
        indexes = [index for one in found for index in one[f"{side}_indexes"]]
        assert indexes == buckets.indices.tolist()
        counts = [count for one in found for count in one[f"{side}_counts"]]
        np.testing.assert_array_equal(counts, buckets.counts)
    bounds = [bound for one in found for bound in one["custom_bounds"]]
    assert bounds == pool.bounds.cells.tolist()
