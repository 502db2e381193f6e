"""`sort`, `sort_desc`, `sort_by_label` and `sort_by_label_desc`.

The order of rows is the result of an instant query. A range query sorts its rows by labels at the
end, so these functions leave a grid of several steps as it is.
"""

import re

import numpy as np

from promql.functions.function_calls import InstantCall
from promql.numbers.value_order import order_by_value
from promql.values.matrix import Matrix, Value
from promql.values.shapes import take_rows

_CHUNKS = re.compile(r"[0-9]+|[^0-9]+")


def sort(call: InstantCall) -> Value:
    """Rows by rising value, NaN last."""
    return _sorted_by_value(call.matrix(0), descending=False)


def sort_desc(call: InstantCall) -> Value:
    """Rows by falling value, NaN last."""
    return _sorted_by_value(call.matrix(0), descending=True)


def _sorted_by_value(matrix: Matrix, *, descending: bool) -> Matrix:
    if matrix.present.shape[1] != 1:
        return matrix
    rows = np.flatnonzero(matrix.present[:, 0])
    order = order_by_value(matrix.values[rows, 0], descending=descending)
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

    def key(row: int) -> tuple[object, ...]:
        labels = matrix.labels[row]
        return *(natural_key(labels.get(name)) for name in names), labels.pairs

    rows: list[int] = np.flatnonzero(matrix.present[:, 0]).tolist()
    return take_rows(matrix, sorted(rows, key=key, reverse=descending))


def natural_key(text: str) -> list[tuple[str, int, str]]:
    """Sorts `x9` before `x10`: runs of digits compare as numbers, anything else as text.

    The empty text comes first.
    """
    return [_chunk_key(chunk) for chunk in _CHUNKS.findall(text)]


def _chunk_key(chunk: str) -> tuple[str, int, str]:
    if not "0" <= chunk[0] <= "9":
        return chunk, 0, ""
    digits = chunk.lstrip("0")
    # Numbers compare by length, then digit by digit: they may be longer than int() accepts.
    return "0", len(digits), digits
