"""Expands templates of alerts and runs the queries in them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from promcompat.alerting.templates.nodes import TemplateLimitError
from promcompat.alerting.templates.template import (
    QueryNeededError,
    TemplateData,
    error_text,
    expand_template,
)
from promcompat.alerting.templates.values import HistogramText, SampleValue
from promcompat.core.errors import ExecutionError, PromcompatError, StorageUnavailableError
from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.model import EMPTY_LABELS, Labels
from promcompat.core.texts.storable_text import storable_text
from promql.histograms.listed_buckets import histogram_texts
from promql.values.matrix import Matrix, QueryResult, ScalarGrid

T = TypeVar("T")
Element = tuple[Labels, float]
ShownElement = tuple[Labels, SampleValue]
_MAX_QUERIES = 50
"""How many queries the templates of one evaluation may run; labels can make each one different."""
_MAX_ELEMENTS = 100_000
"""In the results of all these queries together."""
_MAX_CHARACTERS = 32 << 20
_MAX_SECONDS = 10


class Expand(Protocol):
    """Expands one template."""

    def __call__(self, text: str, alert_name: str, labels: Labels, value: SampleValue, /) -> str:
        """The text of a template."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What templates are told of the service: its address for people, and its external labels."""

    external_url: str = ""
    external_labels: Labels = EMPTY_LABELS


def elements_of(result: QueryResult) -> list[Element]:
    """The elements of an instant query's result; a scalar is one element without labels.

    A histogram has the value 0, as in Prometheus' alerts. Raises ExecutionError for a range vector
    or a string.
    """
    found = cells_of(result)
    if not isinstance(result.value, Matrix) or result.value.histograms is None:
        return found
    cells = np.array([value for _, value in found], np.float64)
    return [
        (labels, 0.0 if is_there else value)
        for (labels, value), is_there in zip(found, is_histogram(cells).tolist(), strict=True)
    ]


def shown_elements(result: QueryResult) -> Sequence[ShownElement]:
    """The same as templates see them: a histogram is its text."""
    found = cells_of(result)
    matrix = result.value
    if not isinstance(matrix, Matrix) or matrix.histograms is None:
        return found
    texts = histogram_texts(matrix.histograms)
    column = np.array([value for _, value in found], np.float64)
    numbers = np.where(is_histogram(column), histogram_numbers(column), -1).tolist()
    return [
        (labels, value if number < 0 else HistogramText(texts[number]))
        for (labels, value), number in zip(found, numbers, strict=True)
    ]


def cells_of(result: QueryResult) -> list[Element]:
    """The same with the cells of histograms, see `promcompat.core.histograms`, as they are."""
    match result.value:
        case Matrix() as matrix:
            rows = matrix.present[:, 0].nonzero()[0].tolist()
            return [(matrix.labels[row], float(matrix.values[row, 0])) for row in rows]
        case ScalarGrid() as scalar:
            return [(EMPTY_LABELS, float(scalar.values[0]))]
        case _:
            raise ExecutionError("rule result is not a vector or scalar")


@dataclass(slots=True)
class TemplateExpander:
    """Expands the templates of one evaluation, in a thread; each query runs once.

    All of them together have 10 seconds without their queries, as other rules wait for them.
    `fault` is the first error about the limits of a template.
    """

    query: Callable[[str], Awaitable[QueryResult]]
    surroundings: Surroundings
    now_ms: int
    fault: str = ""
    _found: dict[str, Sequence[ShownElement] | str] = field(default_factory=dict)
    _texts: dict[tuple[str, str, Labels, SampleValue], str] = field(default_factory=dict)
    _n_characters: int = 0
    _n_elements: int = 0
    _seconds_left: float = _MAX_SECONDS

    async def expand(self, text: str, alert_name: str, labels: Labels, value: SampleValue) -> str:
        """The text of a template. Raises as `run` does."""
        if "{{" not in text:
            return text
        return await self.run(lambda expand: expand(text, alert_name, labels, value))

    async def run(self, build: Callable[["Expand"], T]) -> T:
        """The result of `build`, in a thread; it starts again after each new query of a template.

        Raises what `build` raises, StorageUnavailableError of queries, and ExecutionError when all
        templates together take too long or give too much text.
        """
        while True:
            try:
                return await asyncio.to_thread(build, self._expand)
            except QueryNeededError as needed:
                self._found[needed.query] = await self._run_query(needed.query)

    def _expand(self, text: str, alert_name: str, labels: Labels, value: SampleValue) -> str:
        if "{{" not in text:
            return text
        key = text, alert_name, labels, value
        if key not in self._texts:
            if self._seconds_left <= 0:
                raise ExecutionError(f"the templates of the rule take longer than {_MAX_SECONDS} s")
            expanded = self._expanded(text, alert_name, labels, value)
            self._texts[key] = storable_text(expanded)
            self._n_characters += len(expanded)
            if self._n_characters > _MAX_CHARACTERS:
                raise ExecutionError(
                    f"the templates of the rule produce more than {_MAX_CHARACTERS} characters"
                )
        return self._texts[key]

    def _expanded(self, text: str, alert_name: str, labels: Labels, value: SampleValue) -> str:
        started = time.monotonic()
        data = TemplateData(
            alert_name=alert_name,
            labels=labels,
            value=value,
            now_ms=self.now_ms,
            external_url=self.surroundings.external_url,
            external_labels=self.surroundings.external_labels,
            queries=self._found,
            deadline=started + self._seconds_left,
        )
        try:
            return expand_template(text, data)
        except TemplateLimitError as exc:
            self.fault = self.fault or str(exc)
            return error_text(str(exc))
        finally:
            self._seconds_left -= time.monotonic() - started

    async def _run_query(self, text: str) -> Sequence[ShownElement] | str:
        if len(self._found) >= _MAX_QUERIES:
            return "too many queries in templates"
        try:
            elements = await asyncio.to_thread(shown_elements, await self.query(text))
        except StorageUnavailableError:
            raise
        except PromcompatError as exc:
            return str(exc)
        self._n_elements += len(elements)
        if self._n_elements > _MAX_ELEMENTS:
            return f"the queries of the templates return more than {_MAX_ELEMENTS} elements"
        return elements
