"""Asks whether the condition of an alert still holds."""

from collections.abc import Mapping
from typing import Final, Protocol

from promcompat.core.errors import ExecutionError
from promcompat.core.model import Labels
from promcompat.services.metric_service import MetricService, QueryOptions
from promql.query_parameters import QueryParameters
from promql.values import Matrix

_OPTIONS: Final = QueryOptions(parameters=QueryParameters(timeout_seconds=60.0))


class ConditionChecker(Protocol):
    """Where a workflow learns whether a condition holds."""

    async def elements(
        self, tenant: str, query: str, series_labels: Mapping[str, str]
    ) -> list[Mapping[str, str]]:
        """The label sets of the query's result now that have all of `series_labels`.

        None left means that the condition cleared. Raises the errors of the engine, and
        ExecutionError for a query that gives no instant vector.
        """


class EngineConditionChecker:
    """Asks our own engine, so that a worker needs the database and nothing else."""

    def __init__(self, service: MetricService) -> None:
        self._service = service

    async def elements(
        self, tenant: str, query: str, series_labels: Mapping[str, str]
    ) -> list[Mapping[str, str]]:
        """The elements that are left; see the port."""
        now_ms = self._service.now_ms()
        result = await self._service.query(tenant, query, now_ms, _OPTIONS)
        if not isinstance(result.value, Matrix):
            raise ExecutionError("a condition must be an instant vector, empty when it cleared")
        return [
            labels.as_dict()
            for labels, is_present in zip(
                result.value.labels, result.value.present[:, 0], strict=True
            )
            if is_present and _has_all(labels, series_labels)
        ]


def _has_all(labels: Labels, wanted: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())
