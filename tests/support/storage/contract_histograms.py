"""What every store must do with native histograms; a concrete class has the fixture `store`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from promcompat.core.errors import WriteRejectedError
from promcompat.core.histograms.columns import (
    HISTOGRAM_BITS,
    HistogramCells,
    Histograms,
    Ragged,
    histogram_numbers,
)
from promcompat.core.model import Labels, SampleBlock, WriteBatch
from promcompat.core.ports import Store
from tests.support.factories import make_batch, select_name, value_bits
from tests.support.numbered_histograms import N_NUMBERED, NUMBERED, model_bits, numbered
from tests.support.storage.contract_store import ALL_TIME, LOAD, T0, UP_A, UP_B

Points = Sequence[tuple[int, int]]
"""Unix ms and the bits of a model, see `tests.support.numbered_histograms`."""
ONE, TWO = HISTOGRAM_BITS | 1, HISTOGRAM_BITS | 2
FLOAT = value_bits(1.5)


def batch_of(series: Mapping[Labels, Points]) -> WriteBatch:
    """A batch of floats and numbered histograms."""
    bits = np.array([bits for points in series.values() for _, bits in points], np.uint64)
    times = {labels: [(at, 0.0) for at, _ in points] for labels, points in series.items()}
    cells = numbered(bits)
    return replace(make_batch(times), values=cells.values, histograms=cells.histograms)


def rows_of(block: SampleBlock) -> dict[Labels, Points]:
    """What a block holds, as `batch_of` takes it."""
    bits = model_bits(np.ascontiguousarray(block.values), block.histograms).tolist()
    rows = list(zip(block.timestamps.tolist(), bits, strict=True))
    bounds = zip(block.offsets.tolist(), block.offsets[1:].tolist(), strict=False)
    return {
        labels: rows[begin:end] for labels, (begin, end) in zip(block.labels, bounds, strict=True)
    }


def laid_out(spans: Sequence[tuple[int, int]], counts: Sequence[int], hint: int = 0) -> Histograms:
    """One histogram with these positive buckets, and else always the same."""
    cells = np.array(spans, np.int32).reshape(-1, 2)
    return replace(
        NUMBERED.take(np.array([1])),
        hints=np.array([hint], np.uint8),
        positive_spans=Ragged.of_lengths(np.array([len(spans)]), cells),
        positive=Ragged.of_lengths(np.array([len(counts)]), np.array(counts, np.int64)),
    )


class HistogramContract:
    """The behaviour promised by `promcompat.core.ports.Store`, of histograms."""

    async def stored(self, store: Store, name: str = "up") -> dict[Labels, Points]:
        (block,) = await store.select("default", [select_name(name, *ALL_TIME)])
        return rows_of(block)

    async def test_histograms_come_back_to_the_bit(self, store: Store) -> None:
        points = [(T0 + n, HISTOGRAM_BITS | n) for n in range(N_NUMBERED)]
        await store.write_batch("default", batch_of({UP_A: points, UP_B: points[::-1]}))
        assert await self.stored(store) == {UP_A: points, UP_B: points}

    async def test_a_series_has_floats_and_histograms(self, store: Store) -> None:
        points = [(T0, FLOAT), (T0 + 1, ONE), (T0 + 2, value_bits(float("nan"))), (T0 + 3, TWO)]
        await store.write_batch("default", batch_of({UP_A: points[::2], LOAD: [(T0, FLOAT)]}))
        await store.write_batch("default", batch_of({UP_A: points[1::2]}))
        assert await self.stored(store) == {UP_A: points}
        assert await self.stored(store, "load1") == {LOAD: [(T0, FLOAT)]}
        (block,) = await store.select("default", [select_name("up", T0, T0 + 2)])
        assert rows_of(block) == {UP_A: points[1:3]}

    async def test_selected_floats_have_no_histograms(self, store: Store) -> None:
        await store.write_batch("default", batch_of({UP_A: [(T0, ONE)], LOAD: [(T0, FLOAT)]}))
        (block,) = await store.select("default", [select_name("load1", *ALL_TIME)])
        assert block.histograms is None

    async def test_the_same_histogram_again_is_accepted(self, store: Store) -> None:
        await store.write_batch("default", batch_of({UP_A: [(T0, ONE), (T0 + 1, FLOAT)]}))
        await store.write_batch(
            "default", batch_of({UP_A: [(T0, ONE), (T0, ONE), (T0 + 1, FLOAT)]})
        )
        assert await self.stored(store) == {UP_A: [(T0, ONE), (T0 + 1, FLOAT)]}

    async def test_floats_whose_bits_are_those_of_histograms_become_nan(self, store: Store) -> None:
        batch = make_batch({UP_A: [(T0, 0.0)]})
        values = np.array([HISTOGRAM_BITS | 5], np.uint64).view(np.float64)
        await store.write_batch("default", replace(batch, values=values))
        batch = batch_of({UP_A: [(T0 + 1, ONE)], UP_B: [(T0, ONE)]})
        batch.values.view(np.uint64)[0] = HISTOGRAM_BITS | 2
        await store.write_batch("default", batch)
        nan = value_bits(float("nan")) | 1
        assert await self.stored(store) == {
            UP_A: [(T0, nan), (T0 + 1, nan)],
            UP_B: [(T0, ONE)],
        }

    async def test_a_histogram_that_no_page_can_have_is_refused_alone(self, store: Store) -> None:
        n = (1 << 18) + 1
        spans = np.array([[0, n]], np.int32)
        large = replace(
            NUMBERED.take(np.array([1])),
            positive_spans=Ragged.of_lengths(np.ones(1, np.int64), spans),
            positive=Ragged.of_lengths(np.array([n]), np.zeros(n, np.int64)),
        )
        batch = batch_of({UP_A: [(T0, ONE), (T0 + 1, FLOAT)], UP_B: [(T0, ONE)]})
        first = int(histogram_numbers(batch.values[:1])[0])
        pool = [large, NUMBERED.take(np.array([1]))]
        batch = replace(batch, histograms=Histograms.joined(pool if first == 0 else pool[::-1]))
        with pytest.raises(WriteRejectedError, match="histogram has too many buckets"):
            await store.write_batch("default", batch)
        assert await self.stored(store) == {UP_A: [(T0 + 1, FLOAT)], UP_B: [(T0, ONE)]}


class HistogramConflicts(HistogramContract):
    """What stores that compare with stored samples refuse besides."""

    @pytest.mark.parametrize(
        ("stored", "new", "text"),
        [
            (ONE, TWO, "^duplicate sample for timestamp$"),
            (FLOAT, ONE, "^duplicate sample for timestamp$"),
            (
                ONE,
                FLOAT,
                f"^duplicate sample for timestamp {T0}; overrides not allowed: "
                "existing is a histogram, new value 1.5$",
            ),
        ],
    )
    async def test_another_sample_at_a_stored_time_is_refused(
        self, store: Store, stored: int, new: int, text: str
    ) -> None:
        await store.write_batch("default", batch_of({UP_A: [(T0, stored)]}))
        with pytest.raises(WriteRejectedError, match=text):
            await store.write_batch("default", batch_of({UP_A: [(T0, new)], UP_B: [(T0, TWO)]}))
        assert await self.stored(store) == {UP_A: [(T0, stored)], UP_B: [(T0, TWO)]}
        with pytest.raises(WriteRejectedError, match=text.replace(str(T0), str(T0 + 1))):
            await store.write_batch("default", batch_of({UP_A: [(T0 + 1, stored), (T0 + 1, new)]}))

    async def test_equal_histograms_may_have_other_hints_spans_and_empty_buckets(
        self, store: Store
    ) -> None:
        layouts = (
            ([(2, 3)], [1, 2, 3]),
            ([(2, 1), (0, 2)], [1, 2, 3]),
            ([(0, 7)], [0, 0, 1, 2, 3, 0, 0]),
            ([(2, 3), (4, 1)], [1, 2, 3, 0]),
        )
        for hint, (spans, counts) in enumerate(layouts):
            batch = batch_of({UP_A: [(T0, ONE)]})
            same = laid_out(spans, counts, hint)
            await store.write_batch("default", replace(batch, histograms=same))
        (block,) = await store.select("default", [select_name("up", *ALL_TIME)])
        cells = HistogramCells(block.values, block.histograms).compacted()
        assert isinstance(cells.histograms, Histograms)
        assert cells.histograms.positive_spans.cells.tolist() == [[2, 3]]

    @pytest.mark.parametrize(
        ("spans", "counts"), [([(3, 3)], [1, 2, 3]), ([(2, 3)], [1, 2, 4]), ([(2, 2)], [1, 2])]
    )
    async def test_histograms_with_other_populated_buckets_differ(
        self, store: Store, spans: Sequence[tuple[int, int]], counts: Sequence[int]
    ) -> None:
        batch = batch_of({UP_A: [(T0, ONE)]})
        first = laid_out([(2, 3)], [1, 2, 3])
        await store.write_batch("default", replace(batch, histograms=first))
        other = replace(batch, histograms=laid_out(spans, counts))
        with pytest.raises(WriteRejectedError, match="duplicate sample for timestamp"):
            await store.write_batch("default", other)
