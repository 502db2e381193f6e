"""Statistics equal numpy's, by group and by bucket."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.histograms.columns import Histograms, histogram_cells
from promcompat.core.model import STALE_NAN_BITS, Labels, SampleBlock
from promcompat.core.native_queries import DEFAULT_PERCENTILES
from promcompat.querying.distributions import distribution_statistics
from promcompat.querying.native_histograms import native_statistics
from promcompat.querying.sample_statistics import bucket_percentiles, group_statistics
from tests.support.histograms import histogram_of

_VALUES = st.floats(allow_nan=False, allow_infinity=False, width=32)
_SERIES = st.lists(
    st.tuples(st.sampled_from("ab"), st.lists(st.tuples(st.integers(1, 40), _VALUES), max_size=8)),
    max_size=5,
)


def block_of(series: list[tuple[str, list[tuple[int, float]]]]) -> SampleBlock:
    labels, times, values, offsets = [], [], [], [0]
    for number, (group, points) in enumerate(series):
        labels.append(Labels.of({"group": group, "n": str(number)}))
        chosen = dict(sorted(points))
        times += list(chosen)
        values += list(chosen.values())
        offsets.append(len(times))
    return SampleBlock(
        tuple(labels),
        np.array(times, np.int64),
        np.array(values, np.float64),
        np.array(offsets, np.int64),
    )


def values_of(block: SampleBlock, group: str) -> np.ndarray:
    parts = [
        block.values[block.offsets[row] : block.offsets[row + 1]]
        for row, labels in enumerate(block.labels)
        if labels.get("group") == group
    ]
    return np.concatenate([np.empty(0), *parts])


@given(_SERIES)
def test_groups_have_numpys_statistics(series: list[tuple[str, list[tuple[int, float]]]]) -> None:
    block = block_of(series)
    for found in group_statistics(block, ["group"]):
        values = values_of(block, found.labels.get("group"))
        assert found.count == len(values)
        if len(values):
            assert [found.min, found.max] == [values.min(), values.max()]
            percentiles = np.percentile(values, [50, 95, 99])
            assert np.allclose([found.p50, found.p95, found.p99], percentiles, 1e-9, 1e-30)
            assert np.isclose(found.sum or 0, values.sum(), rtol=1e-12, atol=1e-300)
            assert np.isclose(found.avg or 0, values.mean(), rtol=1e-12, atol=1e-300)


@given(_SERIES, st.integers(1, 9), st.integers(-5, 20), st.sampled_from(["group", None]))
def test_buckets_have_numpys_percentiles(
    series: list[tuple[str, list[tuple[int, float]]]], bucket: int, first: int, by: str | None
) -> None:
    block = block_of(series)
    starts = first + np.arange(6, dtype=np.int64) * bucket
    group_by = None if by is None else [by]
    found = bucket_percentiles(block, group_by, starts, bucket, [50.0, 99.9])
    group_of_series = [labels if by is None else labels.only([by]) for labels in block.labels]
    seen = 0
    for group in set(group_of_series):
        of_group = np.array([labels == group for labels in group_of_series], bool)
        of_sample = np.repeat(of_group, np.diff(block.offsets))
        for column, start in enumerate(starts.tolist()):
            inside = (block.timestamps >= start) & (block.timestamps < start + bucket)
            chosen = block.values[inside & of_sample]
            if len(chosen):
                seen += 1
                row = list(found.labels).index(group)
                expected = np.percentile(chosen, [50.0, 99.9])
                assert np.allclose(found.values[:, row, column], expected, rtol=1e-9, atol=1e-30)
                assert found.present[:, row, column].all()
    assert found.present.sum() == 2 * seen


def test_stale_markers_do_not_count_and_nan_does() -> None:
    stale = np.array([STALE_NAN_BITS], np.uint64).view(np.float64)
    values = np.concatenate([stale, [1.0, np.nan]])
    block = SampleBlock(
        (Labels.of({"a": "b"}),), np.array([1, 2, 3]), values, np.array([0, 3], np.int64)
    )
    found = group_statistics(block, [])[0]
    assert found.count == 2
    assert np.isnan(found.sum or 0)
    without = SampleBlock(block.labels, block.timestamps[:2], values[:2], np.array([0, 2]))
    assert group_statistics(without, [])[0].p99 == 1.0


def test_infinities_are_values() -> None:
    values = np.array([np.inf, np.inf, -np.inf])
    block = SampleBlock(
        (Labels.of({"a": "b"}),), np.array([1, 2, 3]), values, np.array([0, 3], np.int64)
    )
    found = group_statistics(block, [])[0]
    assert (found.count, found.min, found.max) == (3, -np.inf, np.inf)
    buckets = bucket_percentiles(block, [], np.array([1]), 3, [99.0])
    assert buckets.values[0, 0, 0] == np.inf


def test_percentiles_of_a_group_are_those_of_a_bucket_with_the_same_samples() -> None:
    inf = np.inf
    runs = [[1.0, inf, inf], [-inf, 2.0, 3.0], [inf], [-inf, -inf, inf, inf], [7.0, 7.0], [-0.0]]
    block = block_of([("a", list(enumerate(values))) for values in runs])
    groups = group_statistics(block, ["n"])
    buckets = bucket_percentiles(block, ["n"], np.array([0]), 10, DEFAULT_PERCENTILES)
    found = [[group.p50, group.p95, group.p99] for group in groups]
    np.testing.assert_array_equal(np.array(found, float), buckets.values[:, :, 0].T)
    assert found[0] == [inf, inf, inf]
    # As SQL's percentile_cont: between two infinities, and at one of them.
    assert np.isnan(found[3][0] or 0)
    assert found[1][0] == 2.0


def test_each_of_many_groups_has_the_statistics_that_it_has_alone() -> None:
    random = np.random.default_rng(3)
    series = [
        ("g", [(n, float(value)) for n, value in enumerate(random.normal(size=size))])
        for size in [*random.integers(0, 12, 298), 1_500, 4_000]
    ]
    together = {found.labels.get("n"): found for found in group_statistics(block_of(series), ["n"])}
    assert len(together) == 300
    for number, one in enumerate(series):
        (alone,) = group_statistics(block_of([one]), [])
        assert replace(together[str(number)], labels=alone.labels) == alone


def test_native_histograms_count_for_nothing() -> None:
    floats = block_of([("a", [(1, 1.0), (2, 3.0)])])
    cells = histogram_cells(np.arange(2))
    mixed = replace(
        block_of([("a", [(1, 1.0), (2, 3.0)]), ("a", [(1, 0.0), (2, 0.0)])]),
        values=np.append(floats.values, cells),
        histograms=Histograms.joined([histogram_of(count=2)] * 2),
    )
    assert group_statistics(mixed, ["group"]) == group_statistics(floats, ["group"])
    arguments = ["group"], np.array([0]), 10, [50.0]
    found, wanted = (bucket_percentiles(block, *arguments) for block in (mixed, floats))
    np.testing.assert_array_equal(found.values, wanted.values)
    distributions = [
        distribution_statistics({"_sum": block}, ["group"]) for block in (mixed, floats)
    ]
    assert distributions[0] == distributions[1]


def native_block(values: np.ndarray, histograms: Histograms) -> SampleBlock:
    n = len(values)
    series, offsets = (Labels.of({"__name__": "h"}),), np.array([0, n])
    return SampleBlock(series, np.arange(n), values, offsets, histograms=histograms)


def test_resets_of_native_histograms_are_found_by_values_and_not_by_what_the_sender_says() -> None:
    before, says_reset, says_none = (
        histogram_of(hint=hint, count=count, positive_spans=[(0, 1)], positive=[count])
        for hint, count in ((0, 5), (1, 7), (2, 3))
    )
    pool = Histograms.joined([before, says_reset, says_none])
    (found,) = native_statistics(native_block(histogram_cells(np.arange(3)), pool), ())
    assert found.count == 2 + 3


def test_a_range_without_native_histograms_has_no_statistics_of_them() -> None:
    assert native_statistics(native_block(np.array([2.0]), histogram_of(count=1)), ()) == []
