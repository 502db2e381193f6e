"""`label_replace` and `label_join`: functions of the series, not of their samples."""

import sys
from dataclasses import replace

import numpy as np

from promcompat.core.errors import BadDataError, ExecutionError
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.patterns.compiled import CompiledPattern, compile_capturing
from promcompat.core.patterns.expansion import count_references, expand
from promcompat.core.texts.strconv import is_utf8, to_unicode
from promql.ast import Call, StringLiteral, unwrap_parens
from promql.functions.function_calls import InstantCall
from promql.values.matrix import Matrix, Value
from promql.values.name_removal import merge_rows

_BYTES_PER_TEXT = 50
"""The size of a str without its characters."""


def check_label_replace(call: Call) -> None:
    """Raise ExecutionError for an invalid regex or destination, before the series are computed.

    So of two errors in nested calls that of the outer call is reported, as in Prometheus.
    """
    target, _, _, pattern_text = _strings(call)
    _compile(pattern_text)
    _check_label_name("destination", target, call)


def check_label_join(call: Call) -> None:
    """Raise ExecutionError for an invalid label name, before the series are computed."""
    target, _, *sources = _strings(call)
    for source in sources:
        _check_label_name("source", source, call)
    _check_label_name("destination", target, call)


def _strings(call: Call) -> list[str]:
    return [arg.value for arg in map(unwrap_parens, call.args) if isinstance(arg, StringLiteral)]


def _check_label_name(role: str, name: str, call: Call) -> None:
    # Any UTF-8 but the empty text is a label name.
    if not name or not is_utf8(name):
        raise ExecutionError(f"invalid {role} label name in {call.func}(): {name}")


def _compile(text: str) -> CompiledPattern:
    try:
        return compile_capturing(f"^(?s:{text})$")
    except BadDataError as exc:
        raise ExecutionError(f"invalid regular expression in label_replace(): {text}") from exc


def label_replace(call: InstantCall) -> Value:
    """`label_replace(v, dst, replacement, src, regex)`, checked by `check_label_replace`.

    Where the whole value of `src` matches, `dst` becomes the replacement with its references to
    groups expanded. Raises ExecutionError if two series then have equal labels.
    """
    target, replacement, source, pattern_text = (call.string(index) for index in range(1, 5))
    pattern = _compile(pattern_text)
    # A pattern of an outer call must be able to match the new value.
    replacement = to_unicode(replacement)
    expanded: dict[str, str | None] = {}
    n_references = count_references(replacement)

    def new_value(labels: Labels) -> str | None:
        value = labels.get(source)
        if value not in expanded:
            call.budget.check_time()
            match = pattern.search(value)
            if match is not None:
                # Checked before the text is made: every reference may stand for the whole value.
                call.budget.check_bytes(len(replacement) + n_references * len(value))
                expanded[value] = expand(replacement, pattern, match)
                call.budget.keep(sys.getsizeof(expanded[value]))
            else:
                expanded[value] = None
        return expanded[value]

    matrix = call.matrix(0)
    return _with_label(matrix, target, [new_value(labels) for labels in matrix.labels])


def label_join(call: InstantCall) -> Value:
    """`label_join(v, dst, separator, src…)`: `dst` becomes the joined values of the sources.

    Checked by `check_label_join`. Raises ExecutionError if two series then have equal labels.
    """
    target, separator = call.string(1), to_unicode(call.string(2))
    sources = [call.string(index) for index in range(3, len(call.args))]
    matrix = call.matrix(0)

    def joined(labels: Labels) -> str:
        parts = [labels.get(source) for source in sources]
        length = sum(map(len, parts)) + len(separator) * len(parts)
        call.budget.keep(_BYTES_PER_TEXT + length)
        return separator.join(parts)

    values: list[str | None] = [joined(labels) for labels in matrix.labels]
    return _with_label(matrix, target, values)


def _with_label(matrix: Matrix, target: str, values: list[str | None]) -> Matrix:
    """Set the label of each row; None leaves a row unchanged.

    A metric name set here stays, even if the old one was to be dropped at the end of the query.
    """
    labels = [
        row if value is None else row.with_label(target, value)
        for row, value in zip(matrix.labels, values, strict=True)
    ]
    drop_name = matrix.drop_name
    if target == METRIC_NAME:
        drop_name = drop_name & np.array([value is None for value in values], bool)
    return merge_rows(replace(matrix, labels=labels, drop_name=drop_name))
