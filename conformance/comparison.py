"""Asks two servers the same questions and says where their answers differ."""

import asyncio
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conformance.http_target import ShownHistogram, read_data
from conformance.prometheus_api import PrometheusApi, Response, format_seconds
from promcompat.core.model import EvalRange, Labels
from tests.promqltest.answer import (
    Answer,
    MatrixAnswer,
    Point,
    Sample,
    ScalarAnswer,
    StringAnswer,
    VectorAnswer,
)

_KNOWN = Path(__file__).parent / "known_differences.yml"
_AT_ONCE = 4
RELATIVE_TOLERANCE = 1e-9
# What is left of rounding when terms of about one cancel out.
ABSOLUTE_TOLERANCE = 1e-12

Rows = dict[Labels, Sequence[Point]]


@dataclass(frozen=True, slots=True)
class Question:
    """An expression with its grid; a grid of one step is an instant query."""

    expr: str
    grid: EvalRange

    @property
    def is_instant(self) -> bool:
        """Whether it is asked as an instant query."""
        return self.grid.step_ms == 0

    async def ask(self, api: PrometheusApi) -> Response:
        """The server's answer."""
        if self.is_instant:
            return await api.query(self.expr, format_seconds(self.grid.start_ms))
        times = (self.grid.start_ms, self.grid.end_ms, self.grid.step_ms)
        return await api.query_range(self.expr, *map(format_seconds, times))


@dataclass(frozen=True, slots=True)
class Difference:
    """A question that the two servers answer differently."""

    question: Question
    detail: str

    def __str__(self) -> str:
        kind = "instant" if self.question.is_instant else "range"
        return f"[{kind}] {self.question.expr}\n    {self.detail}"


@dataclass(frozen=True, slots=True)
class KnownDifference:
    """A reason why some questions may be answered differently.

    `pattern` finds their expressions, and `detail` what the difference is.
    """

    pattern: re.Pattern[str]
    detail: re.Pattern[str]
    reason: str

    def explains(self, difference: Difference) -> bool:
        """Whether the reason is that of a difference."""
        is_asked = self.pattern.search(difference.question.expr) is not None
        return is_asked and self.detail.search(difference.detail) is not None


@dataclass(frozen=True, slots=True)
class Agreement:
    """The outcome of a comparison; `n_with_data` counts the answers that were not empty, and
    `n_identical` those that are equal to the last digit, the order of series aside."""

    n_questions: int
    n_with_data: int
    n_identical: int
    differences: Sequence[Difference]

    def unexplained(self, known: Sequence[KnownDifference]) -> list[Difference]:
        """The differences no known reason covers."""
        return [
            difference
            for difference in self.differences
            if not any(entry.explains(difference) for entry in known)
        ]


def load_known_differences() -> list[KnownDifference]:
    """Read `known_differences.yml`; every entry must give a reason."""
    entries = yaml.safe_load(_KNOWN.read_text("utf-8")) or []
    return [
        KnownDifference(
            re.compile(entry["query"]), re.compile(entry.get("detail", "")), entry["reason"]
        )
        for entry in entries
    ]


async def compare_servers(
    reference: PrometheusApi,
    candidate: PrometheusApi,
    questions: Iterable[Question],
) -> Agreement:
    """Ask both servers every question, some questions at once."""
    waiting = list(questions)
    n_questions, n_with_data, n_identical = len(waiting), 0, 0
    differences: list[Difference] = []

    async def ask_rest() -> None:
        nonlocal n_with_data, n_identical
        while waiting:
            question = waiting.pop()
            responses = await asyncio.gather(question.ask(reference), question.ask(candidate))
            n_with_data += has_data(responses[0])
            if responses[0] == responses[1]:
                n_identical += 1
                continue
            n_identical += are_identical(*responses)
            detail = find_response_difference(question.expr, *responses)
            if detail is not None:
                differences.append(Difference(question, detail))

    await asyncio.gather(*(ask_rest() for _ in range(_AT_ONCE)))
    differences.sort(key=lambda difference: (difference.question.expr, str(difference)))
    return Agreement(n_questions, n_with_data, n_identical, differences)


def has_data(response: Response) -> bool:
    """Whether a query was answered with anything."""
    return response.is_success and bool(response.data["result"])


def are_identical(reference: Response, candidate: Response) -> bool:
    """Whether two answers are the same texts, in whatever order their series come."""
    wanted, found = (_in_order(response.body.get("data")) for response in (reference, candidate))
    return wanted == found


def _in_order(data: Any) -> Any:
    if not isinstance(data, dict) or data["resultType"] not in {"vector", "matrix"}:
        return data
    return data["resultType"], sorted(data["result"], key=lambda row: sorted(row["metric"].items()))


def find_response_difference(expr: str, reference: Response, candidate: Response) -> str | None:
    """How the candidate's answer differs from the reference's; None when it does not."""
    if not reference.is_success or not candidate.is_success:
        return _find_error_difference(reference, candidate)
    for key in ("warnings", "infos"):
        wanted, found = (_annotations(response, key) for response in (reference, candidate))
        if wanted != found:
            return f"{key} {found}, not {wanted}"
    wanted_answer, answer = read_data(reference.data), read_data(candidate.data)
    return find_answer_difference(wanted_answer, answer) or _find_order_difference(
        expr, wanted_answer, answer
    )


