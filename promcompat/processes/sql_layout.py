"""A statement laid out for people: each clause on a line of its own, nested ones indented."""

import re
from collections.abc import Iterator
from typing import Final

_CLAUSES: Final = "FROM|(?:CROSS |LEFT )?JOIN|WHERE|AND|UNION ALL|GROUP BY|ORDER BY|LIMIT|OFFSET"
_PARTS: Final = re.compile(rf"'[^']*'| (?P<clause>{_CLAUSES})\b|.", re.DOTALL)
_INDENT: Final = "  "


def lay_out_sql(statement: str) -> str:
    """The same statement with line breaks where it had spaces; literals stay as they are.

    A clause begins a line within the parentheses of a SELECT; those of a call stay on one line.
    """
    return "".join(_laid_out(statement))


def _laid_out(statement: str) -> Iterator[str]:
    opened: list[bool] = []
    for found in _PARTS.finditer(statement):
        clause = found["clause"]
        if found[0] == "(":
            opened.append(statement.startswith("SELECT", found.end()))
        elif found[0] == ")" and opened:
            opened.pop()
        if clause and all(opened[-1:]):
            yield f"\n{_INDENT * sum(opened)}{clause}"
        else:
            yield found[0]
