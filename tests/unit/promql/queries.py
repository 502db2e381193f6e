"""Runs a query over a few series in memory, and shows the result as plain Python values."""

from collections.abc import Mapping, Sequence

import numpy as np

from promcompat.core.model import EvalRange, Labels, SampleBlock, SeriesSelection
from promcompat.core.ports import CheckBytes, any_bytes
from promql.engine import Engine, EngineOptions
from promql.features import ALL_FEATURES, Feature
from promql.query import Query
from promql.values.matrix import Matrix, QueryResult
from tests.support.factories import Points, make_block
from tests.support.fakes import matches_all

Series = Mapping[Labels, Points]


class SeriesReader:
    """A SampleReader over fixed series; `asked` are the selections of the last query."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self.selections: Sequence[SeriesSelection] = ()

    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        """See SampleReader."""
        self.selections = selections
        return [self._select(selection) for selection in selections]

    def _select(self, selection: SeriesSelection) -> SampleBlock:
        found = {
            labels: [p for p in points if selection.start_ms < p[0] <= selection.end_ms]
            for labels, points in self._series.items()
            if matches_all(labels, selection.matchers)
        }
        return make_block({labels: points for labels, points in found.items() if points})


def steps(values: Sequence[float | None], step_ms: int = 60_000, start_ms: int = 0) -> Points:
    """A sample at every step; None leaves one out."""
    return [
        (start_ms + index * step_ms, value)
        for index, value in enumerate(values)
        if value is not None
    ]


def _engine_options(*, delayed_name_removal: bool = False, **options: object) -> EngineOptions:
    """Options with every feature, but delayed name removal only if asked for."""
    features = ALL_FEATURES
    if not delayed_name_removal:
        features = features - {Feature.DELAYED_NAME_REMOVAL}
    return EngineOptions(features=features, **options)  # type: ignore[arg-type]


async def run(text: str, series: Series, time_ms: int = 0, **options: object) -> QueryResult:
    """The answer to an instant query."""
    engine = Engine(SeriesReader(series), _engine_options(**options))
    return await engine.run(Query("t", text, EvalRange.instant(time_ms)))


async def run_range(
    text: str, series: Series, n_steps: int, step_ms: int = 60_000, **options: object
) -> QueryResult:
    """The answer to a range query from 0 on."""
    engine = Engine(SeriesReader(series), _engine_options(**options))
    grid = EvalRange(0, (n_steps - 1) * step_ms, step_ms)
    return await engine.run(Query("t", text, grid))


def vector(result: QueryResult) -> list[tuple[str, float]]:
    """The rows of an instant vector, in order."""
    return [(labels, values[0]) for labels, values in rows(result) if values[0] is not None]


def rows(result: QueryResult) -> list[tuple[str, list[float | None]]]:
    """The rows of a matrix, None where there is no sample."""
    matrix = result.value
    assert isinstance(matrix, Matrix)
    values = np.where(matrix.present, matrix.values.astype(object), None).tolist()
    return list(zip(map(str, matrix.labels), values, strict=True))
