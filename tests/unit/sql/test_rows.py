"""Rows as values: JSON, times, words of enumerations, columns that no field has."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from promcompat.core.model import EMPTY_LABELS, Labels
from sql.database.rows import row_reader


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    name: str
    colour: Colour
    labels: Labels
    made_at_ms: int
    ended_at_ms: int
    extra: dict[str, int] | None = None


def test_row_becomes_a_value() -> None:
    read = row_reader(Thing, json=("labels", "extra"))
    row = {
        "id": 7,
        "name": "[1]",
        "colour": "red",
        "labels": '{"b": "2", "a": "1"}',
        "made_at": datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
        "ended_at": None,
        "extra": None,
    }
    labels = Labels.of({"a": "1", "b": "2"})
    expected = Thing(name="[1]", colour=Colour.RED, labels=labels, made_at_ms=-1, ended_at_ms=0)
    assert read(row) == expected
    assert read({**row, "labels": "{}", "extra": '{"n": 1}'}) == Thing(
        name="[1]",
        colour=Colour.RED,
        labels=EMPTY_LABELS,
        made_at_ms=-1,
        ended_at_ms=0,
        extra={"n": 1},
    )
