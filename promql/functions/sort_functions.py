"""`sort`, `sort_desc`, `sort_by_label` and `sort_by_label_desc`.

The order of rows is the result of an instant query; a range query sorts its rows by labels in the
end, so these functions leave a grid of several steps as it is.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from promql.functions.function_calls import InstantCall
from promql.numbers.go_sort import go_sorted
from promql.numbers.value_order import Less, larger_first, smaller_first, sorted_by_value
from promql.values.matrix import Matrix, Value
from promql.values.name_removal import take_rows

_CHUNKS = re.compile(r"[0-9]+|[^0-9]+")
_MAX_INT64 = (1 << 63) - 1


def sort(call: InstantCall) -> Value:
    """Rows by rising value, NaN last."""
    return _sorted_by_value(call.floats(0), larger_first)


def sort_desc(call: InstantCall) -> Value:
    """Rows by falling value, NaN last."""
    return _sorted_by_value(call.floats(0), smaller_first)


def _sorted_by_value(matrix: Matrix, last_first: Less) -> Matrix:
    if matrix.present.shape[1] != 1:
        return matrix
    rows = np.flatnonzero(matrix.present[:, 0])
    order = sorted_by_value(matrix.values[rows, 0], last_first)
    return take_rows(matrix, rows[order].tolist())


def sort_by_label(call: InstantCall) -> Value:
    """Rows by the natural order of the given labels, then by all labels."""
    return _sorted_by_labels(call, precedes_naturally, False)


def sort_by_label_desc(call: InstantCall) -> Value:
    """Rows by the natural order of the given labels, then by all labels, greatest first."""
    return _sorted_by_labels(call, lambda left, right: not precedes_naturally(left, right), True)


def _sorted_by_labels(
    call: InstantCall, precedes: Callable[[str, str], bool], descending: bool
) -> Matrix:
    matrix = call.matrix(0)
    if matrix.present.shape[1] != 1:
        return matrix
    names = [call.string(index) for index in range(1, len(call.args))]
    rows: list[int] = np.flatnonzero(matrix.present[:, 0]).tolist()

    def less(left: int, right: int) -> bool:
        pair = matrix.labels[rows[left]], matrix.labels[rows[right]]
        for name in names:
            values = pair[0].get(name), pair[1].get(name)
            if values[0] != values[1]:
                return precedes(*values)
        return pair[1] < pair[0] if descending else pair[0] < pair[1]

    return take_rows(matrix, [rows[place] for place in go_sorted(len(rows), less)])


def precedes_naturally(left: str, right: str) -> bool:
    """Whether a text comes before another, different one, as `x9` does before `x10`.

    Runs of digits that fit int64 compare as numbers, anything else as text. It contradicts itself
    as the comparison of Prometheus does: neither of the empty text and another one comes first, and
    each of two texts that differ only in leading zeros.
    """
    left_chunks, right_chunks = _chunks(left), _chunks(right)
    for index, (a, b) in enumerate(zip(left_chunks, right_chunks, strict=False), start=1):
        numbers = _as_int(a), _as_int(b)
        if numbers[0] is not None and numbers[1] is not None:
            if numbers[0] != numbers[1]:
                return numbers[0] < numbers[1]
        elif a != b:
            return a < b
        if index == len(left_chunks):
            return True
    return False


@lru_cache(maxsize=4_096)
def _chunks(text: str) -> Sequence[str]:
    return _CHUNKS.findall(text)


def _as_int(chunk: str) -> int | None:
    if not "0" <= chunk[0] <= "9" or len(chunk.lstrip("0")) > 19:
        return None
    number = int(chunk)
    return number if number <= _MAX_INT64 else None
