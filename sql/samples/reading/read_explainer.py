"""Explains to people how selections are read: rules, statement, estimate and measurements."""

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
from sql.samples.reading.reader import SampleAllowance, copy_out
from sql.series.reader import SeriesReader

_MAX_ITEMS: Final = 5
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
        """One explanation for each selection, measured one after the other.

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
                    plan = await _database_plan(connection, read.statement, depth)
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
        parameters=() if statement is None else tuple(map(format_parameter, statement.params)),
        estimated_rows=rows,
    )


async def _measure(
    connection: Connection, read: PlannedRead, allowance: SampleAllowance | None
) -> ReadMeasurement | None:
    """Read as a query does, and measure it."""
    if allowance is None:
        return None
    if read.statement is None:
        return ReadMeasurement(rows=0, seconds=0.0)
    decoder = SampleDecoder(is_numbered=read.partial is not None)
    allowance.watch(decoder)
    started = time.perf_counter()
    await copy_out(connection, read.statement, decoder, allowance)
    return ReadMeasurement(rows=decoder.n_rows, seconds=time.perf_counter() - started)


async def _database_plan(
    connection: Connection, statement: Statement | None, depth: ExplanationDepth
) -> str:
    """PostgreSQL's own EXPLAIN of the statement; empty unless `depth` includes it."""
    if statement is None or not (depth.analyze or depth.database_plan):
        return ""
    explain = "EXPLAIN (ANALYZE, BUFFERS)" if depth.analyze else "EXPLAIN"
    # With literals, like the COPY, so that both have the same plan.
    lines = await connection.fetch(f"{explain} {inline_parameters(statement)}")
    return shorten_arrays("\n".join(line[0] for line in lines))


def format_parameter(value: object) -> str:
    """A parameter as text; a long list is shortened to its first items and its length."""
    match value:
        case list() | tuple() | np.ndarray():
            return f"[{_format_items([str(item) for item in value])}]"
        case _:
            return str(value)


def shorten_arrays(plan: str) -> str:
    """The text of a plan with its arrays of ids shortened."""
    return _ARRAY.sub(lambda found: f"'{{{_format_items(found[1].split(','))}}}'", plan)


def _format_items(items: Sequence[str]) -> str:
    if len(items) <= _MAX_ITEMS:
        return ", ".join(items)
    return f"{', '.join(items[:_MAX_ITEMS])}, … {len(items):,} in all"
