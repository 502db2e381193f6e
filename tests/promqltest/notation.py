"""The notation of values in test scripts: numbers, durations, strings, labels, sequences.

Facts: the comments of Prometheus' own promqltest documentation and scripts.
"""

import re
from collections.abc import Iterator

from promcompat.core.errors import BadDataError
from promcompat.core.model import METRIC_NAME, Labels
from promql.histograms.notation import HISTOGRAM_PATTERN, expand_histograms
from tests.promqltest.script import HistogramNotation, Mark, ScriptSeries, SequenceValue


class ScriptError(Exception):
    """A script that cannot be read; the message names the line."""


_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_DURATION = re.compile("".join(rf"(?:(\d+){unit})?" for unit in _UNITS_MS))


def parse_duration_ms(text: str) -> int:
    """A Prometheus duration, e.g. `1h30m`; units descend, and a bare 0 is one."""
    if text == "0":
        return 0
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ScriptError(f"not a valid duration string: {text!r}")
    factors = _UNITS_MS.values()
    return sum(int(n) * factor for n, factor in zip(match.groups(), factors, strict=True) if n)


_DECIMAL = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][-+]?\d+)?")
_SPECIAL = re.compile(r"[-+]?(?:inf(?:inity)?|nan)", re.IGNORECASE)
_BASED = re.compile(r"([-+]?)(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+)")


def parse_number(text: str) -> float:
    """A number as PromQL writes it: integers of any base first, then floats."""
    based = _BASED.fullmatch(text)
    if based is not None:
        sign, digits = based.groups()
        plain = digits.replace("_", "").lower()
        base = {"x": 16, "b": 2}.get(plain[1:2], 8)
        return float(f"{sign}1") * float(int(plain.lstrip("0").lstrip("xbo") or "0", base))
    if _DECIMAL.fullmatch(text) is None and _SPECIAL.fullmatch(text) is None:
        raise ScriptError(f"not a number: {text!r}")
    return float(text.replace("_", ""))


_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
}
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`')
_ESCAPE = re.compile(
    rb"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)


def unquote(literal: str) -> str:
    """The value of a string literal in double quotes, single quotes or backticks."""
    if literal.startswith("`"):
        return literal[1:-1]
    raw = literal[1:-1].encode()
    return _ESCAPE.sub(_replace_escape, raw).decode("utf-8", "surrogateescape")


def _replace_escape(match: re.Match[bytes]) -> bytes:
    hexadecimal, short, long, octal, simple = match.groups()
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if octal is not None:
        return bytes([int(octal, 8)])
    if simple is not None:
        if simple.decode() not in _ESCAPES:
            raise ScriptError(f"unknown escape \\{simple.decode()}")
        return _ESCAPES[simple.decode()].encode()
    return chr(int(short or long, 16)).encode()


_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(
    rf"\s*(?:(?P<quoted>{_QUOTED.pattern})|(?P<bare>[a-zA-Z_][a-zA-Z0-9_:]*))"
    rf"\s*(?:=\s*(?P<value>{_QUOTED.pattern}))?\s*(?P<end>,|(?=\}}))"
)


def parse_metric(text: str) -> tuple[Labels, str]:
    """The labels that a series description starts with, and the rest of the text."""
    pairs: dict[str, str] = {}
    name = _NAME.match(text)
    index = 0
    if name is not None:
        pairs[METRIC_NAME] = name[0]
        index = name.end()
    if text.startswith("{", index) and not text.startswith("{{", index):
        index = _parse_label_list(text, index + 1, pairs)
    elif name is None:
        raise ScriptError(f"no series description: {text!r}")
    return Labels.of(pairs), text[index:]


def _parse_label_list(text: str, index: int, pairs: dict[str, str]) -> int:
    while not (rest := text[index:].lstrip()).startswith("}"):
        match = _LABEL.match(text, index)
        if match is None:
            raise ScriptError(f"bad label list: {text!r}")
        name = unquote(match["quoted"]) if match["quoted"] else match["bare"]
        if match["value"] is not None:
            pairs[name] = unquote(match["value"])
        elif match["quoted"]:
            pairs[METRIC_NAME] = name
        else:
            raise ScriptError(f"label without a value: {text!r}")
        index = match.end()
    return len(text) - len(rest) + 1


