"""Rules whose result has native histograms."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from promcompat.alerting.backfill import block_of, recorded_grid
from promcompat.alerting.recording import Recorder
from promcompat.alerting.templates.expansion import elements_of
from promcompat.core.histograms.columns import histogram_cells, histogram_numbers, is_histogram
from promcompat.core.model import EvalRange, Labels, WriteBatch
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix, QueryResult
from tests.support.factories import make_labels
from tests.support.histograms import histogram

GOOD = histogram(count=3, total=1.5, positive=[(1, 2.5)], hint=3)
NEGATIVE = histogram(count=3, total=1.5, positive=[(1, -2.5)], hint=3)
COLUMNS = HistogramColumns.joined([NEGATIVE, GOOD])
NAMES = [make_labels("x", i=str(i)) for i in range(3)]
RULE: Any = SimpleNamespace(
    id=1, name="r", labels={}, max_alerts=0, query_offset_ms=0, expr="x", n_failed=0
)


def result_of(values: np.ndarray, *, is_range: bool = False) -> QueryResult:
    """A result whose series are floats where `values` are, and else histograms."""
    present = np.ones(values.shape, bool)
    matrix = Matrix(NAMES, values, present, np.zeros(len(NAMES), bool), COLUMNS)
    return QueryResult(matrix, np.arange(values.shape[1]) * 1_000, is_range)


def mixed(n_steps: int) -> np.ndarray:
    """A histogram that is not valid, a valid one, and a float."""
    cells = histogram_cells(np.array([0, 1]))
    return np.repeat(np.array([cells[0], cells[1], 7.0])[:, np.newaxis], n_steps, axis=1)


class Session:
    """Keeps which series a rule recorded."""

    saved: set[Labels] = set()  # noqa: RUF012 - one test, one session

    async def recorded_series(self, rule_id: int) -> set[Labels]:
        return set()

    async def save_recorded(self, rule: Any, series: set[Labels]) -> None:
        self.saved = set(series)


async def test_a_recording_rule_stores_valid_histograms_and_says_what_is_wrong_with_others() -> (
    None
):
    written: list[WriteBatch] = []

    async def write(tenant: str, batch: WriteBatch) -> None:
        written.append(batch)

    async def run(query: Any) -> QueryResult:
        return result_of(mixed(1))

    recorder = Recorder(SimpleNamespace(write=write), SimpleNamespace(run=run))  # type: ignore[arg-type]
    session: Any = Session()
    read_time: Any = SimpleNamespace(asked_at=None, renew=lambda: None)
    error = await recorder.record(session, "t", RULE, 5_000, read_time)
    assert error == (
        "positive side: bucket number 1 has observation count of -2.5: histogram has a bucket "
        "whose observation count is negative"
    )
    (batch,) = written
    recorded = [make_labels("r", i=str(i)) for i in (1, 2)]
    assert list(batch.labels.values()) == recorded
    assert session.saved == set(recorded)
    assert is_histogram(batch.values).tolist() == [True, False]
    assert batch.histograms is not None
    assert (len(batch.histograms), batch.histograms.is_float.tolist()) == (1, [True])
    assert batch.histograms.hints.tolist() == [3]
    assert histogram_numbers(batch.values[:1]).tolist() == [0]


def test_a_histogram_fires_with_the_value_0() -> None:
    assert elements_of(result_of(mixed(1))) == list(zip(NAMES, [0.0, 0.0, 7.0], strict=True))


def test_a_backfill_has_the_histograms_of_all_steps() -> None:
    grid = recorded_grid(RULE, result_of(mixed(2), is_range=True), EvalRange(0, 1_000, 1_000))
    block = block_of(grid, frozenset())
    assert np.diff(block.offsets).tolist() == [0, 2, 2]
    assert is_histogram(block.values).tolist() == [True, True, False, False]
    assert block.histograms is not None
    assert block.histograms.positive.cells.view(np.float64).tolist() == [2.5, 2.5]
