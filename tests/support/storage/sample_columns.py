"""Samples of series for tests of pages, runs and blocks: by hand, or drawn by Hypothesis."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from promcompat.core.histograms.columns import histogram_cells, without_histogram_bits
from sql.samples.codec.page_kernels import MAX_MS, MIN_MS
from sql.samples.columns.series_samples import SeriesSamples
from tests.support.numbered_histograms import histogram_pools

STALE_BITS = 0x7FF0000000000002
T0 = 1_700_000_000_000


def samples_of(series: Iterable[tuple[int, Sequence[tuple[int, int]]]]) -> SeriesSamples:
    """Samples from ascending `(id, [(Unix ms, value bits), …])`, without series that have none."""
    present = [(number, rows) for number, rows in series if rows]
    counts = [len(rows) for _, rows in present]
    rows = [row for _, of_series in present for row in of_series]
    return SeriesSamples(
        np.array([number for number, _ in present], np.int64),
        np.append(0, np.cumsum(counts)).astype(np.int64),
        np.array([time for time, _ in rows], np.int64),
        np.array([bits for _, bits in rows], np.int64).view(np.float64),
    )


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def _bits_of(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _decimal(number: int, exponent: int) -> int:
    return _bits_of(number / 10**exponent)


def value_columns(n: int) -> SearchStrategy[list[int]]:
    """The bits of `n` values, of one kind with odd ones between."""
    size = {"min_size": n, "max_size": n}
    decimals = st.integers(0, 12).flatmap(
        lambda e: st.lists(st.builds(_decimal, st.integers(-(10**9), 10**9), st.just(e)), **size)
    )
    steady = st.builds(
        lambda first, steps: [_bits_of(float(x)) for x in first + np.cumsum(steps)],
        st.integers(-(2**52), 2**52),
        st.lists(st.integers(-3, 300) | st.just(10**6), **size),
    )
    floats = st.lists(st.floats().map(_bits_of), **size)
    patterns = st.lists(st.integers(0, 2**64 - 1).map(_signed), **size)
    constant = st.floats().map(lambda value: [_bits_of(value)] * n)
    few = st.lists(st.integers(0, 2**64 - 1).map(_signed), min_size=1, max_size=9).flatmap(
        lambda found: st.lists(st.sampled_from(found), **size)
    )
    odd = st.sampled_from([STALE_BITS, _bits_of(-0.0), _bits_of(float("inf")), _bits_of(1e300)])
    kinds = st.one_of(decimals, steady, floats, patterns, few, constant)
    return st.builds(_with_odd, kinds, st.lists(st.tuples(st.integers(0, n - 1), odd), max_size=2))


def _with_odd(bits: list[int], odd: list[tuple[int, int]]) -> list[int]:
    replaced = dict(odd)
    return [replaced.get(i, pattern) for i, pattern in enumerate(bits)]


def time_columns(n: int) -> SearchStrategy[list[int]]:
    """`n` ascending times: regular ones, with deviations and gaps, or any."""
    regular = st.builds(
        lambda first, step, moves: sorted({first + step * i + m for i, m in enumerate(moves)}),
        st.sampled_from([T0, -T0, 0, MIN_MS + 10**6]),
        st.integers(10, 60_000),
        st.lists(st.integers(0, 9) | st.just(0), min_size=n, max_size=n),
    )
    scattered = st.sets(st.integers(MIN_MS, MAX_MS), min_size=n, max_size=n).map(sorted)
    return regular | scattered


@st.composite
def series_samples(draw: st.DrawFn, max_series: int = 12, max_samples: int = 150) -> SeriesSamples:
    """At least one sample of up to `max_series` series, which may share their times."""
    near = st.integers(1, 50)
    anywhere = st.integers(-(2**63), 2**63 - 1)
    ids = draw(st.sets(near | anywhere, min_size=1, max_size=max_series))
    most = st.sampled_from([1, 3, max_samples])
    lengths = st.integers(1, draw(most))
    times = draw(lengths.flatmap(time_columns))
    series = []
    for number in sorted(ids):
        if draw(st.booleans()):
            times = draw(lengths.flatmap(time_columns))
        bits = draw(value_columns(len(times)))
        series.append((number, list(zip(times, bits, strict=True))))
    return samples_of(series)


@st.composite
def samples_with_histograms(draw: st.DrawFn) -> SeriesSamples:
    """Samples of which some, or all of some series, are histograms."""
    samples = draw(series_samples(max_samples=40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from([0.1, 0.7, 1.0]))
    of_series = rng.random(len(samples.ids)) < draw(st.sampled_from([0.5, 1.0]))
    places = np.flatnonzero(np.repeat(of_series, np.diff(samples.offsets)))
    places = places[rng.random(len(places)) < share]
    values = without_histogram_bits(samples.values).copy()
    if not len(places):
        return replace(samples, values=values)
    values[places] = histogram_cells(rng.permutation(len(places)))
    return replace(samples, values=values, histograms=draw(histogram_pools(len(places))))
