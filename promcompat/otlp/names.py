"""Names and units of OpenTelemetry as names of Prometheus: the rules of Prometheus 3.14's OTLP."""

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

_UNITS: Final = {
    # Time.
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    # Bytes.
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    # SI.
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    # Others.
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER_UNITS: Final = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}
_NOT_IN_TOKEN: Final = re.compile("[^a-zA-Z0-9:]+")
_NOT_IN_NAME: Final = re.compile("[^a-zA-Z0-9:_]+")
_NOT_IN_LABEL: Final = re.compile("[^a-zA-Z0-9_]")
_UNDERSCORES: Final = re.compile("__+")


class TranslationStrategy(StrEnum):
    """How names are translated, by the words of Prometheus' configuration."""

    ESCAPED = "UnderscoreEscapingWithSuffixes"
    ESCAPED_WITHOUT_SUFFIXES = "UnderscoreEscapingWithoutSuffixes"
    KEPT = "NoUTF8EscapingWithSuffixes"
    NONE = "NoTranslation"

    @property
    def is_escaped(self) -> bool:
        """Whether characters that PromQL needs quotes for become underscores."""
        return self in (TranslationStrategy.ESCAPED, TranslationStrategy.ESCAPED_WITHOUT_SUFFIXES)

    @property
    def has_suffixes(self) -> bool:
        """Whether names get their unit and type."""
        return self in (TranslationStrategy.ESCAPED, TranslationStrategy.KEPT)


class MetricKind(Enum):
    """The kinds of metrics that names tell apart."""

    GAUGE = "gauge"
    MONOTONIC_COUNTER = "counter"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class UnitWords:
    """The words of a unit: `By/s` is `bytes` and `per_second`; "" for what it does not have."""

    main: str
    per: str

    @property
    def text(self) -> str:
        """Both words, as metadata has them: with characters of names only."""
        cleaned = "_".join(filter(None, (_clean(self.main), _clean(self.per))))
        return cleaned.removeprefix("_").removesuffix("_")


def unit_words(unit: str) -> UnitWords:
    """The words of a unit; annotations in braces have none."""
    main, _, per = unit.partition("/")
    per_word = _word(per.strip(), _PER_UNITS)
    return UnitWords(_word(main.strip(), _UNITS), f"per_{per_word}" if per_word else "")


def _word(unit: str, words: dict[str, str]) -> str:
    return "" if "{" in unit or "}" in unit else words.get(unit, unit)


def metric_name(name: str, unit: str, kind: MetricKind, strategy: TranslationStrategy) -> str:
    """The name of a metric; "" if nothing of it is left."""
    if not strategy.is_escaped:
        return _kept_name(name, unit, kind) if strategy.has_suffixes else name
    if strategy.has_suffixes:
        return _not_a_digit_first("_".join(_tokens(name, unit, kind)))
    return _not_a_digit_first("_".join(filter(None, _NOT_IN_NAME.split(name))))


def _tokens(name: str, unit: str, kind: MetricKind) -> list[str]:
    tokens = [token for token in _NOT_IN_TOKEN.split(name) if token]
    words = unit_words(unit)
    main, per = _clean(words.main), _clean(words.per)
    main = "" if main in tokens else main
    per = "" if per == "per_" else per.removesuffix("_")
    per = "" if per in tokens else per
    if per:
        main = main.removesuffix("_")
    tokens += filter(None, (main, per))
    if kind is MetricKind.MONOTONIC_COUNTER:
        return _moved_to_the_end(tokens, "total")
    if kind is MetricKind.GAUGE and unit == "1":
        return _moved_to_the_end(tokens, "ratio")
    return tokens


def _clean(word: str) -> str:
    """The words of a unit with characters of names only, which underscores do not repeat."""
    return _UNDERSCORES.sub("_", re.sub("[^a-zA-Z0-9:_]", "_", word)).removeprefix("_")


def _moved_to_the_end(tokens: list[str], token: str) -> list[str]:
    return [*(other for other in tokens if other != token), token]


def _not_a_digit_first(name: str) -> str:
    return f"_{name}" if name[:1].isdecimal() else name


def _kept_name(name: str, unit: str, kind: MetricKind) -> str:
    words, suffix = unit_words(unit), ""
    if kind is MetricKind.GAUGE and unit == "1":
        suffix = "ratio"
    if kind is MetricKind.MONOTONIC_COUNTER:
        suffix = "total"
    if suffix:
        name = _trimmed(name, suffix)
    if words.per:
        name = _trimmed(name, words.per)
    if words.main and not name.endswith(words.main):
        name = f"{name}_{words.main}"
    return "_".join(filter(None, (name, words.per, suffix)))


def _trimmed(name: str, suffix: str) -> str:
    """A name without a suffix and the character before it."""
    is_longer = len(name.encode()) > len(suffix.encode()) + 1
    return name[: -len(suffix) - 1] if name.endswith(suffix) and is_longer else name


def label_name(name: str, strategy: TranslationStrategy) -> str:
    """The name of a label; "" if the attribute has none, or only underscores are left of it."""
    if not strategy.is_escaped:
        return name
    escaped = _NOT_IN_LABEL.sub("_", name)
    if escaped[:1].isdecimal():
        return f"key_{escaped}"
    if escaped.startswith("_") and not escaped.startswith("__"):
        return f"key{escaped}"
    return escaped
