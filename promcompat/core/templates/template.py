"""Expands the templates of alert labels and annotations, as Prometheus does; pure.

`query` in a template asks for results that only the caller can fetch. An expansion that meets a
query without a result raises QueryNeededError; the caller fetches it and expands again. So nothing
here waits, and the same data always give the same text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from promcompat.core.model import EMPTY_LABELS, Labels
from promcompat.core.templates.evaluator import Evaluator
from promcompat.core.templates.functions import FUNCTION_NAMES, FunctionContext, bind_functions
from promcompat.core.templates.go_format import LabelMap, RootData, TemplateSample
from promcompat.core.templates.nodes import TemplateError, Tree
from promcompat.core.templates.parser import parse_template

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
    """What a template is expanded over; `queries` holds results, or the error of a query."""

    alert_name: str
    labels: Labels
    value: float
    now_ms: int
    external_url: str = ""
    external_labels: Labels = EMPTY_LABELS
    queries: Mapping[str, Sequence[tuple[Labels, float]] | str] = field(default_factory=dict)


_LONGEST_REMEMBERED: Final = 4_096
"""Characters of a template and its alert's name together: a long one would fill the memory."""


def _tree_of(alert_name: str, text: str) -> Tree:
    is_long = len(alert_name) + len(text) > _LONGEST_REMEMBERED
    return _parse(alert_name, text) if is_long else _parse_and_remember(alert_name, text)


def _parse(alert_name: str, text: str) -> Tree:
    return parse_template(f"__alert_{alert_name}", PRELUDE + text, FUNCTION_NAMES)


_parse_and_remember = lru_cache(maxsize=1024)(_parse)


def check_template(alert_name: str, text: str) -> None:
    """Raises TemplateError, in Prometheus' words, when the text is no template."""
    try:
        _tree_of(alert_name, text)
    except TemplateError as exc:
        raise TemplateError(f"error parsing template __alert_{alert_name}: {exc}") from exc


def expand_template(text: str, data: TemplateData) -> str:
    """The text of a template; a fault becomes `<error expanding template: …>` as in Prometheus.

    Raises QueryNeededError when `data.queries` lacks a query that the template asks.
    """
    if "{{" not in text:
        return text
    name = f"__alert_{data.alert_name}"
    try:
        tree = _tree_of(data.alert_name, text)
    except TemplateError as exc:
        return f"<error expanding template: error parsing template {name}: {exc}>"
    try:
        return _execute(tree, data)
    except TemplateError as exc:
        return f"<error expanding template: error executing template {name}: {exc}>"


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
    return Evaluator(tree, bind_functions(context)).run(root)
