"""The function `info`: adds labels of info metrics to the series they describe."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.histograms.columns import is_histogram
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import (
    METRIC_NAME,
    BoolArray,
    IntArray,
    Labels,
    SampleBlock,
)
from promql.ast import AggregateExpr, Expr, SubqueryExpr, TimeModifiers, VectorSelector
from promql.values.matrix import Matrix
from promql.values.name_removal import merge_rows
from promql.values.windows import InstantSamples, look_up

TARGET_INFO = LabelMatcher(METRIC_NAME, MatchOp.EQUAL, "target_info")
"""The info metric that `info()` reads by default."""
_ANY_INFO = LabelMatcher(METRIC_NAME, MatchOp.REGEX, ".+_info")
"""The info metrics that it reads if its matchers only say which names are not wanted."""

_IDENTIFYING_LABELS = ("instance", "job")

_Signature = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _InfoVector:
    """The info series: `newest` bool [n_series, n_steps] is where a series is used at a step."""

    labels: Sequence[Labels]
    newest: BoolArray
    rows_of: dict[_Signature, list[int]]


def info_name_matchers(matchers: Sequence[LabelMatcher]) -> tuple[LabelMatcher, ...]:
    """The matchers of the name of info metrics, given those of the second argument of `info`."""
    of_name = tuple(matcher for matcher in matchers if matcher.name == METRIC_NAME)
    if any(matcher.op in (MatchOp.EQUAL, MatchOp.REGEX) for matcher in of_name):
        return of_name
    return (_ANY_INFO, *of_name) if of_name else (TARGET_INFO,)


def info_data_matchers(matchers: Sequence[LabelMatcher]) -> tuple[LabelMatcher, ...]:
    """Those of the data labels, which choose the labels to add, and the info series, too."""
    return tuple(matcher for matcher in matchers if matcher.name != METRIC_NAME)


def reference_time(expr: Expr, of_parts: Sequence[TimeModifiers | None]) -> TimeModifiers | None:
    """When `info(expr)` looks for info samples, given that of the parts of `expr`.

    That is when the first selector in `expr` looks for its samples: its offset and those of
    subqueries around it add up, until an `@` fixes the time. None: there is no selector.
    """
    if isinstance(expr, VectorSelector):
        return expr.modifiers
    # Prometheus visits the parameter of an aggregation after its operand.
    in_order = reversed(of_parts) if isinstance(expr, AggregateExpr) else of_parts
    first = next((part for part in in_order if part is not None), None)
    if not isinstance(expr, SubqueryExpr) or first is None or first.timestamp_ms is not None:
        return first
    return replace(expr.modifiers, offset_ms=expr.modifiers.offset_ms + first.offset_ms)


def look_up_info(
    base: Matrix,
    block: SampleBlock,
    matchers: Sequence[LabelMatcher],
    times_ms: IntArray,
    lookback_ms: int,
) -> InstantSamples:
    """The newest samples at these times of those info series that describe a base series.

    A step without a base series has none. Raises ExecutionError if one of them is a histogram.
    """
    samples = look_up(block, times_ms, lookback_ms)
    present = samples.present & _are_described(base, block.labels, matchers)[:, None]
    present &= base.present.any(axis=0)
    if block.histograms is not None and (present & is_histogram(samples.values)).any():
        raise ExecutionError("info sample should be float")
    return InstantSamples(samples.values, samples.timestamps, present)


def _are_described(
    base: Matrix, info_labels: Sequence[Labels], matchers: Sequence[LabelMatcher]
) -> BoolArray:
    wanted = _identifying_values(base, matchers)
    return np.array(
        [
            bool(wanted) and all(labels.get(name) in wanted[name] for name in wanted)
            for labels in info_labels
        ],
        bool,
    )


def _identifying_values(
    base: Matrix, matchers: Sequence[LabelMatcher]
) -> Mapping[str, Container[str]]:
    """The values that each identifying label has in the base series to be enriched."""
    found: dict[str, set[str]] = {}
    of_name = info_name_matchers(matchers)
    for labels in base.labels:
        if not _is_info(labels, of_name):
            for name in filter(labels.get, _IDENTIFYING_LABELS):
                found.setdefault(name, set()).add(labels.get(name))
    return found


def _is_info(labels: Labels, of_name: Sequence[LabelMatcher]) -> bool:
    name = labels.get(METRIC_NAME)
    return all(matcher.matches(name) for matcher in of_name)


def add_info_labels(
    base: Matrix,
    info_labels: Sequence[Labels],
    samples: InstantSamples,
    matchers: Sequence[LabelMatcher],
) -> Matrix:
    """`info(base, {matchers})`: add the data labels of info series of the same instance and job.

    Of info series with the same metric name, instance and job, the one with the newest sample is
    used, so the added labels may change from step to step. Info series themselves stay as they are.
    Raises ExecutionError if two of them are equally new, or if two info metrics give a label
    different values.
    """
    of_name, data = info_name_matchers(matchers), info_data_matchers(matchers)
    info = _newest_info(info_labels, samples)
    found: list[tuple[int, Labels, BoolArray]] = []
    for row, labels in enumerate(base.labels):
        present = base.present[row]
        if _is_info(labels, of_name):
            found.append((row, labels, present))
        else:
            found += ((row, *part) for part in _enriched(labels, present, info, data))
    return merge_rows(_assemble(base, found))


def _newest_info(labels: Sequence[Labels], samples: InstantSamples) -> _InfoVector:
    newest = samples.present.copy()
    by_signature: dict[_Signature, list[int]] = {}
    for row, row_labels in enumerate(labels):
        key = (row_labels.get(METRIC_NAME), *_identity(row_labels))
        by_signature.setdefault(key, []).append(row)
    by_identity: dict[_Signature, list[int]] = {}
    for key, rows in by_signature.items():
        by_identity.setdefault(key[1:], []).extend(rows)
        if len(rows) > 1:
            _keep_newest(newest, samples.timestamps, rows, labels)
    return _InfoVector(labels, newest, by_identity)


def _identity(labels: Labels) -> _Signature:
    return tuple(map(labels.get, _IDENTIFYING_LABELS))


def _keep_newest(
    newest: BoolArray, timestamps: IntArray, rows: list[int], labels: Sequence[Labels]
) -> None:
    """Prometheus compares each series with the newest one before it, step by step."""
    n_steps = newest.shape[1]
    best_ms, best_row = np.full(n_steps, np.iinfo(np.int64).min), np.full(n_steps, rows[0])
    ambiguous_from, fault = n_steps, ""
    for row in rows:
        times, present = timestamps[row], newest[row]
        is_ambiguous = (present & (times == best_ms))[:ambiguous_from]
        if is_ambiguous.any():
            ambiguous_from = int(is_ambiguous.argmax())
            at = f"@ {times[ambiguous_from]}"
            existing = labels[best_row[ambiguous_from]]
            fault = (
                "found duplicate series for info metric: "
                f"existing {existing} {at}, new {labels[row]} {at}"
            )
        is_newer = present & (times > best_ms)
        best_ms[is_newer], best_row[is_newer] = times[is_newer], row
    if fault:
        raise ExecutionError(fault)
    for row in rows:
        newest[row] &= best_row == row


def _enriched(
    labels: Labels, present: BoolArray, info: _InfoVector, data: Sequence[LabelMatcher]
) -> Iterable[tuple[Labels, BoolArray]]:
    """The label sets of a base series after enrichment, each with the steps at which it has it."""
    rows = info.rows_of.get(_identity(labels), [])
    optional = all(m.matches_empty() for m in data)
    if not rows:
        if optional:
            yield labels, present
        return
    patterns, pattern_of = np.unique(info.newest[rows].T, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        at_pattern = present & (pattern_of.ravel() == index)
        if at_pattern.any() and (optional or pattern.any()):
            sources = [info.labels[row] for row, used in zip(rows, pattern, strict=True) if used]
            added = _data_labels(labels, sources, {m.name for m in data})
            yield Labels.of({**labels.as_dict(), **added}), at_pattern


def _data_labels(labels: Labels, sources: Sequence[Labels], wanted: set[str]) -> dict[str, str]:
    added: dict[str, str] = {}
    own = labels.as_dict()
    for source in sources:
        for name, value in source:
            if name == METRIC_NAME or (wanted and name not in wanted):
                continue
            if added.get(name, value) != value:
                raise ExecutionError(f"conflicting label: {name}")
            if name not in own:
                added[name] = value
    return added


def _assemble(base: Matrix, parts: Sequence[tuple[int, Labels, BoolArray]]) -> Matrix:
    if not parts:
        return Matrix.empty(base.present.shape[1])
    rows = [row for row, _, _ in parts]
    return Matrix(
        [labels for _, labels, _ in parts],
        base.values[rows],
        np.array([present for _, _, present in parts]),
        base.drop_name[rows],
        base.histograms,
    )
