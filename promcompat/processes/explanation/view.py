"""The answer of `/api/v1/explain` for a terminal: trees, tables and coloured SQL."""

import re
from collections.abc import Iterator
from typing import Any, Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from promcompat.processes.explanation.text import (
    matchers_text,
    node_marks,
    noun,
    seconds_text,
    time_text,
)

_THEME: Final = "ansi_dark"
"""Only the sixteen colours of the terminal, which suit its background."""
_INDENT: Final = (0, 0, 0, 2)
_MAX_INDENT: Final = 40
_UNKNOWN: Final = "-"
_CLAUSES: Final = "FROM|(?:CROSS |LEFT )?JOIN|WHERE|AND|UNION ALL|GROUP BY|ORDER BY|LIMIT|OFFSET"
_SQL_PARTS: Final = re.compile(rf"'[^']*'| (?P<clause>{_CLAUSES})\b|.", re.DOTALL)


def show_explanation(explanation: Any, console: Console | None = None) -> None:
    """Print it to the console, by default the standard output."""
    (console or Console(highlight=False)).print(Group(*_parts(explanation)))


def _parts(explanation: Any) -> Iterator[RenderableType]:
    steps = explanation["steps"]
    yield _heading(f"{explanation['result_type']} at {steps:,} {noun('step', steps)}")
    yield _indented(_code(explanation["formatted"], "promql"))
    yield _heading("\ntree")
    yield _indented(_tree(explanation["tree"]))
    if explanation["leaves"]:
        yield _heading("\nleaves")
        yield _indented(_leaves_table(explanation["leaves"]))
    for number, leaf in enumerate(explanation["leaves"]):
        yield _heading(f"\nleaf {number}  ", matchers_text(leaf["matchers"]))
        yield from map(_indented, _leaf_parts(leaf))
    if explanation["stages"]:
        yield _heading("\nstages")
        yield _indented(_stages_table(explanation["stages"]))


def _heading(title: str, detail: str = "") -> Text:
    return Text.assemble((title, "bold cyan"), detail)


def _code(text: str, language: str) -> Syntax:
    return Syntax(text, language, theme=_THEME, word_wrap=True, background_color="default")


def _indented(part: RenderableType) -> Padding:
    return Padding(part, _INDENT, expand=False)


def _tree(node: Any) -> Tree:
    marks = node_marks(node)
    label = Text.assemble(
        (node["type"], "blue"), " ", node["text"], (f"  {', '.join(marks)}" if marks else "", "dim")
    )
    tree = Tree(label, guide_style="dim")
    for child in node["children"]:
        tree.add(_tree(child))
    return tree


def _leaves_table(leaves: Any) -> Table:
    table = _table("leaf", "rule", "series", "rows estimated", "rows read", "time")
    for column in table.columns[2:]:
        column.justify = "right"
    for number, leaf in enumerate(leaves):
        applied = [outcome["rule"] for outcome in leaf["rules"] if outcome["applies"]]
        seconds = leaf["seconds"]
        table.add_row(
            str(number),
            ", ".join(applied) or _UNKNOWN,
            *map(_count_text, (leaf["series"], leaf["estimated_rows"], leaf["actual_rows"])),
            _UNKNOWN if seconds is None else seconds_text(seconds),
        )
    return table


def _count_text(count: int | None) -> str:
    return _UNKNOWN if count is None else f"{count:,}"


def _leaf_parts(leaf: Any) -> Iterator[RenderableType]:
    yield Text(f"samples after {time_text(leaf['start'])} up to {time_text(leaf['end'])}")
    if leaf["rules"]:
        yield _rules_table(leaf["rules"])
    if leaf["sql"]:
        yield Text("\nsql", "bold")
        yield _code(lay_out_sql(leaf["sql"]), "postgresql")
        for number, parameter in enumerate(leaf["parameters"], start=1):
            yield Text.assemble((f"${number}", "magenta"), " = ", parameter)
    if leaf["database_plan"]:
        yield Text("\ndatabase plan", "bold")
        yield from map(_plan_line, leaf["database_plan"].splitlines())


def _plan_line(line: str) -> Padding:
    """One line; where the terminal is too narrow, its rest is indented like its beginning."""
    text = line.lstrip()
    return Padding(Text(text), (0, 0, 0, min(len(line) - len(text), _MAX_INDENT)), expand=False)


def _rules_table(rules: Any) -> Table:
    table = _table("rule", "applies", "reason")
    for outcome in rules:
        applies = Text("yes", "bold green") if outcome["applies"] else Text("no", "dim")
        table.add_row(outcome["rule"], applies, Text(outcome["reason"]))
    return table


def _stages_table(stages: dict[str, float]) -> Table:
    table = _table("stage", "time")
    table.columns[1].justify = "right"
    for name, seconds in stages.items():
        table.add_row(name, seconds_text(seconds))
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table


def lay_out_sql(statement: str) -> str:
    """The statement with each clause on a line of its own; literals stay as they are.

    Clauses within the parentheses of a SELECT are indented; calls stay on one line.
    """
    return "".join(_sql_pieces(statement))


def _sql_pieces(statement: str) -> Iterator[str]:
    opened: list[bool] = []
    for found in _SQL_PARTS.finditer(statement):
        clause = found["clause"]
        if found[0] == "(":
            opened.append(statement.startswith("SELECT", found.end()))
        elif found[0] == ")" and opened:
            opened.pop()
        if clause and all(opened[-1:]):
            yield f"\n{'  ' * sum(opened)}{clause}"
        else:
            yield found[0]
