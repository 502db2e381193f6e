"""The answer to a query as plain rows, and its comparison with what a script expects."""

import math
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.model import STALE_NAN_BITS, Labels, SampleBlock
from promql.histograms.arithmetic import compact
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix, QueryResult, ScalarGrid, StringValue
from tests.promqltest.script import Eval, Expectation, HistogramNotation, Mark, SequenceValue

RELATIVE_TOLERANCE = 1e-6
"""The tolerance of Prometheus' own runner, relative to the sum of both magnitudes."""

Sample = float | HistogramColumns
"""A float, or a single histogram."""
Point = tuple[int, Sample]


@dataclass(frozen=True, slots=True)
class ScalarAnswer:
    """One scalar."""

    value: float


@dataclass(frozen=True, slots=True)
class StringAnswer:
    """One string."""

    value: str


@dataclass(frozen=True, slots=True)
class VectorAnswer:
    """An instant vector, in result order."""

    rows: Sequence[tuple[Labels, Sample]]


@dataclass(frozen=True, slots=True)
class MatrixAnswer:
    """A range vector, or the answer to a range query; each series has its points in time order."""

    rows: Sequence[tuple[Labels, Sequence[Point]]]


Answer = ScalarAnswer | StringAnswer | VectorAnswer | MatrixAnswer


def read_answer(result: QueryResult) -> Answer:
    """The rows of a result; series without any point are no part of it."""
    times: list[int] = result.timestamps.tolist()
    match result.value:
        case StringValue(value):
            return StringAnswer(value)
        case ScalarGrid(values) if result.is_range:
            return MatrixAnswer([(Labels(), list(zip(times, values.tolist(), strict=True)))])
        case ScalarGrid(values):
            return ScalarAnswer(float(values[0]))
        case SampleBlock() as block:
            return MatrixAnswer(_block_rows(block))
        case Matrix() as matrix if result.is_range:
            return MatrixAnswer(_matrix_rows(matrix, times))
        case Matrix() as matrix:
            return VectorAnswer(
                [(labels, points[0][1]) for labels, points in _matrix_rows(matrix, times)]
            )
        case _ as unreachable:
            assert_never(unreachable)


def _block_rows(block: SampleBlock) -> list[tuple[Labels, list[Point]]]:
    rows = []
    histograms = None if block.histograms is None else HistogramColumns.of(block.histograms)
    for index, labels in enumerate(block.labels):
        part = slice(block.offsets[index], block.offsets[index + 1])
        times, values = block.timestamps[part].tolist(), _samples(block.values[part], histograms)
        rows.append((labels, list(zip(times, values, strict=True))))
    return [row for row in rows if row[1]]


def _matrix_rows(matrix: Matrix, times: Sequence[int]) -> list[tuple[Labels, list[Point]]]:
    rows = []
    for index, labels in enumerate(matrix.labels):
        steps = np.flatnonzero(matrix.present[index]).tolist()
        values = _samples(matrix.values[index, steps], matrix.histograms)
        rows.append(
            (labels, [(times[step], value) for step, value in zip(steps, values, strict=True)])
        )
    return [row for row in rows if row[1]]


def _samples(cells: np.ndarray, histograms: HistogramColumns | None) -> list[Sample]:
    samples: list[Sample] = cells.tolist()
    if histograms is None:
        return samples
    for place in np.flatnonzero(is_histogram(cells)).tolist():
        samples[place] = histograms.take(histogram_numbers(cells[place : place + 1]))
    return samples


def almost_equal(left: float, right: float) -> bool:
    """Equality as Prometheus' runner has it; stale markers equal only stale markers."""
    if _is_stale(left) or _is_stale(right):
        return _is_stale(left) and _is_stale(right)
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    if left == right:
        return True
    total, difference = abs(left) + abs(right), abs(left - right)
    if left == 0 or right == 0 or total < sys.float_info.min:
        return difference < RELATIVE_TOLERANCE * sys.float_info.min
    return difference / min(total, sys.float_info.max) < RELATIVE_TOLERANCE


def _is_stale(value: float) -> bool:
    bits: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return bits == STALE_NAN_BITS


def find_difference(command: Eval, answer: Answer) -> str | None:
    """How the answer differs from what the eval expects, None when it does not."""
    expectation = command.expectation
    match answer:
        case StringAnswer(value):
            if value == expectation.string:
                return None
            return f"expected {expectation.string!r}, got the string {value!r}"
        case ScalarAnswer(value):
            if expectation.scalar is not None and almost_equal(value, expectation.scalar):
                return None
            return f"expected {describe(expectation)}, got the scalar {value!r}"
        case VectorAnswer(rows):
            return find_vector_difference(expectation, rows, is_ordered=expectation.is_ordered)
        case MatrixAnswer(rows):
            return _find_matrix_difference(command, rows)
        case _ as unreachable:
            assert_never(unreachable)


