"""Errors of the PromQL front end, with Prometheus' positions."""

from promcompat.core.errors import BadDataError
from promql.ast import line_col


class ParseError(BadDataError):
    """The query is no PromQL or is ill-typed; `str()` is Prometheus' `line:col: parse error: …`."""


class PositionedError(Exception):
    """A fault at a character offset of a query; a ParseError is made of it with the text."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason

    def in_query(self, text: str) -> ParseError:
        """The error to show for this fault in the query `text`."""
        position = line_col(text, self.offset) if text else "unknown position"
        return ParseError(f"{position}: parse error: {self.reason}")