# Prometheus 3.14, whose language promcompat has, words these otherwise than the 3.5.3 of the tests.
_REWORDED = (
    (re.compile(r"(needed to be fixed for monotonicity \(see \S+\)).*?( \(\d+:\d+\))?$"), r"\1\2"),
    (re.compile(r"(malformed value of \".*\") for metric name \".*?\"( \(\d+:\d+\))?$"), r"\1\2"),
)
_NEW_TEXTS = re.compile(r"PromQL warning: sort is ineffective for range queries .*")
_OMITTED = re.compile(r"\d+ more (warning|info) annotations omitted")


def _annotations(response: Response, key: str) -> list[str]:
    """The annotations, sorted; only their number when Prometheus leaves out some, at random."""
    given = response.body.get(key, ())
    texts = sorted({_as_in_both(text) for text in given if not _NEW_TEXTS.fullmatch(text)})
    omitted = [text for text in texts if _OMITTED.fullmatch(text)]
    return [str(len(texts)), *omitted] if omitted else texts


def _as_in_both(text: str) -> str:
    for pattern, kept in _REWORDED:
        text = pattern.sub(kept, text)
    return text


# Which of several ambiguous groups is named, and in which order its series are, depends on the
# order of the storage.
_AMBIGUOUS_GROUP = re.compile(r"match group \{.*\} on the (.*) operation: \[.*\];")


def _find_error_difference(reference: Response, candidate: Response) -> str | None:
    wanted, found = (
        (
            response.status,
            response.body.get("errorType"),
            _AMBIGUOUS_GROUP.sub(r"match group {…} on the \1 operation: […];", response.error),
        )
        for response in (reference, candidate)
    )
    return None if wanted == found else f"answered {found}, not {wanted}"


def find_answer_difference(reference: Answer, candidate: Answer) -> str | None:
    """How two answers differ, the order of series aside; None when they do not."""
    match reference, candidate:
        case ScalarAnswer(wanted), ScalarAnswer(value):
            return None if nearly_equal(wanted, value) else f"{value!r}, not {wanted!r}"
        case StringAnswer(text), StringAnswer(found):
            return None if text == found else f"{found!r}, not {text!r}"
        case VectorAnswer(wanted_rows), VectorAnswer(rows):
            return _find_rows_difference(
                {labels: [(0, value)] for labels, value in wanted_rows},
                {labels: [(0, value)] for labels, value in rows},
            )
        case MatrixAnswer(wanted_series), MatrixAnswer(series):
            return _find_rows_difference(dict(wanted_series), dict(series))
        case _:
            return f"a {type(candidate).__name__}, not a {type(reference).__name__}"


def _find_rows_difference(reference: Rows, candidate: Rows) -> str | None:
    missing = sorted(reference.keys() - candidate.keys())
    unexpected = sorted(candidate.keys() - reference.keys())
    if missing or unexpected:
        return (
            f"{len(missing)} series missing: {missing[:3]}, "
            f"{len(unexpected)} not expected: {unexpected[:3]}"
        )
    for labels, wanted in reference.items():
        found = candidate[labels]
        if [time for time, _ in wanted] != [time for time, _ in found]:
            return f"{labels}: points {found[:5]}…, not {wanted[:5]}…"
        for (time, left), (_, right) in zip(wanted, found, strict=True):
            if not nearly_equal(left, right):
                return f"{labels} at {time}: {right!r}, not {left!r}"
    return None


# The groups of `topk by (…)` come in the order of the storage, so that only one group is sorted.
_SORTED = re.compile(r"\s*(sort\w*|topk|bottomk)\s*\(")
_GROUPED_BEHIND = re.compile(r"\)\s*(by|without)\s*\([^()]*\)\s*$")


def _find_order_difference(expr: str, reference: Answer, candidate: Answer) -> str | None:
    """The order is part of the answer where the query sorts; equal values may swap places."""
    if not isinstance(reference, VectorAnswer) or not isinstance(candidate, VectorAnswer):
        return None
    if _SORTED.match(expr) is None or _GROUPED_BEHIND.search(expr) is not None:
        return None
    wanted, found = ([value for _, value in answer.rows] for answer in (reference, candidate))
    pairs = zip(wanted, found, strict=True)
    if all(nearly_equal(left, right) for left, right in pairs):
        return None
    return f"values in the order {found[:5]}…, not {wanted[:5]}…"


def nearly_equal(left: Sample | ShownHistogram, right: Sample | ShownHistogram) -> bool:
    """Whether two values differ by no more than rounding."""
    if isinstance(left, ShownHistogram) or isinstance(right, ShownHistogram):
        return _are_nearly_equal_histograms(left, right)
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    return math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)


def _are_nearly_equal_histograms(
    left: Sample | ShownHistogram, right: Sample | ShownHistogram
) -> bool:
    if not isinstance(left, ShownHistogram) or not isinstance(right, ShownHistogram):
        return False
    if len(left.buckets) != len(right.buckets):
        return False
    pairs = zip(_numbers_of(left), _numbers_of(right), strict=True)
    return all(nearly_equal(one, other) for one, other in pairs)


def _numbers_of(shown: ShownHistogram) -> list[float]:
    return [shown.count, shown.sum, *(number for bucket in shown.buckets for number in bucket)]
