"""Values as Go's fmt package prints them: https://pkg.go.dev/fmt."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final


class LabelMap(dict[str, str]):
    """A map of strings: a missing key is the empty string, where other maps have no value."""


class RootData(dict[str, object]):
    """What a template is expanded over: the one value that is a struct, with these fields only."""


@dataclass(frozen=True, slots=True)
class TemplateSample:
    """An element of a query's result, as templates see it."""

    labels: LabelMap
    value: float


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, UTC, in Unix nanoseconds."""

    nanoseconds: int

    def __str__(self) -> str:
        seconds, nanoseconds = divmod(self.nanoseconds, 1_000_000_000)
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
        return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


_VERB: Final = re.compile(r"%([-+# 0]*)(\d+)?(?:\.(\d*))?(.)?", re.DOTALL)
_MAX_WIDTH: Final = 1_000_000


def format_float(value: float) -> str:
    """Shortest digits that read back the same; an exponent below 1e-4 and from 1e6 on.

    Observed of promtool 3.5.3: `{{ 1234567.0 }}` is 1.234567e+06.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    number = Decimal(repr(value)).normalize()
    exponent = number.adjusted() if number else 0
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if -4 <= exponent < 6:
        return sign + format(abs(number), "f")
    digits = "".join(map(str, number.as_tuple().digits))
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{exponent:+03d}"


def go_text(value: object) -> str:
    """A value as `{{ value }}` and `%v` print it."""
    match value:
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case float():
            return format_float(value)
        case str() | int() | Moment():
            return str(value)
        case TemplateSample():
            return f"&{{{go_text(value.labels)} {go_text(value.value)}}}"
        case Mapping():
            pairs = (f"{key}:{_nested(item)}" for key, item in sorted(value.items()))
            return f"map[{' '.join(pairs)}]"
        case Sequence():
            return f"[{' '.join(map(_nested, value))}]"
        case _:
            return str(value)


def _nested(value: object) -> str:
    # Go prints a pointer inside of another value as its address, which means nothing to anybody.
    return "<nil>" if value is None else go_text(value)


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
    (Moment, "*time.Time"),
    (Mapping, "map[string]interface {}"),
    (Sequence, "template.queryResult"),
)


def type_name(value: object) -> str:
    """The Go type of a value, as errors name it."""
    if value is None:
        return "nil"
    return next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), "unknown")


def sprint(values: Sequence[object]) -> str:
    """`fmt.Sprint`: a space between two values neither of which is a string."""
    parts: list[str] = []
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            parts.append(" ")
        parts.append(_nested(value))
    return "".join(parts)


def sprintf(pattern: str, values: Sequence[object]) -> str:
    """`fmt.Sprintf` for what templates hold."""
    out: list[str] = []
    position = used = 0
    for match in _VERB.finditer(pattern):
        out.append(pattern[position : match.start()])
        position = match.end()
        verb = match[4]
        if verb == "%":
            out.append("%")
        elif verb is None:
            out.append("%!(NOVERB)")
        elif used >= len(values):
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_format_one(_Verb.of(match), values[used]))
            used += 1
    out.append(pattern[position:])
    if used < len(values):
        extra = ", ".join(f"{type_name(value)}={_nested(value)}" for value in values[used:])
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


@dataclass(frozen=True, slots=True)
class _Verb:
    letter: str
    flags: str
    width: int
    precision: int | None

    @classmethod
    def of(cls, match: "re.Match[str]") -> "_Verb":
        precision = None if match[3] is None else int(match[3] or 0)
        return cls(match[4], match[1], min(int(match[2] or 0), _MAX_WIDTH), precision)

    def pad(self, text: str, *, is_number: bool) -> str:
        if "-" in self.flags:
            return text.ljust(self.width)
        if "0" in self.flags and is_number:
            sign = text[0] if text[:1] in ("+", "-", " ") else ""
            return sign + text[len(sign) :].rjust(self.width - len(sign), "0")
        return text.rjust(self.width)

    def sign(self, text: str) -> str:
        """The text of a number with the sign that the flags ask for."""
        if text.startswith("-"):
            return text
        if "+" in self.flags:
            return "+" + text.removeprefix("+")
        if text.startswith("+"):  # Only infinity; the space flag takes its sign.
            return " " + text[1:] if " " in self.flags else text
        return " " + text if " " in self.flags else text


def _format_one(verb: _Verb, value: object) -> str:
    text: str | None = None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match value:
        case bool() if verb.letter in "tv":
            text = go_text(value)
        case int() if not isinstance(value, bool):
            text = _format_int(verb, value)
        case float():
            text = _format_float(verb, value)
            is_number = math.isfinite(value)
        case str():
            text = _format_string(verb, value)
        case _ if verb.letter in "vs" and not isinstance(value, bool):
            text = _nested(value)
    if verb.letter == "T":
        text, is_number = type_name(value), False
    if text is None:
        return f"%!{verb.letter}({type_name(value)}={_nested(value)})"
    return verb.pad(text, is_number=is_number and verb.letter not in "cqUT")


def _format_int(verb: _Verb, value: int) -> str | None:
    match verb.letter:
        case "d" | "v":
            return verb.sign(str(value))
        case "x" | "X" | "o" | "b":
            prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}[verb.letter]
            digits = format(abs(value), verb.letter)
            text = (prefix if "#" in verb.flags else "") + digits
            return verb.sign(("-" if value < 0 else "") + text)
        case "c":
            return chr(value) if 0 <= value <= 0x10FFFF else "\ufffd"
        case "q":
            return f"'{chr(value)}'" if 0 <= value <= 0x10FFFF else "'\ufffd'"
        case "U":
            return f"U+{value:04X}"
        case _:
            return None


def _format_float(verb: _Verb, value: float) -> str | None:
    if verb.letter not in "eEfFgGv":
        return None
    if not math.isfinite(value):
        return verb.sign(go_text(value))
    letter = "g" if verb.letter == "v" else verb.letter
    if verb.precision is None and letter in "gG":
        text = format_float(value)
        return verb.sign(text.upper() if letter == "G" else text)
    precision = 6 if verb.precision is None else verb.precision
    return verb.sign(f"{value:.{precision}{letter}}")


def _format_string(verb: _Verb, value: str) -> str | None:
    shown = value if verb.precision is None else value[: verb.precision]
    match verb.letter:
        case "s" | "v":
            return shown
        case "q":
            return json.dumps(shown, ensure_ascii=False)
        case "x" | "X":
            digits = shown.encode().hex()
            return digits.upper() if verb.letter == "X" else digits
        case _:
            return None
