"""Native histograms for tests: by hand, or drawn by Hypothesis; and their comparison to the bit."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from promcompat.core.histograms.columns import CUSTOM_BUCKETS, Histograms, Ragged
from promql.values.histogram_columns import Buckets, HistogramColumns
from promql.values.matrix import Matrix
from promql.values.matrix_histograms import with_histograms
from tests.support.factories import make_labels

Span = tuple[int, int]


def histogram_of(
    *,
    schema: int = 0,
    hint: int = 0,
    is_float: bool = False,
    zero_threshold: float = 0.0,
    zero_count: float = 0,
    count: float = 0,
    sum_: float = 0.0,
    positive_spans: Sequence[Span] = (),
    negative_spans: Sequence[Span] = (),
    positive: Sequence[float] = (),
    negative: Sequence[float] = (),
    bounds: Sequence[float] = (),
) -> Histograms:
    """One histogram; `positive` and `negative` are the counts of the buckets, not differences."""
    dtype = np.float64 if is_float else np.uint64

    def bits(numbers: Sequence[float]) -> np.ndarray:
        return np.array(numbers, dtype).view(np.int64)

    def row(cells: np.ndarray) -> Ragged:
        return Ragged(np.array([0, len(cells)], np.int64), cells)

    return Histograms(
        np.array([schema], np.int8),
        np.array([hint], np.uint8),
        np.array([is_float]),
        np.array([zero_threshold], np.float64),
        bits([zero_count]),
        bits([count]),
        np.array([sum_], np.float64),
        row(np.array(positive_spans, np.int32).reshape(-1, 2)),
        row(np.array(negative_spans, np.int32).reshape(-1, 2)),
        row(bits(positive)),
        row(bits(negative)),
        row(np.array(bounds, np.float64)),
    )


def columns_of(histograms: Histograms) -> dict[str, list[object]]:
    """What histograms consist of, as lists of integers that are equal if all bits are."""
    columns: dict[str, list[object]] = {}
    for field in dataclasses.fields(histograms):
        column = getattr(histograms, field.name)
        if isinstance(column, Ragged):
            cells = column.cells
            bits = cells.view(np.int64) if cells.dtype == np.float64 else cells
            columns[field.name] = [column.lengths.tolist(), bits.tolist()]
        else:
            bits = column.view(np.int64) if column.dtype == np.float64 else column
            columns[field.name] = [bits.tolist()]
    return columns


def _sides(is_float: bool) -> SearchStrategy[tuple[list[Span], list[float]]]:
    """Spans of a side, of which some are empty, and the counts of its buckets."""
    count = st.floats(0, allow_infinity=False) if is_float else st.integers(0, 2**64 - 1)
    count = st.integers(0, 9) | count
    first = st.tuples(st.integers(-40, 40), st.integers(0, 4))
    others = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=3)
    spans = st.just([]) | st.builds(lambda one, rest: [one, *rest], first, others)
    return spans.flatmap(
        lambda found: st.tuples(
            st.just(found),
            st.lists(
                count,
                min_size=sum(length for _, length in found),
                max_size=sum(length for _, length in found),
            ),
        )
    )


@st.composite
def _one(draw: st.DrawFn) -> Histograms:
    is_float, schema = draw(st.booleans()), draw(st.sampled_from([CUSTOM_BUCKETS, -4, 0, 3, 8]))
    count = st.floats(0) if is_float else st.integers(0, 2**64 - 1)
    total, sum_ = draw(count), draw(st.floats())
    positive_spans, positive = draw(_sides(is_float))
    if schema == CUSTOM_BUCKETS:
        positive_spans = [(abs(offset), length) for offset, length in positive_spans]
        n_bounds = max(0, sum(offset + length for offset, length in positive_spans) - 1)
        bounds = [0.5 * number for number in range(n_bounds)]
        return histogram_of(
            schema=schema,
            hint=draw(st.integers(0, 3)),
            is_float=is_float,
            count=total,
            sum_=sum_,
            positive_spans=positive_spans,
            positive=positive,
            bounds=bounds,
        )
    negative_spans, negative = draw(_sides(is_float))
    return histogram_of(
        schema=schema,
        hint=draw(st.integers(0, 3)),
        is_float=is_float,
        zero_threshold=draw(st.sampled_from([0.0, 1e-128, 2.0**-128, 0.001])),
        zero_count=draw(count),
        count=total,
        sum_=sum_,
        positive_spans=positive_spans,
        negative_spans=negative_spans,
        positive=positive,
        negative=negative,
    )


def histogram_columns(min_size: int = 1, max_size: int = 6) -> SearchStrategy[Histograms]:
    """Some histograms of all kinds; they are well-formed, but their counts fit to nothing."""
    return st.lists(_one(), min_size=min_size, max_size=max_size).map(Histograms.joined)


Side = Sequence[tuple[int, float]]
"""The index and the count of each bucket."""


def histogram(
    schema: int = 0,
    *,
    count: float = 0,
    total: float = 0,
    positive: Side = (),
    negative: Side = (),
    zero: tuple[float, float] = (0, 0),
    bounds: Sequence[float] | None = None,
    hint: int = 0,
) -> HistogramColumns:
    """One histogram; `zero` is the threshold and the count of the zero bucket."""
    return HistogramColumns(
        np.array([schema if bounds is None else -53]),
        np.array([hint]),
        np.array([float(zero[0])]),
        np.array([float(zero[1])]),
        np.array([float(count)]),
        np.array([float(total)]),
        _buckets(positive),
        _buckets(negative),
        np.array([-1 if bounds is None else 0]),
        () if bounds is None else (tuple(bounds),),
    )


def histogram_vector(*cells: HistogramColumns, **labels: str) -> Matrix:
    """Series `h` with one histogram each at one step; a label `n` tells them apart."""
    names = [make_labels("h", n=str(n), **labels) for n in range(len(cells))]
    shape = len(cells), 1
    floats = Matrix.of(names, np.zeros(shape), np.zeros(shape, bool))
    rows = np.arange(len(cells))
    return with_histograms(floats, rows, np.zeros_like(rows), HistogramColumns.joined(cells))


def _buckets(side: Side) -> Buckets:
    return Buckets(
        np.array([0, len(side)]),
        np.array([index for index, _ in side], np.int64),
        np.array([count for _, count in side], np.float64),
    )