def find_vector_difference(
    expectation: Expectation, rows: Sequence[tuple[Labels, Sample]], *, is_ordered: bool
) -> str | None:
    """How an instant vector differs from the expected one, None when it does not."""
    if expectation.scalar is not None or expectation.string is not None:
        return f"expected {describe(expectation)}, got a vector of {len(rows)}"
    difference = _find_label_difference(expectation, [labels for labels, _ in rows])
    if difference is not None:
        return difference
    for position, (labels, value) in enumerate(rows, 1):
        expected = expectation.series[labels]
        if is_ordered and expected.position != position:
            return f"{labels} expected at position {expected.position}, got at {position}"
        wanted = expected.values[0]
        if not _equals(0.0 if wanted is Mark.OMITTED else wanted, value):
            return f"{labels}: expected {wanted}, got {value!r}"
    return None


def _find_matrix_difference(
    command: Eval, rows: Sequence[tuple[Labels, Sequence[Point]]]
) -> str | None:
    expectation = command.expectation
    if expectation.is_ordered or expectation.scalar is not None or expectation.string is not None:
        return f"expected {describe(expectation)}, got a matrix of {len(rows)}"
    found = [labels for labels, _ in rows]
    if found != sorted(found):
        return f"series are not sorted by their labels: {found}"
    difference = _find_label_difference(expectation, found)
    if difference is not None:
        return difference
    for labels, points in rows:
        difference = _find_points_difference(command, expectation.series[labels].values, points)
        if difference is not None:
            return f"{labels}: {difference}"
    return None


def _find_points_difference(
    command: Eval, values: Sequence[SequenceValue], points: Sequence[Point]
) -> str | None:
    expected = [
        (command.start_ms + index * command.step_ms, value)
        for index, value in enumerate(values)
        if value is not Mark.OMITTED
    ]
    if [time for time, _ in expected] != [time for time, _ in points]:
        return f"expected the points {expected}, got {list(points)}"
    for (time, wanted), (_, value) in zip(expected, points, strict=True):
        if not _equals(wanted, value):
            return f"expected {wanted} at {time}, got {value!r}"
    return None


def _find_label_difference(expectation: Expectation, found: Sequence[Labels]) -> str | None:
    if len(set(found)) != len(found):
        return f"a series comes twice: {found}"
    unexpected = [labels for labels in found if labels not in expectation.series]
    missing = sorted(expectation.series.keys() - set(found))
    if unexpected or missing:
        return f"series not expected: {unexpected}, series missing: {missing}"
    return None


def _equals(wanted: SequenceValue, value: Sample) -> bool:
    if isinstance(value, HistogramColumns):
        return isinstance(wanted, HistogramNotation) and _equal_histograms(wanted, value)
    match wanted:
        case Mark.STALE:
            return _is_stale(value)
        case Mark.OMITTED | HistogramNotation():
            return False
        case float():
            return almost_equal(wanted, value)
        case _ as unreachable:
            assert_never(unreachable)


def _equal_histograms(wanted: HistogramNotation, value: HistogramColumns) -> bool:
    expected, found = compact(wanted.columns), compact(value)
    if wanted.has_hint and expected.hints[0] != found.hints[0]:
        return False
    if expected.schemas[0] != found.schemas[0] or _bounds_of(expected) != _bounds_of(found):
        return False
    if expected.zero_thresholds[0] != found.zero_thresholds[0]:
        return False
    pairs = [
        (expected.counts, found.counts),
        (expected.sums, found.sums),
        (expected.zero_counts, found.zero_counts),
    ]
    for side, other in ((expected.positive, found.positive), (expected.negative, found.negative)):
        if side.indices.tolist() != other.indices.tolist():
            return False
        pairs.append((side.counts, other.counts))
    return all(
        almost_equal(one, another)
        for left, right in pairs
        for one, another in zip(left.tolist(), right.tolist(), strict=True)
    )


def _bounds_of(columns: HistogramColumns) -> tuple[float, ...]:
    place = int(columns.bounds[0])
    return columns.bound_sets[place] if place >= 0 else ()


def describe(expectation: Expectation) -> str:
    """The kind of result that is expected, in words."""
    if expectation.scalar is not None:
        return f"the scalar {expectation.scalar!r}"
    if expectation.string is not None:
        return f"the string {expectation.string!r}"
    order = "an ordered vector" if expectation.is_ordered else "a vector or matrix"
    return f"{order} of {len(expectation.series)} series"
