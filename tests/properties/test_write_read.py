"""What is written is read: same series, same times, same bits, first value of a time kept."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promcompat.core.errors import WriteRejectedError
from promcompat.core.model import METRIC_NAME, STALE_NAN_BITS, Labels, WriteBatch
from sql.samples.metric_storage import MetricStorage
from sql.times import YEARS_1_TO_9999
from tests.support.factories import block_rows, select_name, series_key

pytestmark = pytest.mark.integration

Row = tuple[Labels, int, int]

DAY_MS = 86_400_000
ODD_BITS = [STALE_NAN_BITS, 0x7FF8000000000001, 0xFFF8000000000001, 0x7FF0000000000000]
ODD_BITS += [0xFFF0000000000000, 0, 1 << 63, 1, 0x000F_FFFF_FFFF_FFFF, 0x7FEF_FFFF_FFFF_FFFF]
BOUNDS = YEARS_1_TO_9999
ODD_TIMES = [BOUNDS.start_ms, -1, 0, 1, DAY_MS - 1, DAY_MS, 946_684_800_000, BOUNDS.end_ms]

# Any text but NUL and surrogates, which no label in the database can have.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
label_sets = st.dictionaries(texts.filter(lambda name: name != METRIC_NAME), texts, max_size=3).map(
    lambda labels: Labels.of({**labels, METRIC_NAME: "m"})
)
bits = st.one_of(st.sampled_from(ODD_BITS), st.integers(0, 2**64 - 1))
# Few days, because each is a chunk to make; few milliseconds, so that duplicates happen.
times = st.one_of(
    st.sampled_from(ODD_TIMES),
    st.builds(lambda day, ms: day * DAY_MS + ms, st.integers(19_000, 19_003), st.integers(0, 5)),
)
batches = st.lists(label_sets, min_size=1, max_size=3, unique=True).flatmap(
    lambda series: st.lists(
        st.lists(st.tuples(st.sampled_from(series), times, bits), min_size=1, max_size=12),
        min_size=1,
        max_size=4,
    )
)
tenant_numbers = itertools.count()


def batch_of(rows: list[Row]) -> WriteBatch:
    return WriteBatch.of_keys(
        [series_key(labels) for labels, _, _ in rows],
        np.array([timestamp for _, timestamp, _ in rows], np.int64),
        np.array([value for _, _, value in rows], np.uint64).view(np.float64),
        {series_key(labels): labels for labels, _, _ in rows},
    )


def store_first(model: dict[Labels, dict[int, int]], rows: list[Row]) -> bool:
    """Put rows into the model; whether one would have overridden another."""
    conflict = False
    for labels, timestamp, value in rows:
        conflict |= model.setdefault(labels, {}).setdefault(timestamp, value) != value
    return conflict


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(written=batches)
async def test_what_is_written_is_read(storage: MetricStorage, written: list[list[Row]]) -> None:
    tenant = f"tenant {next(tenant_numbers)}"
    model: dict[Labels, dict[int, int]] = {}
    for rows in written:
        if store_first(model, rows):
            with pytest.raises(WriteRejectedError, match="overrides not allowed"):
                await storage.store.write_batch(tenant, batch_of(rows))
        else:
            await storage.store.write_batch(tenant, batch_of(rows))
    [block] = await storage.store.select(tenant, [select_name("m", -(2**62), 2**62)])
    assert block.labels == tuple(model)  # In the order of their first write.
    assert block_rows(block) == {labels: sorted(points.items()) for labels, points in model.items()}
    assert await storage.catalogue.series(tenant, [], -(2**62), 2**62, 0) == sorted(model)
