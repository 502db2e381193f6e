"""The experimental function `info`: adds labels of info metrics to the series they describe."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import METRIC_NAME, BoolArray, IntArray, Labels
from promql.name_removal import merge_rows
from promql.values import Matrix
from promql.windows import InstantSamples

_IDENTIFYING_LABELS = ("instance", "job")

_Signature = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _InfoVector:
    """The info series: `newest` bool [n_series, n_steps] is where a series counts at a step."""

    labels: Sequence[Labels]
    newest: BoolArray
    rows_of: dict[_Signature, list[int]]


def add_info_labels(
    base: Matrix,
    info_labels: Sequence[Labels],
    samples: InstantSamples,
    matchers: Sequence[LabelMatcher],
) -> Matrix:
    """`info(base, {matchers})`: add the data labels of info series of the same instance and job.

    Of info series that are alike in metric name, instance and job the one with the newest sample
    counts; which labels are added may thus change from step to step. Raises ExecutionError when two
    of them are equally new or when two info metrics give a label different values.
    """
    names = [m for m in matchers if m.name == METRIC_NAME]
    data = [m for m in matchers if m.name != METRIC_NAME]
    info = _newest_info(info_labels, samples)
    found: list[tuple[int, Labels, BoolArray]] = []
    for row, labels in enumerate(base.labels):
        present = base.present[row]
        if any(m.matches(labels.get(METRIC_NAME)) for m in names):
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
            _keep_newest(newest, samples.timestamps, rows, key[0])
    return _InfoVector(labels, newest, by_identity)


def _identity(labels: Labels) -> _Signature:
    return tuple(map(labels.get, _IDENTIFYING_LABELS))


def _keep_newest(newest: BoolArray, timestamps: IntArray, rows: list[int], name: str) -> None:
    times = np.where(newest[rows], timestamps[rows], np.iinfo(np.int64).min)
    latest = (times == times.max(axis=0)) & newest[rows]
    if (latest.sum(axis=0) > 1).any():
        raise ExecutionError(f"found duplicate series for info metric {name}")
    newest[rows] = latest


def _enriched(
    labels: Labels, present: BoolArray, info: _InfoVector, data: Sequence[LabelMatcher]
) -> Iterable[tuple[Labels, BoolArray]]:
    """The label sets a base series takes on, each with the steps at which it does."""
    rows = info.rows_of.get(_identity(labels), [])
    optional = all(m.matches_empty() for m in data)
    if not rows:
        if optional:
            yield labels, present
        return
    patterns, pattern_of = np.unique(info.newest[rows].T, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        sources = [info.labels[row] for row, used in zip(rows, pattern, strict=True) if used]
        added = _data_labels(labels, sources, {m.name for m in data})
        if added or optional:
            merged = Labels.of({**labels.as_dict(), **added})
            yield merged, present & (pattern_of.ravel() == index)


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
        np.zeros(len(rows), bool),
        None if base.histograms is None else base.histograms[rows],
    )
