"""Runs promtool's tests of rules in memory, and reports on them as promtool does."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import glob
from pathlib import Path

import numpy as np

from promcompat.alerting.read_time import ReadTime
from promcompat.alerting.recording import histograms_of
from promcompat.alerting.rule_files.memory_samples import MemorySamples, MemorySession
from promcompat.alerting.rule_files.rule_conversion import rules_of
from promcompat.alerting.rule_files.rule_document import (
    GroupDocument,
    RuleFileError,
    parse_rule_file,
)
from promcompat.alerting.rule_files.series_notation import (
    Value,
    parse_series_labels,
    parse_series_values,
)
from promcompat.alerting.rule_files.unit_test_document import (
    AlertCase,
    ExpectedAlert,
    ExpectedSample,
    ExprCase,
    TestDocument,
    TestFile,
    annotations_of,
    parse_test_file,
)
from promcompat.alerting.rule_runner import RuleRunner
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.templates.expansion import Surroundings, cells_of, elements_of
from promcompat.core.alerting.alerts import AlertState, Rule
from promcompat.core.errors import BadDataError, PromcompatError
from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.histograms.validation import find_faults
from promcompat.core.model import EvalRange, Labels
from promcompat.core.texts.durations import format_duration_ms, format_go_duration
from promcompat.core.texts.file_faults import reading_fault
from promcompat.core.texts.strconv import format_exponent, quote
from promql.engine import Engine, EngineOptions
from promql.histograms.notation import histogram_notations
from promql.query import Query
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import QueryResult

_Sample = tuple[Labels, float, str]
"""Labels, value, and the notation of a histogram, whose value is 0; empty for a float."""
_TENANT = "test"
_INDENT = " " * 12


def run_test_file(path: Path, warn: Callable[[str], object]) -> list[str]:
    """The failures of a file, each as a text of promtool; none if all is well.

    `warn` gets a text for each pattern of rule files that no file matches.
    """
    try:
        file = parse_test_file(path.read_text(encoding="utf-8"))
        groups = _load_groups(file, path.parent, warn)
    except RuleFileError as exc:
        return list(exc.faults)
    except OSError as exc:
        return [f"{exc.filename}: {reading_fault(exc)}"]
    except (UnicodeDecodeError, BadDataError) as exc:
        return [reading_fault(exc)]
    failures: list[str] = []
    for test in file.tests:
        failures += asyncio.run(_run_test(file, test, groups))
    return failures


def _load_groups(
    file: TestFile, folder: Path, warn: Callable[[str], object]
) -> list[tuple[str, GroupDocument]]:
    """The groups of all rule files in the order of their evaluation, each with its file."""
    groups: list[tuple[str, GroupDocument]] = []
    for pattern in file.rule_files:
        if not (names := sorted(glob(str(folder / pattern)))):
            warn(f"  WARNING: no file match pattern {folder / pattern}")
        for name in names:
            try:
                found = parse_rule_file(Path(name).read_text(encoding="utf-8"))
            except RuleFileError as exc:
                raise RuleFileError([f"{name}: {fault}" for fault in exc.faults]) from exc
            groups += [(name, group) for group in found]
    order = {name: number for number, name in enumerate(file.group_order)}
    # A group that is not listed comes with the first one, as with promtool.
    return sorted(groups, key=lambda group: order.get(group[1].name, 0))


async def _run_test(
    file: TestFile, test: TestDocument, groups: Sequence[tuple[str, GroupDocument]]
) -> list[str]:
    for case in test.alerts:
        if not case.alert_name:
            of_test = f" (in TestGroup {test.name})" if test.name else ""
            return [
                "an item under alert_rule_test misses required attribute alertname at eval_time "
                f"{format_duration_ms(case.eval_ms)}{of_test}"
            ]
    try:
        return await _Run.of(file, test, groups).failures()
    except BadDataError as exc:
        return [str(exc)]


@dataclass(slots=True)
class _Run:
    """One test while it runs; `pending` are the samples that are not written yet, by time."""

    file: TestFile
    test: TestDocument
    sessions: Sequence[MemorySession]
    samples: MemorySamples
    pending: list[tuple[int, Labels, Value]]
    engine: Engine
    found: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, file: TestFile, test: TestDocument, groups: Sequence[tuple[str, GroupDocument]]
    ) -> "_Run":
        """Raises BadDataError for series that cannot be read."""
        samples, ids = MemorySamples(), iter(range(1, 1 << 62))
        sessions = []
        for name, group in groups:
            own = replace(group, interval_ms=group.interval_ms or test.interval_ms)
            rules = [replace(rule, id=next(ids)) for rule in rules_of(name, own)]
            sessions.append(MemorySession(rules))
        options = EngineOptions(default_subquery_step_ms=file.interval_ms, trusts_reset_hints=True)
        return cls(file, test, sessions, samples, _input(test), Engine(samples, options))

    async def failures(self) -> list[str]:
        """What differs from the expectations."""
        test, interval_ms = self.test, self.file.interval_ms
        surroundings = Surroundings(test.external_url, Labels.of(test.external_labels))
        runner = RuleRunner(self.samples, self.engine, AlertingStats(), surroundings)
        cases: defaultdict[int, list[AlertCase]] = defaultdict(list)
        for case in sorted(test.alerts, key=lambda case: case.eval_ms):
            cases[case.eval_ms // interval_ms * interval_ms].append(case)
        for after_ms in range(0, test.last_eval_ms + 1, interval_ms):
            if fault := self._write_until(test.start_ms + after_ms):
                self.found.append(fault)
                continue
            if errors := await self._evaluate(runner, after_ms):
                return [*self.found, *errors]
            for case in cases.get(after_ms, ()):
                await self._check_alerts(case)
        for expr in test.exprs:
            await self._check_expr(expr)
        return self.found

    def _write_until(self, time_ms: int) -> str:
        """What is wrong with a sample; as in promtool, none is written from there on."""
        while self.pending and self.pending[-1][0] <= time_ms:
            at_ms, labels, value = self.pending[-1]
            if isinstance(value, HistogramColumns) and (faults := find_faults(value.stored())):
                return faults[0]
            self.samples.add(labels, at_ms, value)
            self.pending.pop()
        return ""

    async def _evaluate(self, runner: RuleRunner, after_ms: int) -> list[str]:
        errors: list[str] = []
        for session in self.sessions:
            read_time = ReadTime()
            for rule, _ in session.rules:
                at_ms = self.test.start_ms + after_ms
                await runner.evaluate(session, _TENANT, rule, at_ms, read_time)
            shown_time = format_go_duration(after_ms * 1_000_000)
            errors += [
                f"    rule: {rule.name}, time: {shown_time}, err: {error}"
                for rule, _ in session.rules
                if (error := session.errors[rule.id])
            ]
        return errors

    async def _check_alerts(self, case: AlertCase) -> None:
        found = [
            ExpectedAlert(alert.labels, annotations_of(alert.annotations))
            for session, rule in self._rules()
            if rule.name == case.alert_name and not rule.is_recording
            for alert in await session.open_alerts(rule.id)
            if alert.state is AlertState.FIRING
        ]
        expected, got = sorted(case.expected, key=_order), sorted(found, key=_order)
        if expected != got:
            name = f"    name: {self.test.name},\n" if self.test.name else ""
            self.found.append(
                f"{name}    alertname: {case.alert_name}, "
                f"time: {format_duration_ms(case.eval_ms)}, \n"
                f"        exp:{_alerts_text(expected)}, \n        got:{_alerts_text(got)}"
            )

    def _rules(self) -> list[tuple[MemorySession, Rule]]:
        return [(session, rule) for session in self.sessions for rule, _ in session.rules]

    async def _check_expr(self, case: ExprCase) -> None:
        head = f"    expr: {quote(case.expr)}, time: {format_duration_ms(case.eval_ms)},"
        at = EvalRange.instant(self.test.start_ms + case.eval_ms)
        try:
            result = await self.engine.run(Query(_TENANT, case.expr, at))
            got = sorted(_samples_of(result), key=lambda sample: sample[0])
            expected = sorted(map(_sample_of, case.expected), key=lambda sample: sample[0])
        except PromcompatError as exc:
            self.found.append(f"{head} err: {exc}")
            return
        if not self._are_equal(expected, got):
            self.found.append(
                f"{head}\n        exp: {_samples_text(expected)}\n        got: {_samples_text(got)}"
            )

    def _are_equal(self, expected: Sequence[_Sample], got: Sequence[_Sample]) -> bool:
        known, found = ([(labels, shown) for labels, _, shown in both] for both in (expected, got))
        return known == found and all(
            left == right or (self.file.is_fuzzy and _are_neighbours(left, right))
            for (_, left, _), (_, right, _) in zip(expected, got, strict=True)
        )


def _input(test: TestDocument) -> list[tuple[int, Labels, Value]]:
    """The samples of the input, the latest first. Raises BadDataError."""
    samples = [
        (test.start_ms + number * test.interval_ms, parsed, value)
        for description, values in test.series
        for parsed in (parse_series_labels(description),)
        for number, value in enumerate(parse_series_values(values))
        if value is not None
    ]
    return sorted(samples, key=lambda sample: sample[0], reverse=True)


def _sample_of(expected: ExpectedSample) -> _Sample:
    try:
        labels = parse_series_labels(expected.labels)
        return labels, expected.value, _histogram_text(expected.histogram)
    except BadDataError as exc:
        raise BadDataError(f"labels {quote(expected.labels)}: {exc}") from exc


def _histogram_text(written: str) -> str:
    if not written:
        return ""
    values = parse_series_values(written)
    if len(values) != 1:
        raise BadDataError(f"expected 1 value, got {len(values)}")
    (value,) = values
    if not isinstance(value, HistogramColumns):
        raise BadDataError(f"expected histogram, got {'_' if value is None else f'{value:f}'}")
    return histogram_notations(value)[0]


def _samples_of(result: QueryResult) -> list[_Sample]:
    """The samples of a result. Raises ExecutionError for a range vector or a string."""
    cells, shown = cells_of(result), elements_of(result)
    stored = histograms_of(result)
    texts = [] if stored is None else histogram_notations(HistogramColumns.of(stored))
    found = []
    for (labels, value), (_, cell) in zip(shown, cells, strict=True):
        column = np.array([cell])
        is_there = bool(texts) and bool(is_histogram(column)[0])
        text = texts[int(histogram_numbers(column)[0])] if is_there else ""
        found.append((labels, value, text))
    return found


def _are_neighbours(left: float, right: float) -> bool:
    """Whether two values are as close as rounding leaves them."""
    return abs(left - right) <= min(math.ulp(left), math.ulp(right))


def _order(alert: ExpectedAlert) -> tuple[Labels, Labels]:
    return alert.labels, alert.annotations


def _alerts_text(alerts: Sequence[ExpectedAlert]) -> str:
    if not alerts:
        return "[]"
    parts = [
        f"\n{_INDENT}{number}:\n{_INDENT}  Labels:{alert.labels}\n"
        f"{_INDENT}  Annotations:{alert.annotations}"
        for number, alert in enumerate(alerts)
    ]
    return "[" + ",".join(parts) + f"\n{_INDENT}]"


def _samples_text(samples: Sequence[_Sample]) -> str:
    if not samples:
        return "nil"
    # Go's format `E`, in which infinities keep their lower case.
    return ", ".join(
        f"{labels} {histogram or format_exponent(value).replace('e', 'E')}"
        for labels, value, histogram in samples
    )


def report_of(failures_by_file: Mapping[str, Sequence[str]]) -> list[str]:
    """The lines of promtool for the failures of each file."""
    lines: list[str] = []
    for failures in failures_by_file.values():
        lines.append("  FAILED:" if failures else "  SUCCESS")
        for failure in failures:
            lines += [failure, ""]
        lines.append("")
    return lines
