"""How selections are read, for people: rules, statement, estimate; and measured when asked."""

import re
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from promcompat.core.explanations import ReadMeasurement, RuleOutcome, SelectionExplanation
from promcompat.core.model import SeriesSelection
from promql.pushdown.choice import estimated_rows
from promql.pushdown.rules import RULES
from promql.translator import Statement, explain_analyze_statement
from sql.storage.connection_pool import Connection, Pool, acquired
from sql.storage.copy_format import SampleDecoder
from sql.storage.copy_query import inline_parameters
from sql.storage.read_planner import PlannedRead, ReadPlanner
from sql.storage.sample_reader import SampleAllowance, copy_out
from sql.storage.series_reader import SeriesReader

_SHOWN_ITEMS: Final = 5
_ARRAY: Final = re.compile(r"'\{([^{}']*)\}'")
_NOTHING: Final = SelectionExplanation(
    n_series=0,
    rules=tuple(RuleOutcome(rule.__name__, False, "no series matches") for rule in RULES),
    estimated_rows=0.0,
)


class ReadExplainer:
    """Explains the reads that a `SampleReader` of the same parts would do."""

    def __init__(
        self, pool: Pool, series_reader: SeriesReader, planner: ReadPlanner, *, max_samples: int
    ) -> None:
        """`max_samples` bounds what is read of all selections together (0: no bound)."""
        self._pool = pool
        self._series_reader = series_reader
        self._planner = planner
        self._max_samples = max_samples

    async def explain(
        self, tenant_id: int | None, selections: Sequence[SeriesSelection], analyze: bool
    ) -> list[SelectionExplanation]:
        """One explanation for each selection, one after the other: they do not slow each other.

        Raises ExecutionError when `analyze` reads more than `max_samples`.
        """
        if tenant_id is None:
            return [_nothing(analyze) for _ in selections]
        allowance = SampleAllowance(self._max_samples) if analyze else None
        async with acquired(self._pool) as connection:
            generation = await self._series_reader.generation(connection, tenant_id)
            found = []
            for selection in selections:
                selector = await self._series_reader.resolve(
                    connection, tenant_id, selection.matchers, generation
                )
                if len(selector.ids):
                    read = await self._planner.plan(
                        connection, selection, selector.ids, always_estimates=True
                    )
                    measured = await _measure(connection, read.statement, allowance)
                    found.append(_explanation(selection, len(selector.ids), read, measured))
                else:
                    found.append(_nothing(analyze))
        return found


def _nothing(analyze: bool) -> SelectionExplanation:
    if not analyze:
        return _NOTHING
    return SelectionExplanation(
        n_series=0,
        rules=_NOTHING.rules,
        estimated_rows=0.0,
        measured=ReadMeasurement(rows=0, seconds=0.0),
    )


def _explanation(
    selection: SeriesSelection,
    n_series: int,
    read: PlannedRead,
    measured: ReadMeasurement | None,
) -> SelectionExplanation:
    thinning, estimate, statement = read.choice.thinning, read.estimate, read.statement
    rows = None if estimate is None else estimate.rows
    if estimate is not None and thinning is not None:
        rows = estimated_rows(thinning, selection, estimate)
    return SelectionExplanation(
        n_series=n_series,
        rules=tuple(RuleOutcome(d.rule, d.applies, d.reason) for d in read.choice.decisions),
        sql="" if statement is None else statement.text,
        parameters=() if statement is None else tuple(map(shown_parameter, statement.params)),
        estimated_rows=rows,
        measured=measured,
    )


async def _measure(
    connection: Connection, statement: Statement | None, allowance: SampleAllowance | None
) -> ReadMeasurement | None:
    """Read once as a query does, for the time, and once more under the database's own EXPLAIN."""
    if allowance is None:
        return None
    if statement is None:
        return ReadMeasurement(rows=0, seconds=0.0)
    decoder = SampleDecoder()
    allowance.watch(decoder)
    started = time.perf_counter()
    await copy_out(connection, statement, decoder, allowance)
    seconds = time.perf_counter() - started
    # With literals, as the COPY has them, so that both have the same plan.
    explained = explain_analyze_statement(inline_parameters(statement))
    lines = await connection.fetch(explained.text)
    plan = shorten_arrays("\n".join(line[0] for line in lines))
    return ReadMeasurement(rows=decoder.n_rows, seconds=seconds, database_plan=plan)


def shown_parameter(value: object) -> str:
    """A parameter for people: of a long list the first few and how many there are."""
    match value:
        case list() | tuple() | np.ndarray():
            return f"[{_shown_items([str(item) for item in value])}]"
        case _:
            return str(value)


def shorten_arrays(plan: str) -> str:
    """A plan's text, in which each array of ids would be as long as there are series."""
    return _ARRAY.sub(lambda found: f"'{{{_shown_items(found[1].split(','))}}}'", plan)


def _shown_items(items: Sequence[str]) -> str:
    if len(items) <= _SHOWN_ITEMS:
        return ", ".join(items)
    return f"{', '.join(items[:_SHOWN_ITEMS])}, … {len(items):,} in all"
