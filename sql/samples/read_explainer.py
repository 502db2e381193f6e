"""How selections are read, for people: rules, statement, estimate; and measured when asked."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from promcompat.core.explanations import (
    ExplanationDepth,
    ReadMeasurement,
    RuleOutcome,
    SelectionExplanation,
)
from promcompat.core.model import SeriesSelection
from sql.database.connection_pool import Connection, Pool, acquired
from sql.database.copy_format import SampleDecoder
from sql.database.statements import Statement, inline_parameters
from sql.pushdown.read_planner import PlannedRead, ReadPlanner
from sql.pushdown.rule_choice import estimated_rows
from sql.pushdown.rules import RULES
from sql.samples.reader import SampleAllowance, copy_out
from sql.series.reader import SeriesReader

_SHOWN_ITEMS: Final = 5
_ARRAY: Final = re.compile(r"'\{([^{}']*)\}'")
_NOTHING: Final = SelectionExplanation(
    n_series=0,
    rules=tuple(RuleOutcome(rule.__name__, False, "no series matches") for rule in RULES),
    estimated_rows=0.0,
)


class ReadExplainer:
    """Explains the reads that a `RowReader` of the same parts would do."""

    def __init__(
        self, pool: Pool, series_reader: SeriesReader, planner: ReadPlanner, *, max_samples: int
    ) -> None:
        """`max_samples` bounds what is read of all selections together (0: no bound)."""
        self._pool = pool
        self._series_reader = series_reader
        self._planner = planner
        self._max_samples = max_samples

    async def explain(
        self,
        tenant_id: int | None,
        selections: Sequence[SeriesSelection],
        depth: ExplanationDepth,
    ) -> list[SelectionExplanation]:
        """One explanation for each selection, one after the other: they do not slow each other.

        Raises ExecutionError when analyzing reads more than `max_samples`.
        """
        if tenant_id is None:
            return [_nothing(depth.analyze) for _ in selections]
        allowance = SampleAllowance(self._max_samples) if depth.analyze else None
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
                    explanation = _explanation(selection, len(selector.ids), read)
                    measured = await _measure(connection, read, allowance)
                    plan = await _ask_plan(connection, read.statement, depth)
                    found.append(replace(explanation, measured=measured, database_plan=plan))
                else:
                    found.append(_nothing(depth.analyze))
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
    selection: SeriesSelection, n_series: int, read: PlannedRead
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
    )


async def _measure(
    connection: Connection, read: PlannedRead, allowance: SampleAllowance | None
) -> ReadMeasurement | None:
    """Read as a query does."""
    if allowance is None:
        return None
    if read.statement is None:
        return ReadMeasurement(rows=0, seconds=0.0)
    decoder = SampleDecoder(is_numbered=read.partial is not None)
    allowance.watch(decoder)
    started = time.perf_counter()
    await copy_out(connection, read.statement, decoder, allowance)
    return ReadMeasurement(rows=decoder.n_rows, seconds=time.perf_counter() - started)


async def _ask_plan(
    connection: Connection, statement: Statement | None, depth: ExplanationDepth
) -> str:
    """The database's own EXPLAIN, run only to be measured; empty when it is not asked for."""
    if statement is None or not (depth.analyze or depth.database_plan):
        return ""
    explain = "EXPLAIN (ANALYZE, BUFFERS)" if depth.analyze else "EXPLAIN"
    # With literals, as the COPY has them, so that both have the same plan.
    lines = await connection.fetch(f"{explain} {inline_parameters(statement)}")
    return shorten_arrays("\n".join(line[0] for line in lines))


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
