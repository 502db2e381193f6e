"""Runs the cases of a script against a target: the engine in process, or a server over HTTP.

The checks of one eval are those of Prometheus' own runner: the eval itself; an instant eval again
as the middle step of a range query; and, where asked for, again at other times with every selector
pinned to the time of the eval by `@`. An eval fails as a whole with its first failing check.
"""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum

from promcompat.core.model import METRIC_NAME, EvalRange, Labels
from promql.values.histogram_columns import HistogramColumns
from tests.promqltest.answer import (
    MatrixAnswer,
    almost_equal,
    find_difference,
    find_vector_difference,
)
from tests.promqltest.custom_buckets import custom_bucket_histograms
from tests.promqltest.expressions import pin_selectors, selectors_of
from tests.promqltest.script import (
    Case,
    Eval,
    Expectation,
    HistogramNotation,
    Load,
    Mark,
    ScriptSeries,
    TextCheck,
)
from tests.promqltest.target import Reply, Target
from tests.support.factories import STALE_NAN, MixedPoints

MINUTE_MS = 60_000


class Status(Enum):
    """How an eval ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one eval; `detail` says why it failed or was skipped."""

    line: int
    expr: str
    status: Status
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CaseRunner:
    """Runs one case against a target that is empty.

    `with_variants` adds the queries with pinned selectors. Without `with_histograms` what needs
    native histograms is left out. `is_strict` lets an eval that expects
    no warning, or no info, accept none; upstream accepts any then.
    """

    target: Target
    with_variants: bool
    is_strict: bool = False
    with_histograms: bool = False

    async def run(self, case: Case) -> AsyncIterator[Outcome]:
        """The outcomes of the case's evals, in order."""
        with_histograms: list[Labels] = []
        for command in case.commands:
            if isinstance(command, Load):
                points = load_points(command, self.with_histograms)
                await self.target.load(points, load_starts(command))
                with_histograms += histogram_series(command)
            elif not self.with_histograms and _needs_histograms(command, with_histograms):
                yield Outcome(command.line, command.expr, Status.SKIPPED, "native histograms")
            else:
                yield await self._run_eval(command)

    async def _run_eval(self, command: Eval) -> Outcome:
        try:
            failure = await self._find_failure(command)
        except Exception as exc:  # A crash of one eval must not hide the outcomes of the others.
            failure = f"crashed: {type(exc).__name__}: {exc}"
        status = Status.PASSED if failure is None else Status.FAILED
        return Outcome(command.line, command.expr, status, failure or "")

    async def _find_failure(self, command: Eval) -> str | None:
        if command.is_range:
            grid = EvalRange(command.start_ms, command.end_ms, command.step_ms)
            reply = await self.target.query_range(command.expr, grid)
        else:
            reply = await self.target.query(command.expr, command.time_ms)
        failure = find_reply_difference(command, reply, is_strict=self.is_strict)
        if command.is_range or command.expectation.failure is not None:
            return failure
        if failure is None and command.has_range_form:
            failure = await self._find_range_failure(command, command.expr, command.time_ms)
        if failure is None and self.with_variants:
            failure = await self._find_variant_failure(command)
        return failure

    async def _find_range_failure(self, command: Eval, expr: str, time_ms: int) -> str | None:
        grid = EvalRange(time_ms - MINUTE_MS, time_ms + MINUTE_MS, MINUTE_MS)
        reply = await self.target.query_range(expr, grid)
        difference = _find_step_difference(command.expectation, reply, time_ms)
        return None if difference is None else f"as a step of a range query: {difference}"

    async def _find_variant_failure(self, command: Eval) -> str | None:
        pinned = pin_selectors(command.expr, command.time_ms)
        if pinned is None:
            return None
        for time_ms in other_times(command.time_ms):
            reply = await self.target.query(pinned, time_ms)
            if reply.answer is None:
                return f"as {pinned} at {time_ms}: got the error {reply.error!r}"
            difference = find_difference(command, reply.answer)
            if difference is None and command.has_range_form:
                difference = await self._find_range_failure(command, pinned, time_ms)
            if difference is not None:
                return f"as {pinned} at {time_ms}: {difference}"
        return None


def find_reply_difference(command: Eval, reply: Reply, *, is_strict: bool) -> str | None:
    """How the reply differs from what the eval expects, annotations included."""
    expectation = command.expectation
    if reply.answer is None:
        return _find_error_difference(expectation.failure, reply.error)
    if expectation.failure is not None:
        return "expected an error, got an answer"
    default: list[TextCheck] | None = [] if is_strict else None
    return (
        find_difference(command, reply.answer)
        or find_text_difference("warning", _given(expectation.warnings, default), reply.warnings)
        or find_text_difference("info", _given(expectation.infos, default), reply.infos)
    )


