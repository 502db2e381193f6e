"""The functions of histograms: those of native ones, and those of native and classic ones.

A vector may have classic histograms (series of buckets with `le`) beside native ones. At a step
where both have the same labels, neither gives a result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promcompat.core.distinct_numbers import distinct
from promcompat.core.model import METRIC_NAME, BoolArray, FloatArray, Labels
from promcompat.core.texts.strconv import format_open_metrics, to_unicode
from promql.ast import PositionRange
from promql.budget import BYTES_PER_CELL
from promql.functions.classic_histograms import bucket_rows, classic_fractions, classic_quantiles
from promql.functions.function_calls import InstantCall
from promql.histograms.bucket_kernels import view_of
from promql.histograms.statistics_kernels import (
    NAN_RESULT,
    NAN_SKEW,
    fractions,
    quantiles,
    variances,
)
from promql.values.annotation_texts import (
    invalid_quantile,
    mixed_classic_native,
    nan_in_fraction,
    nan_quantile,
    skewed_quantile,
)
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix, Value
from promql.values.matrix_histograms import (
    HistogramSamples,
    histogram_samples,
    without_histograms,
)
from promql.values.name_removal import merge_rows

_NOTES = {NAN_RESULT: nan_quantile, NAN_SKEW: skewed_quantile}


def of_each_histogram(
    statistic: Callable[[HistogramColumns], FloatArray],
) -> Callable[[InstantCall], Value]:
    """A function that replaces every histogram by a number; floats have no result.

    As in Prometheus, of the metadata labels only the metric name is removed.
    """

    def body(call: InstantCall) -> Value:
        matrix = call.matrix(0)
        samples = histogram_samples(matrix)
        if samples is None:
            return Matrix.empty(call.n_steps)
        with np.errstate(all="ignore"):
            numbers = statistic(samples.columns)
        return _without_name(
            _at_samples(matrix, samples, numbers[samples.numbers]), call.delayed_name_removal
        )

    return body


def _at_samples(matrix: Matrix, samples: HistogramSamples, results: FloatArray) -> Matrix:
    """The rows that have these samples, with one result for each of them."""
    rows, places = np.unique(samples.rows, return_inverse=True)
    values = np.zeros((len(rows), matrix.values.shape[1]))
    present = np.zeros(values.shape, bool)
    values[places, samples.steps] = results
    present[places, samples.steps] = True
    labels = [matrix.labels[row] for row in rows.tolist()]
    return Matrix(labels, values, present, matrix.drop_name[rows])


def _without_name(matrix: Matrix, delayed: bool) -> Matrix:
    if delayed:
        return replace(matrix, drop_name=np.ones(len(matrix.labels), bool))
    labels = [row.without((METRIC_NAME,)) for row in matrix.labels]
    return merge_rows(replace(matrix, labels=labels))


def counts_of(columns: HistogramColumns) -> FloatArray:
    """The number of observations."""
    return columns.counts


def sums_of(columns: HistogramColumns) -> FloatArray:
    """The sum of observations."""
    return columns.sums


def averages_of(columns: HistogramColumns) -> FloatArray:
    """The mean observation."""
    return columns.sums / columns.counts


def variances_of(columns: HistogramColumns) -> FloatArray:
    """The variance of the observations, as far as the buckets tell."""
    results = np.empty(len(columns))
    variances(view_of(columns), columns.counts, columns.sums, results)
    return results


def deviations_of(columns: HistogramColumns) -> FloatArray:
    """The standard deviation of the observations."""
    return np.sqrt(variances_of(columns))


@dataclass(frozen=True, slots=True)
class _BothKinds:
    """The histograms of a vector at the argument `pos`, without those that are of both kinds."""

    classic: Matrix
    matrix: Matrix
    native: HistogramSamples | None
    pos: PositionRange


def _both_kinds(call: InstantCall, index: int) -> _BothKinds:
    matrix, pos = call.matrix(index), call.arg_positions[index]
    classic, native = without_histograms(matrix), histogram_samples(matrix)
    if native is None or not classic.present.any():
        return _BothKinds(classic, matrix, native, pos)
    mixed_rows, mixed_cells = _mixed_cells(classic, matrix, native)
    for row in np.flatnonzero(mixed_cells.any(axis=1)).tolist():
        call.annotations.warn(mixed_classic_native(call.shown_name(matrix.labels[row])), pos)
    classic = replace(classic, present=classic.present & ~mixed_rows)
    matrix = replace(matrix, present=matrix.present & ~mixed_cells)
    return _BothKinds(classic, matrix, histogram_samples(matrix), pos)


def _mixed_cells(
    classic: Matrix, matrix: Matrix, native: HistogramSamples
) -> tuple[BoolArray, BoolArray]:
    """Which classic buckets, and which native histograms, have one of the other kind beside them.

    Both are bool [n_series, n_steps].
    """
    are_native = np.zeros(matrix.present.shape, bool)
    are_native[native.rows, native.steps] = True
    buckets, histograms = np.zeros_like(are_native), np.zeros_like(are_native)
    rows_of, _ = bucket_rows(classic)
    for row in distinct(native.rows).tolist():
        rows = [bucket for _, bucket in rows_of.get(matrix.labels[row], ())]
        both = classic.present[rows].any(axis=0) & are_native[row]
        buckets[rows] |= both
        histograms[row] = both
    return buckets, histograms


def histogram_quantile(call: InstantCall) -> Value:
    """`histogram_quantile(q, v)`."""
    wanted = call.scalar(0)
    _warn_of_quantiles(call, wanted, 0)
    (result,) = _quantiles(call, _both_kinds(call, 1), [wanted])
    return result


def histogram_quantiles(call: InstantCall) -> Value:
    """`histogram_quantiles(v, label, q…)`: each quantile is a series, with itself as the label."""
    label = to_unicode(call.string(1))
    quantiles = [call.scalar(index) for index in range(2, len(call.args))]
    for index, wanted in enumerate(quantiles, 2):
        _warn_of_quantiles(call, wanted, index)
    found = []
    results = _quantiles(call, _both_kinds(call, 0), quantiles)
    for wanted, result in zip(quantiles, results, strict=True):
        texts = np.array(list(map(format_open_metrics, wanted.tolist())))
        distinct = dict.fromkeys(texts.tolist())
        # A quantile that changes with the step makes new series at each.
        call.budget.check_bytes(len(distinct) * result.values.size * BYTES_PER_CELL)
        for quantile in distinct:
            labels = [row.with_label(label, quantile) for row in result.labels]
            present = result.present & (texts == quantile)
            found.append(replace(result, labels=labels, present=present))
    return _under_each_other(found)


def _warn_of_quantiles(call: InstantCall, wanted: FloatArray, index: int) -> None:
    outside = ~((wanted >= 0) & (wanted <= 1))
    for quantile in dict.fromkeys(wanted[outside].tolist()):
        call.annotations.warn(invalid_quantile(quantile), call.arg_positions[index])


def _quantiles(
    call: InstantCall, both: _BothKinds, quantiles: Sequence[FloatArray]
) -> list[Matrix]:
    classic = classic_quantiles(call, both.classic, quantiles, both.pos)
    native = both.native
    if native is None:
        return classic
    return [
        _under_each_other((_native_quantiles(call, both.matrix, native, wanted), found))
        for wanted, found in zip(quantiles, classic, strict=True)
    ]


def _native_quantiles(
    call: InstantCall, matrix: Matrix, samples: HistogramSamples, wanted: FloatArray
) -> Matrix:
    results, notes = np.empty(len(samples)), np.empty(len(samples), np.uint8)
    columns = samples.columns
    quantiles(
        view_of(columns),
        np.ascontiguousarray(columns.counts),
        np.ascontiguousarray(columns.sums),
        samples.numbers,
        wanted[samples.steps],
        results,
        notes,
    )
    _annotate(call, matrix.labels, samples, notes)
    return _at_samples(matrix, samples, results)


def _annotate(
    call: InstantCall,
    labels: Sequence[Labels],
    samples: HistogramSamples,
    notes: NDArray[np.uint8],
) -> None:
    """Tell which metrics have observations of NaN. Prometheus shows the first argument for it."""
    for note, text_of in _NOTES.items():
        for row in distinct(samples.rows[notes == note]).tolist():
            call.annotations.info(text_of(call.shown_name(labels[row])), call.arg_positions[0])


def histogram_fraction(call: InstantCall) -> Value:
    """`histogram_fraction(lower, upper, v)`: the share of observations between two values."""
    lower, upper = call.scalar(0), call.scalar(1)
    both = _both_kinds(call, 2)
    classic = classic_fractions(call, both.classic, lower, upper, both.pos)
    samples = both.native
    if samples is None:
        return classic
    results, has_nan = np.empty(len(samples)), np.empty(len(samples), bool)
    columns = samples.columns
    fractions(
        view_of(columns),
        np.ascontiguousarray(columns.counts),
        np.ascontiguousarray(columns.sums),
        samples.numbers,
        lower[samples.steps],
        upper[samples.steps],
        results,
        has_nan,
    )
    for row in distinct(samples.rows[has_nan]).tolist():
        name = call.shown_name(both.matrix.labels[row])
        call.annotations.info(nan_in_fraction(name), call.arg_positions[0])
    return _under_each_other((_at_samples(both.matrix, samples, results), classic))


def _under_each_other(parts: Sequence[Matrix]) -> Matrix:
    """The rows of all parts, which have no histograms."""
    return Matrix(
        [labels for part in parts for labels in part.labels],
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
        np.concatenate([part.drop_name for part in parts]),
    )
