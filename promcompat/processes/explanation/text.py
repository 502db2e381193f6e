"""The answer of `/api/v1/explain` as indented text."""

from collections.abc import Iterator
from typing import Any

from promcompat.core.texts.times import format_time_briefly

_INDENT = "  "


def render_explanation(explanation: Any) -> str:
    """The text: the expression, its tree, how each leaf is read, and the stages of a run."""
    return "\n".join(_lines(explanation)) + "\n"


def _lines(explanation: Any) -> Iterator[str]:
    steps = explanation["steps"]
    yield f"{explanation['result_type']} at {steps:,} {noun('step', steps)}"
    yield from _indented(explanation["formatted"].splitlines())
    yield ""
    yield "tree"
    yield from _indented(_tree_lines(explanation["tree"]))
    for number, leaf in enumerate(explanation["leaves"]):
        yield ""
        yield f"leaf {number}: {matchers_text(leaf['matchers'])}"
        yield from _indented(_leaf_lines(leaf))
    if explanation["stages"]:
        yield ""
        yield "stages"
        yield from _indented(_stage_lines(explanation["stages"]))


def _tree_lines(node: Any) -> Iterator[str]:
    marks = node_marks(node)
    mark = f"  ({', '.join(marks)})" if marks else ""
    yield f"{node['type']}: {node['text']}{mark}"
    for child in node["children"]:
        yield from _indented(_tree_lines(child))


def _leaf_lines(leaf: Any) -> Iterator[str]:
    yield f"samples after {time_text(leaf['start'])} up to {time_text(leaf['end'])}"
    yield _rows_text(leaf)
    for outcome in leaf["rules"]:
        applies = "applies" if outcome["applies"] else "does not apply"
        yield f"rule {outcome['rule']} {applies}: {outcome['reason']}"
    if leaf["sql"]:
        yield "sql"
        yield from _indented(leaf["sql"].splitlines())
    for number, parameter in enumerate(leaf["parameters"], start=1):
        yield f"{_INDENT}${number} = {parameter}"
    if leaf["database_plan"]:
        yield "database plan"
        yield from _indented(leaf["database_plan"].splitlines())


def _rows_text(leaf: Any) -> str:
    parts = [f"{leaf['series']:,} series"]
    if leaf["estimated_rows"] is not None:
        parts.append(f"about {leaf['estimated_rows']:,} rows estimated")
    if leaf["actual_rows"] is not None:
        parts.append(f"{leaf['actual_rows']:,} read in {seconds_text(leaf['seconds'])}")
    return ", ".join(parts)


def node_marks(node: Any) -> list[str]:
    """Remarks about a node of the tree, shown beside its text."""
    marks = [f"leaf {node['leaf']}"] if "leaf" in node else []
    if node.get("step_invariant"):
        marks.append("evaluated once")
    if "omitted" in node:
        marks.append(f"{node['omitted']:,} deeper {noun('part', node['omitted'])} not shown")
    return marks


def matchers_text(matchers: Any) -> str:
    """The matchers as a selector of PromQL."""
    pairs = [f'{matcher["name"]}{matcher["type"]}"{matcher["value"]}"' for matcher in matchers]
    return f"{{{', '.join(pairs)}}}"


def _stage_lines(stages: dict[str, float]) -> Iterator[str]:
    width = max(map(len, stages))
    for name, seconds in stages.items():
        yield f"{name:<{width}}  {seconds_text(seconds)}"


def time_text(seconds: float) -> str:
    """RFC 3339 in UTC, or Unix seconds if the milliseconds do not fit into 64 bits."""
    try:
        return format_time_briefly(round(seconds * 1000))
    except (OverflowError, ValueError):
        return f"{seconds:g}"


def seconds_text(seconds: float) -> str:
    """Milliseconds below a second."""
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def noun(singular: str, count: int) -> str:
    """The noun in the number that fits the count."""
    return singular if count == 1 else f"{singular}s"


def _indented(lines: Any) -> Iterator[str]:
    return (f"{_INDENT}{line}" for line in lines)
