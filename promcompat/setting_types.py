"""The types of settings, as they are written in the environment."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from promcompat.core.durations import parse_duration_ms


def to_milliseconds(value: object) -> object:
    """The validator that makes a setting a duration."""
    return parse_duration_ms(value) if isinstance(value, str) else value


DurationMs = Annotated[int, BeforeValidator(to_milliseconds), Field(ge=0)]
"""Written as `5m` or `500ms`, kept as int milliseconds."""


def split_list(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list."""
    return tuple(part for piece in text.split(",") if (part := piece.strip()))


Names = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(lambda value: split_list(value) if isinstance(value, str) else value),
]
"""Written as `a,b`."""
