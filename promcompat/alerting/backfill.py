"""Evaluates recording rules over a past range, and replaces what they recorded there."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from promcompat.alerting.recording import histograms_of
from promcompat.alerting.state_machine import first_slot_from
from promcompat.core.alerting.alerts import Rule
from promcompat.core.corrections import CorrectionRequest, ReplaceSamples, SampleScope
from promcompat.core.errors import BadDataError, ExecutionError
from promcompat.core.histograms.columns import (
    HistogramCells,
    Histograms,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.histograms.validation import find_faults
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import (
    METRIC_NAME,
    STALE_NAN_BITS,
    BoolArray,
    EvalRange,
    FloatArray,
    IntArray,
    Labels,
    SampleBlock,
)
from promcompat.metrics.correction_service import CorrectionService
from promql.query import Query, QueryRunner
from promql.values.matrix import Matrix, QueryResult, ScalarGrid

_STEPS_AT_ONCE: Final = 1_000
_REASON: Final = "backfill of a recording rule"


@dataclass(frozen=True, slots=True)
class BackfillRange:
    """The evaluations from `start_ms` to `end_ms`, both inclusive (Unix ms)."""

    start_ms: int
    end_ms: int


@dataclass(slots=True)
class RuleBackfill:
    """What was done for a rule, or would be: evaluations, samples before and after.

    `n_failed` evaluations wrote nothing, because of their labels or the limit.
    """

    rule: Rule
    n_steps: int = 0
    n_samples: int = 0
    n_replaced: int = 0
    n_failed: int = 0
    last_present: frozenset[Labels] = field(default_factory=frozenset)


class Backfill:
    """Backfills rules of one tenant."""

    def __init__(
        self, tenant: str, queries: QueryRunner, corrections: CorrectionService, *, is_dry: bool
    ) -> None:
        """`is_dry`: only count."""
        self._tenant = tenant
        self._queries = queries
        self._corrections = corrections
        self._is_dry = is_dry

    async def run(self, rules: Sequence[Rule], wanted: BackfillRange) -> Sequence[RuleBackfill]:
        """Backfill the rules of one group in their order; each sees what those before it recorded.

        No two rules may share series (`check_distinct`). A dry run sees only what is stored. What
        is done is a correction with its record. Raises the errors of queries and corrections.
        """
        done = [RuleBackfill(rule) for rule in rules if rule.is_recording]
        if not done:
            return done
        # At a time of its own, `@ start()` is the evaluation and not the beginning of the range.
        is_single = any("start()" in each.rule.expr or "end()" in each.rule.expr for each in done)
        n_steps = 1 if is_single else _STEPS_AT_ONCE
        window_ms = n_steps * min(each.rule.interval_ms for each in done)
        for start_ms in range(wanted.start_ms, wanted.end_ms + 1, window_ms):
            end_ms = min(start_ms + window_ms - 1, wanted.end_ms)
            for each in done:
                await self._run_window(each, BackfillRange(start_ms, end_ms))
        return done

    async def _run_window(self, each: RuleBackfill, window: BackfillRange) -> None:
        rule = each.rule
        first_ms = first_slot_from(self._tenant, rule, window.start_ms) - rule.query_offset_ms
        last_ms = window.end_ms - rule.query_offset_ms
        n_steps = (last_ms - first_ms) // rule.interval_ms + 1
        if n_steps <= 0:
            return
        steps = EvalRange(first_ms, first_ms + (n_steps - 1) * rule.interval_ms, rule.interval_ms)
        result = await self._queries.run(Query(self._tenant, rule.expr, steps))
        recorded = recorded_grid(rule, result, steps)
        block = block_of(recorded, each.last_present)
        scope = SampleScope((own_matchers(rule),), window.start_ms - rule.query_offset_ms, last_ms)
        each.n_steps += n_steps
        each.n_failed += n_steps - recorded.present.shape[1]
        each.n_samples += int(recorded.present.sum())
        each.n_replaced += (await self._corrections.preview(self._tenant, scope)).n_samples
        each.last_present = recorded.present_at_end(each.last_present)
        if not self._is_dry:
            request = CorrectionRequest(
                ReplaceSamples(scope, block), "promcompat rules backfill", f"{_REASON}: {rule.name}"
            )
            await self._corrections.apply(self._tenant, request)


def own_matchers(rule: Rule) -> tuple[LabelMatcher, ...]:
    """What selects the series that a rule records, and those only."""
    pairs = {METRIC_NAME: rule.name, **rule.labels}
    return tuple(LabelMatcher(name, MatchOp.EQUAL, value) for name, value in pairs.items())


def check_distinct(rules: Sequence[Rule]) -> None:
    """Raises BadDataError if two rules may record the same series: each would remove the other's.

    Two rules of a name are distinct if they set a label to different values.
    """
    by_name: defaultdict[str, list[Mapping[str, str]]] = defaultdict(list)
    for rule in rules:
        for other in by_name[rule.name]:
            if not any(other[name] != rule.labels[name] for name in other.keys() & rule.labels):
                raise BadDataError(
                    f"two rules {rule.name!r} may record the same series, so that a backfill of "
                    "one would remove what the other recorded; give them a label with different "
                    "values"
                )
        by_name[rule.name].append(rule.labels)


@dataclass(frozen=True, slots=True)
class RecordedGrid:
    """What a rule records: `values` and `present` are [n_series, n_steps], `times` [n_steps].

    Steps at which the evaluation fails are left out. `histograms` are what those of `values` that
    are no floats refer to.
    """

    labels: Sequence[Labels]
    times: IntArray
    values: FloatArray
    present: BoolArray
    histograms: Histograms | None = None

    def present_at_end(self, before: frozenset[Labels]) -> frozenset[Labels]:
        """The series of the last step; `before` without any step."""
        if not len(self.times):
            return before
        at_end = self.present[:, -1].tolist()
        return frozenset(
            labels for labels, is_there in zip(self.labels, at_end, strict=True) if is_there
        )


def recorded_grid(rule: Rule, result: QueryResult, steps: EvalRange) -> RecordedGrid:
    """The result of a range query with the labels of a rule.

    A step fails if two elements have the same labels then, or if there are more than the limit.
    Raises ExecutionError for a result that cannot be recorded.
    """
    found, values, present = _grid_of(result)
    rows: defaultdict[Labels, list[int]] = defaultdict(list)
    for row, labels in enumerate(found):
        named = labels.with_label(METRIC_NAME, rule.name)
        for name, text in rule.labels.items():
            named = named.with_label(name, text)
        rows[named].append(row)
    failed = np.zeros(values.shape[1], bool)
    for members in rows.values():
        if len(members) > 1:
            failed |= present[members].sum(axis=0) > 1
    if rule.max_alerts:
        failed |= present.sum(axis=0) > rule.max_alerts
    times = np.arange(steps.n_steps, dtype=np.int64) * steps.step_ms + steps.start_ms
    values, present = values[:, ~failed], present[:, ~failed]
    shape = len(rows), values.shape[1]
    merged = [_merged(values[members], present[members]) for members in rows.values()]
    kept = [present[members].any(axis=0) for members in rows.values()]
    return RecordedGrid(
        list(rows),
        times[~failed],
        np.array(merged, np.float64).reshape(shape),
        np.array(kept, bool).reshape(shape),
        histograms_of(result),
    )


def _grid_of(result: QueryResult) -> tuple[Sequence[Labels], FloatArray, BoolArray]:
    match result.value:
        case Matrix() as matrix:
            return matrix.labels, matrix.values, matrix.present & ~_has_fault(matrix)
        case ScalarGrid() as scalar:
            values = scalar.values[np.newaxis, :]
            return [Labels()], values, np.ones(values.shape, bool)
        case _:
            raise ExecutionError("rule result is not a vector or scalar")


def _has_fault(matrix: Matrix) -> BoolArray:
    """Which cells are histograms that cannot be stored."""
    found = np.zeros(matrix.values.shape, bool)
    if matrix.histograms is not None and (faults := find_faults(matrix.histograms.stored())):
        places = np.flatnonzero(is_histogram(matrix.values))
        numbers = histogram_numbers(matrix.values.reshape(-1)[places])
        found.reshape(-1)[places[np.isin(numbers, list(faults))]] = True
    return found


def _merged(values: FloatArray, present: BoolArray) -> FloatArray:
    """The values of rows of which at most one is present at each step."""
    chosen: FloatArray = values[present.argmax(axis=0), np.arange(values.shape[1])]
    return chosen


def block_of(grid: RecordedGrid, before: frozenset[Labels]) -> SampleBlock:
    """The samples of a grid, and a stale marker where a series ends.

    `before` are the series that were there at the step before the first one.
    """
    labels = [*grid.labels, *sorted(before - set(grid.labels))]
    absent = np.zeros((len(labels) - len(grid.labels), len(grid.times)), bool)
    present = np.concatenate([grid.present, absent])
    values = np.concatenate([grid.values, absent.astype(np.float64)])
    was_there = np.array([each in before for each in labels], bool)[:, np.newaxis]
    earlier = np.concatenate([was_there, present], axis=1)[:, : len(grid.times)]
    stored = present | earlier
    bits = np.where(present, values.view(np.uint64), np.uint64(STALE_NAN_BITS))
    offsets = np.concatenate(([0], np.cumsum(stored.sum(axis=1)))).astype(np.int64)
    times = np.broadcast_to(grid.times, stored.shape)[stored]
    cells = HistogramCells(bits[stored].view(np.float64), grid.histograms).compacted()
    return SampleBlock(tuple(labels), times, cells.values, offsets, histograms=cells.histograms)