def _given(
    checks: list[TextCheck] | None, default: list[TextCheck] | None
) -> list[TextCheck] | None:
    return default if checks is None else checks


def other_times(time_ms: int) -> Sequence[int]:
    """Times at which a query whose selectors are pinned must give the same answer."""
    if time_ms == 0:
        return (-1000, 0, 1000)
    return (-10 * time_ms, 0, time_ms // 5, time_ms, 10 * time_ms)


def load_points(command: Load, with_histograms: bool) -> dict[Labels, MixedPoints]:
    """The samples a load stores; without histograms, series that have some are left out."""
    points = {
        series.labels: _points(series, command.interval_ms)
        for series in command.series
        if with_histograms or not series.has_histograms
    }
    if command.with_nhcb and with_histograms:
        points |= custom_bucket_histograms(points)
    return points


def load_starts(command: Load) -> dict[Labels, dict[int, int]]:
    """When the counters of samples began, by the time of the sample, in Unix ms."""
    interval_ms = command.interval_ms
    return {
        labels: {
            index * interval_ms: index * interval_ms + after
            for index, after in enumerate(starts)
            if after is not None
        }
        for labels, starts in command.starts.items()
    }


def _points(series: ScriptSeries, interval_ms: int) -> MixedPoints:
    points: list[tuple[int, float | HistogramColumns]] = []
    for index, value in enumerate(series.values):
        match value:
            case Mark.STALE:
                points.append((index * interval_ms, STALE_NAN))
            case float():
                points.append((index * interval_ms, value))
            case HistogramNotation(columns):
                points.append((index * interval_ms, columns))
            case Mark.OMITTED:
                continue
    return points


def histogram_series(command: Load) -> list[Labels]:
    """The series of a load that hold native histograms."""
    found = [series.labels for series in command.series if series.has_histograms]
    if command.with_nhcb:
        found += [_histogram_of(series.labels) for series in command.series]
    return found


def _histogram_of(labels: Labels) -> Labels:
    name = re.sub(r"_(bucket|count|sum)$", "", labels.get(METRIC_NAME))
    return labels.without(["le"]).with_label(METRIC_NAME, name)


def _needs_histograms(command: Eval, with_histograms: Sequence[Labels]) -> bool:
    if command.expectation.has_histograms:
        return True
    if not with_histograms:
        return False
    return any(
        all(matcher.matches(labels.get(matcher.name)) for matcher in selector.matchers)
        for selector in selectors_of(command.expr)
        for labels in with_histograms
    )


def _find_error_difference(expected: TextCheck | None, message: str) -> str | None:
    if expected is None:
        return f"got the error {message!r}"
    return None if expected.accepts(message) else f"expected {expected}, got the error {message!r}"


def _find_step_difference(expectation: Expectation, reply: Reply, time_ms: int) -> str | None:
    answer = reply.answer
    if not isinstance(answer, MatrixAnswer):
        return f"got {reply} instead of a matrix"
    if expectation.is_ordered:
        return None
    labels = [labels for labels, _ in answer.rows]
    if labels != sorted(labels):
        return f"series are not sorted by their labels: {labels}"
    rows = [
        (labels, value)
        for labels, points in answer.rows
        for time, value in points
        if time == time_ms
    ]
    if expectation.scalar is None:
        return find_vector_difference(expectation, rows, is_ordered=False)
    if [labels for labels, _ in rows] != [Labels()]:
        return f"expected one point of a scalar, got {rows}"
    value = rows[0][1]
    if almost_equal(expectation.scalar, value):
        return None
    return f"expected {expectation.scalar!r}, got {value!r}"


_POSITION = re.compile(r" \(\d+:\d+\)$")
_FORCED = re.compile(r", from buckets .*$")


def find_text_difference(
    kind: str, checks: Sequence[TextCheck] | None, found: Sequence[str]
) -> str | None:
    """How warnings or infos differ from the checks.

    Checks may leave out what Prometheus appends only if it has the text of the query: the position,
    and how far counts were forced.
    """
    if checks is None:
        return None
    for check in checks:
        if not any(_accepts(check, text) for text in found):
            return f"expected {kind} {check}, got {list(found)}"
    for text in found:
        if not any(_accepts(check, text) for check in checks):
            return f"unexpected {kind} {text!r}"
    return None


def _accepts(check: TextCheck, text: str) -> bool:
    unplaced = _POSITION.sub("", text)
    return any(map(check.accepts, (text, unplaced, _FORCED.sub("", unplaced))))
