"""Lines of StatsD and DogStatsD: `app.requests:1|c|@0.5|#env:prod,region:eu`."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from promcompat.core.texts.strconv import parse_float

_MAX_WEIGHT: Final = 1e9


class StatsdKind(Enum):
    """What is done with the values of a metric."""

    COUNTER = "c"
    GAUGE = "g"
    TIMER = "ms"
    DISTRIBUTION = "h"
    SET = "s"


_KINDS: Final = {kind.value: kind for kind in StatsdKind} | {"d": StatsdKind.DISTRIBUTION}


@dataclass(frozen=True, slots=True)
class StatsdEvent:
    """A value; `weight` is how many it stands for, and `is_change` that a gauge moves by it.

    `text` is the member that a set gets. Timers are in seconds. `tags` are sorted.
    """

    name: str
    kind: StatsdKind
    tags: tuple[tuple[str, str], ...]
    value: float
    weight: float = 1.0
    is_change: bool = False
    text: str = ""


def parse_statsd_line(line: str) -> Iterator[StatsdEvent]:
    """The events of a line; events and service checks of DogStatsD have none. Raises ValueError."""
    if line.startswith(("_e{", "_sc|")):
        return
    name, mark, rest = line.partition(":")
    values, *parts = rest.split("|")
    if not (name and mark and values and parts):
        raise ValueError("expected name:value|type")
    kind = _KINDS.get(parts[0])
    if kind is None:
        raise ValueError(f"unknown type {parts[0]!r}; known are {', '.join(_KINDS)}")
    weight, tags = _weight_and_tags(parts[1:])
    # Values may be packed, but the member of a set may have a colon.
    for text in [values] if kind is StatsdKind.SET else values.split(":"):
        yield _event(name, kind, tags, text, weight)


def _event(
    name: str, kind: StatsdKind, tags: tuple[tuple[str, str], ...], text: str, weight: float
) -> StatsdEvent:
    if kind is StatsdKind.SET:
        return StatsdEvent(name, kind, tags, 0.0, text=text)
    value = parse_float(text)
    if value - value != 0.0:
        raise ValueError(f"the value {text!r} is not finite")
    match kind:
        case StatsdKind.GAUGE:
            return StatsdEvent(name, kind, tags, value, is_change=text[0] in "+-")
        case StatsdKind.COUNTER:
            if value < 0:
                raise ValueError("a counter cannot decrease")
        case StatsdKind.TIMER:
            value /= 1000
    return StatsdEvent(name, kind, tags, value, weight)


def _weight_and_tags(parts: list[str]) -> tuple[float, tuple[tuple[str, str], ...]]:
    """Sample rate and tags; other parts, such as the container, are ignored."""
    weight, tags = 1.0, {}
    for part in parts:
        if part.startswith("@"):
            rate = parse_float(part[1:])
            weight = 1 / rate if rate > 0 else 1.0
            if not 0 < weight <= _MAX_WEIGHT:
                raise ValueError(f"the sample rate {part[1:]!r} is out of range")
        elif part.startswith("#"):
            for tag in part[1:].split(","):
                label, mark, value = tag.partition(":")
                if mark and label and value:
                    tags[label] = value
    return weight, tuple(sorted(tags.items()))
