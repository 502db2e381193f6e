"""The values of templates, by the names of their Go types, and their maximum lengths."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from promcompat.core.texts.durations import format_go_duration

MAX_TEXT: Final = 1 << 20
"""Characters of any text that a template produces."""
_LEAST_PER_PART: Final = 4
"""Characters: `k:v `."""


@dataclass(frozen=True, slots=True)
class HistogramText:
    """A native histogram: of a pointer to a struct in Go, templates have nothing but its text."""

    text: str

    def __str__(self) -> str:
        return self.text


SampleValue: TypeAlias = float | HistogramText


class LabelMap(dict[str, str]):
    """A map of strings: a missing key is the empty string, where other maps have no value."""


@dataclass(frozen=True, slots=True)
class RootData:
    """The data of a template: a struct in Go."""

    labels: LabelMap
    external_labels: LabelMap
    external_url: str
    value: SampleValue

    def fields(self) -> Mapping[str, object]:
        """The fields by their Go names, in their order."""
        return {
            "Labels": self.labels,
            "ExternalLabels": self.external_labels,
            "ExternalURL": self.external_url,
            "Value": self.value,
        }


@dataclass(frozen=True, slots=True)
class TemplateSample:
    """An element of a query's result, as templates see it: a pointer to a struct in Go."""

    labels: LabelMap
    value: SampleValue

    def fields(self) -> Mapping[str, object]:
        """The fields by their Go names, in their order."""
        return {"Labels": self.labels, "Value": self.value}


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, UTC, in Unix nanoseconds."""

    nanoseconds: int

    def __str__(self) -> str:
        seconds, nanoseconds = divmod(self.nanoseconds, 1_000_000_000)
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
        return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration in nanoseconds."""

    nanoseconds: int

    def __str__(self) -> str:
        return format_go_duration(self.nanoseconds)


_TYPE_NAMES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float64"),
    (str, "string"),
    (LabelMap, "map[string]string"),
    (
        RootData,
        "struct { Labels map[string]string; ExternalLabels map[string]string; "
        "ExternalURL string; Value interface {} }",
    ),
    (TemplateSample, "*template.sample"),
    (HistogramText, "*histogram.FloatHistogram"),
    (Moment, "*time.Time"),
    (Duration, "*time.Duration"),
    (Mapping, "map[string]interface {}"),
    (Sequence, "template.queryResult"),
)


def type_name(value: object) -> str:
    """The Go type of a value, as errors name it."""
    if value is None:
        return "nil"
    return next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), "unknown")


class TooLongError(ValueError):
    """A text is longer than allowed."""

    def __init__(self) -> None:
        super().__init__(f"a text is longer than {MAX_TEXT} characters")


def check_length(values: Iterable[object], per_part: int = 0) -> None:
    """Raises TooLongError, before the text of values is made, when it would be too long.

    `per_part` is what each part of a value takes at least. A small value may be long: its parts may
    be the same value many times.
    """
    waiting = list(values)
    left = MAX_TEXT - len(waiting) * per_part
    while waiting and left >= 0:
        parts: Collection[object] = ()
        match waiting.pop():
            case str() | HistogramText() as text:
                left -= len(str(text))
            case RootData() | TemplateSample() as struct:
                parts = struct.fields().values()
            case Mapping() as mapping:
                left -= sum(map(len, mapping))
                parts = mapping.values()
            case Sequence() as items:
                parts = items
        left -= len(parts) * (per_part + _LEAST_PER_PART)
        if left >= 0:
            waiting += parts
    if left < 0:
        raise TooLongError