# No hexadecimal here: `0x5` is six zeros.
_NUMBER = r"(?:[iI]nf|[nN]a[nN]|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_ITEM = re.compile(
    r"\s*(?:(?P<omitted>_(?:x(?P<gaps>\d+))?)|(?P<stale>stale)"
    rf"|{HISTOGRAM_PATTERN}"
    rf"|(?P<start>[-+]?{_NUMBER})(?:(?P<delta>[-+]{_NUMBER})(?=x))?(?:x(?P<times>\d+))?)(?=\s|$)"
)


def parse_sequence(text: str) -> tuple[SequenceValue, ...]:
    """The values of an expanding sequence: `1+2x3` is 1 3 5 7, `_x2` two gaps, `1x2` 1 1 1."""
    values: list[SequenceValue] = []
    index, end = 0, len(text.rstrip())
    while index < end:
        match = _ITEM.match(text, index)
        if match is None:
            raise ScriptError(f"bad value in {text!r} at {text[index:].lstrip()!r}")
        values.extend(_expand(match))
        index = match.end()
    return tuple(values)


def _expand(match: re.Match[str]) -> Iterator[SequenceValue]:
    if match["omitted"]:
        yield from [Mark.OMITTED] * int(match["gaps"] or 1)
    elif match["stale"]:
        yield Mark.STALE
    elif match["histogram"] is not None:
        yield from _expand_histogram(match)
    else:
        value = parse_number(match["start"])
        delta = parse_number(match["delta"]) if match["delta"] else 0.0
        for _ in range(int(match["times"] or 0) + 1):
            yield value
            # Added one by one, so that the rounding is that of Prometheus.
            value = value + delta if match["delta"] else value


def _expand_histogram(match: re.Match[str]) -> Iterator[HistogramNotation]:
    has_hint = "counter_reset_hint" in match["histogram"]
    try:
        yield from (HistogramNotation(value, has_hint) for value in expand_histograms(match))
    except BadDataError as exc:
        raise ScriptError(str(exc)) from exc


def parse_series(text: str) -> ScriptSeries:
    """A series description: labels, then values."""
    labels, rest = parse_metric(text)
    return ScriptSeries(labels, parse_sequence(rest))


_START_DURATION = r"(?:0|(?:\d+(?:ms|[ywdhms]))+)"
_START = re.compile(
    rf"\s*(?:(?P<unknown>_)|(?P<sign>[-+]?)(?P<start>{_START_DURATION})"
    rf"(?:(?P<change_sign>[-+])(?P<change>{_START_DURATION})(?=x))?)(?:x(?P<times>\d+))?(?=\s|$)"
)


def parse_starts(text: str) -> tuple[Labels, tuple[int | None, ...]] | None:
    """`x@st -1m 0-1mx3`: when the counter of each value began, in ms after its time.

    None for a description of values; None in place of a start is one that is not known.
    """
    labels, rest = parse_metric(text)
    if not rest.startswith("@st"):
        return None
    starts: list[int | None] = []
    index, end = len("@st"), len(rest.rstrip())
    while index < end:
        match = _START.match(rest, index)
        if match is None:
            raise ScriptError(f"bad start in {text!r} at {rest[index:].lstrip()!r}")
        n = int(match["times"] or 0)
        if match["unknown"]:
            starts += [None] * max(n, 1)
        else:
            start = _signed_ms(match["sign"], match["start"])
            change = _signed_ms(match["change_sign"], match["change"]) if match["change"] else 0
            starts += [start + change * i for i in range(n + 1)]
        index = match.end()
    return labels, tuple(starts)


def _signed_ms(sign: str, duration: str) -> int:
    duration_ms = parse_duration_ms(duration)
    return -duration_ms if sign == "-" else duration_ms
