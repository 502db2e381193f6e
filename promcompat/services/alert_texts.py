"""Templates of alerts with the queries they ask: fetched, then expanded again."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from promcompat.core.errors import ExecutionError, PromcompatError, StorageUnavailableError
from promcompat.core.model import EMPTY_LABELS, Labels
from promcompat.core.templates.template import (
    QueryNeededError,
    TemplateData,
    expand_template,
)
from promql.values import Matrix, QueryResult, ScalarGrid

Element = tuple[Labels, float]
_MAX_QUERIES = 50
"""How many queries the templates of one evaluation may ask: a label may make each another one."""


def elements_of(result: QueryResult) -> list[Element]:
    """The elements of an instant query's result; a scalar is one element without labels.

    Raises ExecutionError for a range vector or a string.
    """
    match result.value:
        case Matrix() as matrix:
            rows = matrix.present[:, 0].nonzero()[0].tolist()
            return [(matrix.labels[row], float(matrix.values[row, 0])) for row in rows]
        case ScalarGrid() as scalar:
            return [(EMPTY_LABELS, float(scalar.values[0]))]
        case _:
            raise ExecutionError("rule result is not a vector or scalar")


@dataclass(slots=True)
class AlertTexts:
    """Expands templates at one time; each query is asked once."""

    query: Callable[[str], Awaitable[QueryResult]]
    external_url: str
    now_ms: int
    _found: dict[str, Sequence[Element] | str] = field(default_factory=dict)

    async def expand(self, text: str, alert_name: str, labels: Labels, value: float) -> str:
        """The text of a template. Raises StorageUnavailableError of its queries."""
        data = TemplateData(
            alert_name=alert_name,
            labels=labels,
            value=value,
            now_ms=self.now_ms,
            external_url=self.external_url,
            queries=self._found,
        )
        while True:
            try:
                expanded = expand_template(text, replace(data, queries=self._found))
            except QueryNeededError as needed:
                self._found[needed.query] = await self._ask(needed.query)
            else:
                return expanded.replace("\0", "\ufffd")

    async def _ask(self, text: str) -> Sequence[Element] | str:
        if len(self._found) >= _MAX_QUERIES:
            return "too many queries in templates"
        try:
            return elements_of(await self.query(text))
        except StorageUnavailableError:
            raise
        except PromcompatError as exc:
            return str(exc)
