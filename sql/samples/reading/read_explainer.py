"""Explains to people how rows are read: rules, statement, estimate and the database's plan."""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from promcompat.core.explanations import ExplanationDepth, RuleOutcome, SelectionExplanation
from promcompat.core.model import SeriesSelection
from sql.database.connection_pool import Connection
from sql.database.statements import Statement, inline_parameters
from sql.pushdown.read_planner import PlannedRead
from sql.pushdown.rule_choice import Choice, choose_none, estimated_rows

_MAX_ITEMS: Final = 5
_ARRAY: Final = re.compile(r"'\{([^{}']*)\}'")


async def explained_read(
    connection: Connection,
    selection: SeriesSelection,
    n_series: int,
    read: PlannedRead,
    depth: ExplanationDepth,
) -> SelectionExplanation:
    """The rules of a planned read, its statement, and the plan of the database if that is asked."""
    thinning, estimate, statement = read.choice.thinning, read.estimate, read.statement
    rows = None if estimate is None else estimate.rows
    if estimate is not None and thinning is not None:
        left_ms, range_ms = selection.end_ms - read.end_ms, selection.end_ms - selection.start_ms
        rows = estimated_rows(thinning, selection, estimate) + estimate.rows * left_ms / range_ms
    return SelectionExplanation(
        n_series=n_series,
        rules=_outcomes(read.choice),
        sql="" if statement is None else statement.text,
        parameters=() if statement is None else tuple(map(format_parameter, statement.params)),
        estimated_rows=rows,
        database_plan=await _database_plan(connection, statement, depth),
    )


def not_pushed(selection: SeriesSelection, reason: str) -> tuple[RuleOutcome, ...]:
    """Every rule, none of which applies for this reason."""
    return _outcomes(choose_none(selection, reason))


def _outcomes(choice: Choice) -> tuple[RuleOutcome, ...]:
    return tuple(RuleOutcome(d.rule, d.applies, d.reason) for d in choice.decisions)


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
