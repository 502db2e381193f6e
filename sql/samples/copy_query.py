"""Statements for COPY, which takes no parameters: values become quoted literals in the text.

asyncpg would ask the server to quote them, two round trips for each COPY and 3 ms for 1,000 ids.
"""

import re
from collections.abc import Sequence
from typing import Final

from sql.pushdown.translator import Statement

_PARAMETER: Final = re.compile(r"\$(\d+)\b")


def inline_parameters(statement: Statement) -> str:
    """The text of a statement with every `$n` as a literal of unknown type.

    The session must have `standard_conforming_strings` on. Raises TypeError for a value that is
    neither a number, a text nor a list of these.
    """
    literals = [_literal(value) for value in statement.params]
    return _PARAMETER.sub(lambda found: literals[int(found[1]) - 1], statement.text)


def _literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case list() | tuple():
            return _quote("{" + ",".join(_elements(value)) + "}")
        case _:
            return _quote(_text(value))


def _elements(values: Sequence[object]) -> Sequence[str]:
    if all(type(value) is int for value in values):
        return list(map(str, values))
    return [_element(value) for value in values]


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    escaped = _text(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float() | str():
            return str(value)
        case _:
            raise TypeError(f"no literal for a {type(value).__name__}")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
