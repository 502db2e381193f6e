"""Rows that conflict with a stored sample."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conflict:
    """A row that was not stored: its number among the committed rows and the value that stays."""

    row: int
    existing: float
