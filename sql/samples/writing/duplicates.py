"""Rows that conflict with a stored sample."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conflict:
    """A row that was not stored: its number among the committed rows and the value that stays.

    `existing` is None where that is a histogram.
    """

    row: int
    existing: float | None
