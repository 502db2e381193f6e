"""Expands the templates of alert labels and annotations, as Prometheus does; pure.

`query` in a template asks for results that only the caller can fetch. An expansion that meets a
query without a result raises QueryNeededError; the caller fetches it and expands again. So nothing
here waits, and the same data always give the same text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from promcompat.alerting.templates.evaluator import Evaluator
from promcompat.alerting.templates.functions import FUNCTION_NAMES, FunctionContext, bind_functions
from promcompat.alerting.templates.nodes import TemplateError, TemplateLimitError, Tree
from promcompat.alerting.templates.parser import parse_template
from promcompat.alerting.templates.values import LabelMap, RootData, SampleValue, TemplateSample
from promcompat.core.bounded_caches import ByteBoundedCache
from promcompat.core.model import EMPTY_LABELS, Labels

PRELUDE: Final = (
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}"
    "{{$externalURL := .ExternalURL}}{{$value := .Value}}"
)


class QueryNeededError(Exception):
    """The expansion needs the result of `query`."""

    def __init__(self, query: str) -> None:
        super().__init__(query)
        self.query = query


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateData:
    """The data of a template; `queries` has results, or the error of a query.

    No template is worked on after `deadline`, a `time.monotonic()` value.
    """

    alert_name: str
    labels: Labels
    value: SampleValue
    now_ms: int
    external_url: str = ""
    external_labels: Labels = EMPTY_LABELS
    queries: Mapping[str, Sequence[tuple[Labels, SampleValue]] | str] = field(default_factory=dict)
    deadline: float = math.inf


_TREES: Final = ByteBoundedCache[tuple[str, str], Tree](32 << 20)
_BYTES_PER_CHARACTER: Final = 100
"""About the size of a tree for each character of its text."""


def _parse(alert_name: str, text: str) -> Tree:
    tree = _TREES.get((alert_name, text))
    if tree is None:
        tree = parse_template(f"__alert_{alert_name}", PRELUDE + text, FUNCTION_NAMES)
        n_characters = len(alert_name) + len(text)
        _TREES.add((alert_name, text), tree, n_characters * _BYTES_PER_CHARACTER)
    return tree


def check_template(alert_name: str, text: str) -> None:
    """Raises TemplateError, in Prometheus' words, when the text is not a template."""
    try:
        _parse(alert_name, text)
    except TemplateError as exc:
        raise TemplateError(f"error parsing template __alert_{alert_name}: {exc}") from exc


def expand_template(text: str, data: TemplateData) -> str:
    """The text of a template; a fault becomes `<error expanding template: …>` as in Prometheus.

    Raises QueryNeededError when `data.queries` lacks a query that the template asks, and
    TemplateLimitError when the template takes too much.
    """
    if "{{" not in text:
        return text
    name = f"__alert_{data.alert_name}"
    try:
        tree = _parse(data.alert_name, text)
    except TemplateError as exc:
        return error_text(f"error parsing template {name}: {exc}")
    try:
        return _execute(tree, data)
    except TemplateLimitError as exc:
        raise TemplateLimitError(f"error executing template {name}: {exc}") from exc
    except TemplateError as exc:
        return error_text(f"error executing template {name}: {exc}")


def error_text(fault: str) -> str:
    """What replaces a text that could not be expanded, as in Prometheus."""
    return f"<error expanding template: {fault}>"


def _execute(tree: Tree, data: TemplateData) -> str:
    def query(text: str) -> list[TemplateSample]:
        found = data.queries.get(text)
        if found is None:
            raise QueryNeededError(text)
        if isinstance(found, str):
            raise ValueError(found)
        return [TemplateSample(LabelMap(labels.as_dict()), value) for labels, value in found]

    context = FunctionContext(query, data.external_url, data.now_ms)
    root = RootData(
        labels=LabelMap(data.labels.as_dict()),
        external_labels=LabelMap(data.external_labels.as_dict()),
        external_url=data.external_url,
        value=data.value,
    )
    return Evaluator(tree, bind_functions(context), data.deadline).run(root)
