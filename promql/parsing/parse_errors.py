"""Errors of the PromQL front end, with Prometheus' positions."""

from promcompat.core.errors import BadDataError
from promql.ast import line_col


class ParseError(BadDataError):
    """The query is not valid PromQL; `str()` is Prometheus' `line:col: parse error: …`."""


class PositionedError(Exception):
    """An error at a character offset of a query; `in_query` adds line and column."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason

    def in_query(self, text: str) -> ParseError:
        """The error to report for the query `text`."""
        position = line_col(text, self.offset) if text else "unknown position"
        return ParseError(f"{position}: parse error: {self.reason}")
