"""Values as Go's fmt package prints them: https://pkg.go.dev/fmt."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from promcompat.alerting.templates.values import (
    MAX_TEXT,
    RootData,
    TemplateSample,
    TooLongError,
    check_length,
    type_name,
)
from promcompat.core.texts.strconv import format_g, quote

_FLAGS: Final = re.compile(r"[-+# 0]*")
_DIGITS: Final = re.compile(r"[0-9]*")
_MAX_UNSIGNED: Final = (1 << 64) - 1
_GO_MAX_WIDTH: Final = 1_000_000
_MAX_WIDTH: Final = 1 << 20


def go_text(value: object) -> str:
    """A value as the action `{{ value }}` prints it. Raises TooLongError."""
    if value is None:
        return "<no value>"
    check_length([value])
    text = _text(_PLAIN, value)
    # An action prints what a pointer points to.
    return text.removeprefix("&") if isinstance(value, TemplateSample) else text


def sprint(values: Sequence[object]) -> str:
    """`fmt.Sprint`: a space between two values neither of which is a string.

    Raises TooLongError.
    """
    check_length(values)
    parts: list[str] = []
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            parts.append(" ")
        parts.append(_text(_PLAIN, value))
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class _Verb:
    """One verb of a pattern; a width or precision of None is absent."""

    letter: str
    flags: str = ""
    width: int | None = None
    precision: int | None = None
    is_fallback: bool = False
    """Whether it prints a value that does not fit the verb of the pattern."""

    def has(self, flag: str) -> bool:
        # With %v a plus selects field names, and a sharp Go syntax.
        is_meant = self.letter != "v" or self.is_fallback or flag not in "+#"
        return flag in self.flags and is_meant

    @property
    def shows_names(self) -> bool:
        return self.letter == "v" and "+" in self.flags and not self.is_fallback

    @property
    def is_go_syntax(self) -> bool:
        return self.letter == "v" and "#" in self.flags and not self.is_fallback

    def pad(self, text: str) -> str:
        width = self.width or 0
        if "-" in self.flags:
            return text.ljust(width)
        return text.rjust(width, "0" if "0" in self.flags else " ")

    def pad_number(self, sign: str, digits: str) -> str:
        """Zeros stand between sign and digits."""
        if "0" in self.flags and "-" not in self.flags:
            return sign + digits.rjust((self.width or 0) - len(sign), "0")
        return self.pad(sign + digits)

    def sign_of(self, *, is_negative: bool) -> str:
        if is_negative:
            return "-"
        return "+" if self.has("+") else " " if self.has(" ") else ""


_PLAIN: Final = _Verb("v")


def sprintf(pattern: str, values: Sequence[object]) -> str:
    """`fmt.Sprintf` for the values of templates.

    Raises ValueError for a width or precision above 2^20, where Go allows ten times as much, and
    TooLongError.
    """
    return _Printer(pattern, values).run()


@dataclass(slots=True)
class _Printer:
    """One call of `sprintf`: where it is in the pattern, and which argument comes next."""

    pattern: str
    values: Sequence[object]
    position: int = 0
    argument: int = 0
    is_reordered: bool = False
    is_good_index: bool = True
    out: list[str] = field(default_factory=list)
    n_characters: int = 0

    def _add(self, text: str) -> None:
        self.n_characters += len(text)
        if self.n_characters > MAX_TEXT:
            raise TooLongError
        self.out.append(text)

    def run(self) -> str:
        while (start := self.pattern.find("%", self.position)) >= 0:
            self._add(self.pattern[self.position : start])
            self.position = start + 1
            self._verb()
        self._add(self.pattern[self.position :])
        if not self.is_reordered and self.argument < len(self.values):
            check_length(self.values[self.argument :])
            extra = ", ".join(map(_with_type, self.values[self.argument :]))
            self._add(f"%!(EXTRA {extra})")
        return "".join(self.out)

    def _verb(self) -> None:
        self.is_good_index = True
        flags = self._match(_FLAGS)
        self._index()
        width = self._number("BADWIDTH")
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        precision = None
        if self.pattern.startswith(".", self.position):
            self.position += 1
            self._index()
            precision = self._number("BADPREC", missing=0)
            if precision is not None and precision < 0:
                self._add("%!(BADPREC)")
                precision = None
        self._index()
        letter = self.pattern[self.position : self.position + 1]
        self.position += 1
        if letter == "%":
            self._add("%")
        elif not letter:
            self._add("%!(NOVERB)")
        elif not self.is_good_index:
            self._add(f"%!{letter}(BADINDEX)")
        elif self.argument >= len(self.values):
            self._add(f"%!{letter}(MISSING)")
        else:
            verb = _Verb(letter, flags, width, precision)
            value = self.values[self.argument]
            check_length([value], (width or 0) + (precision or 0))
            self._add(_argument_text(verb, value))
            self.argument += 1

    def _match(self, expected: "re.Pattern[str]") -> str:
        found = expected.match(self.pattern, self.position)
        assert found is not None, "the pattern matches nothing, too"
        self.position = found.end()
        return found[0]

    def _index(self) -> None:
        """An explicit argument index, `[2]`."""
        if not self.pattern.startswith("[", self.position):
            return
        self.is_reordered = True
        end = self.pattern.find("]", self.position)
        number = self.pattern[self.position + 1 : end] if end >= 0 else ""
        self.position = end + 1 if end >= 0 else self.position + 1
        is_index = number.isascii() and number.isdigit() and len(number) < 9
        if is_index and 1 <= int(number) <= len(self.values):
            self.argument = int(number) - 1
        else:
            self.is_good_index = False

    def _number(self, fault: str, missing: int | None = None) -> int | None:
        """A width or precision: digits, or `*` for the next argument."""
        if not self.pattern.startswith("*", self.position):
            digits = self._match(_DIGITS)
            if not digits:
                return missing
            if len(digits) > 1 and int(digits[:9][:-1] or 0) > _GO_MAX_WIDTH:
                # Go stops formatting the whole pattern.
                self.position = len(self.pattern)
                return None
            return _checked_width(int(digits[:12]))
        self.position += 1
        value = self.values[self.argument] if self.argument < len(self.values) else None
        self.argument += 1
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _GO_MAX_WIDTH:
            self._add(f"%!({fault})")
            return None
        return _checked_width(value)


def _checked_width(width: int) -> int:
    if abs(width) > _MAX_WIDTH:
        raise ValueError("a width or precision is too large")
    return width


def _with_type(value: object) -> str:
    return "<nil>" if value is None else f"{type_name(value)}={_text(_PLAIN, value)}"


def _argument_text(verb: _Verb, value: object) -> str:
    if verb.letter == "T":
        return verb.pad(("<nil>" if value is None else type_name(value))[: verb.precision])
    if value is None:
        return verb.pad("<nil>") if verb.letter == "v" else f"%!{verb.letter}(<nil>)"
    return _text(verb, value)


def _text(verb: _Verb, value: object) -> str:
    """A value as a verb prints it; lists, maps and structs print their parts by the same verb."""
    match value:
        case None:
            return "<nil>"
        case RootData():
            return _struct_text(verb, value.fields(), type_name(value))
        case TemplateSample():
            return "&" + _struct_text(verb, value.fields(), type_name(value).removeprefix("*"))
        case Mapping():
            return _map_text(verb, value)
        case Sequence() if not isinstance(value, str):
            return f"[{' '.join(_text(verb, item) for item in value)}]"
    text = _basic_text(verb, value)
    if text is None:
        shown = _text(replace(verb, letter="v", is_fallback=True), value)
        return f"%!{verb.letter}({type_name(value)}={shown})"
    return text


def _basic_text(verb: _Verb, value: object) -> str | None:
    """A value without parts; None when it does not fit the verb."""
    match value:
        case bool():
            return verb.pad(str(value).lower()) if verb.letter in "tv" else None
        case int():
            return _format_int(verb, value)
        case float():
            return _format_float(verb, value)
        case _:
            return _format_string(verb, str(value))


def _struct_text(verb: _Verb, fields: Mapping[str, object], name: str) -> str:
    has_names = verb.shows_names or verb.is_go_syntax
    parts = [
        f"{field_name}:{_text(verb, item)}" if has_names else _text(verb, item)
        for field_name, item in fields.items()
    ]
    return f"{name}{{{', '.join(parts)}}}" if verb.is_go_syntax else f"{{{' '.join(parts)}}}"


def _map_text(verb: _Verb, value: Mapping[str, object]) -> str:
    parts = [f"{_text(verb, key)}:{_text(verb, item)}" for key, item in sorted(value.items())]
    if verb.is_go_syntax:
        return f"{type_name(value)}{{{', '.join(parts)}}}"
    return f"map[{' '.join(parts)}]"


_BASES: Final = {"v": "d", "d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES: Final = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}


def _format_int(verb: _Verb, value: int) -> str | None:
    match verb.letter:
        case "c":
            return verb.pad(_rune(value))
        case "q":
            return verb.pad(quote(_rune(value), "'", is_ascii=verb.has("+")))
        case "U":
            is_shown = verb.has("#") and 0 <= value <= 0x10FFFF and _rune(value).isprintable()
            shown = f" '{_rune(value)}'" if is_shown else ""
            return verb.pad(f"U+{value & _MAX_UNSIGNED:04X}{shown}")
        case letter if letter in _BASES:
            digits = format(abs(value), _BASES[letter])
        case _:
            return None
    if (precision := verb.precision) is not None:
        verb = replace(verb, flags=verb.flags.replace("0", ""))
        if not value and not precision:
            return " " * (verb.width or 0)
        digits = digits.rjust(precision, "0")
    prefix = "0o" if letter == "O" else _PREFIXES.get(letter, "") if verb.has("#") else ""
    prefix = "" if prefix == "0" and digits.startswith("0") else prefix
    sign = verb.sign_of(is_negative=value < 0)
    if prefix and "0" in verb.flags and "-" not in verb.flags:
        # Zeros fill the width without the prefix.
        digits = digits.rjust((verb.width or 0) - len(sign), "0")
    return verb.pad_number(sign + prefix, digits)


def _rune(value: int) -> str:
    is_valid = 0 <= value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF
    return chr(value) if is_valid else "\ufffd"


def _format_float(verb: _Verb, value: float) -> str | None:
    if verb.letter not in "bxXeEfFgGv":
        return None
    is_negative = math.copysign(1.0, value) < 0 and not math.isnan(value)
    if not math.isfinite(value):
        sign = verb.sign_of(is_negative=is_negative)
        sign = sign or ("+" if math.isinf(value) and not verb.has(" ") else "")
        return replace(verb, flags=verb.flags.replace("0", "")).pad(
            sign + ("NaN" if math.isnan(value) else "Inf")
        )
    digits = _float_digits(verb, abs(value))
    if verb.has("#") and verb.letter != "b":
        digits = _with_point(verb, digits)
    return verb.pad_number(verb.sign_of(is_negative=is_negative), digits)


def _float_digits(verb: _Verb, value: float) -> str:
    letter, precision = verb.letter, verb.precision
    if letter == "b":
        mantissa, exponent = math.frexp(value) if value else (0.0, -1021)
        return f"{int(mantissa * (1 << 53))}p{exponent - 53:+d}"
    if letter in "xX":
        text = _hex_digits(value, precision)
        return text.upper() if letter == "X" else text
    if letter in "vgG" and precision is None:
        text = format_g(value)
        return text.upper() if letter == "G" else text
    letter = "g" if letter == "v" else letter
    return f"{value:.{6 if precision is None else precision}{letter}}"


def _with_point(verb: _Verb, digits: str) -> str:
    """The digits with a decimal point, and for %g with its trailing zeros: the sharp flag."""
    mark = "p" if verb.letter in "xX" else "e"
    end = digits.lower().find(mark)
    mantissa, tail = (digits, "") if end < 0 else (digits[:end], digits[end:])
    point = "" if "." in mantissa else "."
    if verb.letter not in "vgGx":
        return mantissa + point + tail
    wanted = 6 if verb.precision is None else verb.precision
    n_significant = len(mantissa.replace(".", "").lstrip("0"))
    if mantissa == "0":
        n_significant = 1
    return mantissa + point + "0" * (wanted - n_significant) + tail


def _hex_digits(value: float, precision: int | None) -> str:
    mantissa, exponent = math.frexp(value)
    digits, power = int(mantissa * (1 << 53)), exponent - 1 if value else 0
    n_digits = 13 if precision is None else precision
    if n_digits < 13:
        # Rounds half to even, as Go does; a carry into the next power keeps one digit in front.
        unit = 1 << 4 * (13 - n_digits)
        digits = (digits + unit // 2 - (not digits // unit % 2)) // unit * unit
        if digits >> 53:
            digits, power = digits >> 1, power + 1
    whole, fraction = digits >> 52, f"{digits & ((1 << 52) - 1):013x}"
    fraction = fraction.rstrip("0") if precision is None else fraction.ljust(n_digits, "0")
    fraction = fraction if precision is None else fraction[:n_digits]
    return f"0x{whole}{'.' if fraction else ''}{fraction}p{power:+03d}"


def _format_string(verb: _Verb, value: str) -> str | None:
    if verb.letter in "xX":
        return verb.pad(_hex_text(verb, value))
    shown = value if verb.precision is None else value[: verb.precision]
    if verb.letter == "q" or verb.is_go_syntax:
        if verb.has("#") and "`" not in shown and shown.isprintable():
            return verb.pad(f"`{shown}`")
        return verb.pad(quote(shown, is_ascii=verb.has("+")))
    return verb.pad(shown) if verb.letter in "sv" else None


def _hex_text(verb: _Verb, value: str) -> str:
    data = value.encode(errors="replace")
    data = data if verb.precision is None else data[: verb.precision]
    prefix = "0x" if verb.has("#") and data else ""
    text = prefix + (data.hex(" ").replace(" ", f" {prefix}") if verb.has(" ") else data.hex())
    return text.upper() if verb.letter == "X" else text
