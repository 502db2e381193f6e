"""The answer of `/api/v1/explain` as indented text."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

_INDENT = "  "


def render_explanation(explanation: Any) -> str:
    """The text: the expression, its tree, how each leaf is read, and the stages of a run."""
    return "\n".join(_lines(explanation)) + "\n"


def _lines(explanation: Any) -> Iterator[str]:
    steps = explanation["steps"]
    yield f"{explanation['result_type']} at {steps:,} {_noun('step', steps)}"
    yield from _indented(explanation["formatted"].splitlines())
    yield ""
    yield "tree"
    yield from _indented(_tree_lines(explanation["tree"]))
    for number, leaf in enumerate(explanation["leaves"]):
        yield ""
        yield f"leaf {number}: {_matchers_text(leaf['matchers'])}"
        yield from _indented(_leaf_lines(leaf))
    if explanation["stages"]:
        yield ""
        yield "stages"
        yield from _indented(_stage_lines(explanation["stages"]))


def _tree_lines(node: Any) -> Iterator[str]:
    marks = [f"leaf {node['leaf']}"] if "leaf" in node else []
    if node.get("step_invariant"):
        marks.append("evaluated once")
    mark = f"  ({', '.join(marks)})" if marks else ""
    yield f"{node['type']}: {node['text']}{mark}"
    for child in node["children"]:
        yield from _indented(_tree_lines(child))


def _leaf_lines(leaf: Any) -> Iterator[str]:
    yield f"samples after {_time_text(leaf['start'])} up to {_time_text(leaf['end'])}"
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
        yield "plan of the database"
        yield from _indented(leaf["database_plan"].splitlines())


def _rows_text(leaf: Any) -> str:
    parts = [f"{leaf['series']:,} series"]
    if leaf["estimated_rows"] is not None:
        parts.append(f"about {leaf['estimated_rows']:,} rows estimated")
    if leaf["actual_rows"] is not None:
        parts.append(f"{leaf['actual_rows']:,} read in {_seconds_text(leaf['seconds'])}")
    return ", ".join(parts)


def _matchers_text(matchers: Any) -> str:
    pairs = [f'{one["name"]}{one["type"]}"{one["value"]}"' for one in matchers]
    return f"{{{', '.join(pairs)}}}"


def _stage_lines(stages: dict[str, float]) -> Iterator[str]:
    width = max(map(len, stages))
    for name, seconds in stages.items():
        yield f"{name:<{width}}  {_seconds_text(seconds)}"


def _time_text(seconds: float) -> str:
    """RFC 3339 in UTC; Unix seconds where the calendar ends."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g}"


def _seconds_text(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def _noun(singular: str, count: int) -> str:
    return singular if count == 1 else f"{singular}s"


def _indented(lines: Any) -> Iterator[str]:
    return (f"{_INDENT}{line}" for line in lines)
