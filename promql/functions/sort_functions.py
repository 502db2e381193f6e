"""`sort`, `sort_desc`, `sort_by_label` and `sort_by_label_desc`.

The order of rows is the result of an instant query; a range query sorts its rows by labels in the
end, so these functions leave a grid of several steps as it is.
"""

import re
from collections.abc import Sequence
from functools import cmp_to_key

import numpy as np

from promcompat.core.model import Labels
from promql.functions.function_calls import InstantCall
from promql.name_removal import take_rows
from promql.values import Matrix, Value

_CHUNKS = re.compile(r"[0-9]+|[^0-9]+")
_MAX_INT64 = (1 << 63) - 1


def sort(call: InstantCall) -> Value:
    """Rows by rising value, NaN last."""
    return _sorted_by_value(call.floats(0), descending=False)


def sort_desc(call: InstantCall) -> Value:
    """Rows by falling value, NaN last."""
    return _sorted_by_value(call.floats(0), descending=True)


def _sorted_by_value(matrix: Matrix, *, descending: bool) -> Matrix:
    if matrix.present.shape[1] != 1:
        return matrix
    rows = np.flatnonzero(matrix.present[:, 0])
    values = matrix.values[rows, 0]
    order = np.argsort(-values if descending else values, kind="stable")
    return take_rows(matrix, rows[order].tolist())


def sort_by_label(call: InstantCall) -> Value:
    """Rows by the natural order of the given labels, then by all labels."""
    return _sorted_by_labels(call, descending=False)


def sort_by_label_desc(call: InstantCall) -> Value:
    """Rows by the natural order of the given labels, then by all labels, greatest first."""
    return _sorted_by_labels(call, descending=True)


def _sorted_by_labels(call: InstantCall, *, descending: bool) -> Matrix:
    matrix = call.matrix(0)
    if matrix.present.shape[1] != 1:
        return matrix
    names = [call.string(index) for index in range(1, len(call.args))]

    def compare(left: int, right: int) -> int:
        return _compare_labels(matrix.labels[left], matrix.labels[right], names)

    rows = np.flatnonzero(matrix.present[:, 0]).tolist()
    return take_rows(matrix, sorted(rows, key=cmp_to_key(compare), reverse=descending))


def _compare_labels(left: Labels, right: Labels, names: Sequence[str]) -> int:
    for name in names:
        difference = compare_naturally(left.get(name), right.get(name))
        if difference:
            return difference
    return (right < left) - (left < right)


def compare_naturally(left: str, right: str) -> int:
    """-1, 0 or 1: the natural order, in which `x9` comes before `x10`.

    Runs of digits that fit int64 compare as numbers, anything else as text. Where Prometheus'
    comparison contradicts itself (an absent label; texts that differ only in leading zeros), so
    that its order hangs on that of the input, the absent one and then plain text order come first.
    """
    if left == right:
        return 0
    left_chunks, right_chunks = _CHUNKS.findall(left), _CHUNKS.findall(right)
    for a, b in zip(left_chunks, right_chunks, strict=False):
        difference = _compare_chunks(a, b)
        if difference:
            return difference
    if len(left_chunks) != len(right_chunks):
        return -1 if len(left_chunks) < len(right_chunks) else 1
    return -1 if left < right else 1


def _compare_chunks(left: str, right: str) -> int:
    numbers = _as_int(left), _as_int(right)
    if numbers[0] is not None and numbers[1] is not None:
        return (numbers[0] > numbers[1]) - (numbers[0] < numbers[1])
    return (left > right) - (left < right)


def _as_int(chunk: str) -> int | None:
    if not "0" <= chunk[0] <= "9" or len(chunk.lstrip("0")) > 19:
        return None
    number = int(chunk)
    return number if number <= _MAX_INT64 else None
