"""The functions of alert templates: those of Prometheus and the builtins of text/template."""

import html
import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import quote_plus

from promcompat.alerting.templates.comparisons import compare_less, is_equal, is_true
from promcompat.alerting.templates.go_format import sprint, sprintf
from promcompat.alerting.templates.values import (
    MAX_TEXT,
    Duration,
    LabelMap,
    Moment,
    TemplateSample,
    TooLongError,
    check_length,
    type_name,
)
from promcompat.core.errors import BadDataError
from promcompat.core.patterns.compiled import CompiledPattern, PatternMatch, compile_capturing
from promcompat.core.patterns.expansion import expand
from promcompat.core.texts.durations import parse_duration_ms
from promcompat.core.texts.letter_case import to_lower, to_title, to_upper
from promcompat.core.texts.strconv import parse_float

_MAX_PATTERN_COST: Final = 5_000
"""About microseconds, as a template may compile many patterns."""
Vector: TypeAlias = Sequence[TemplateSample]


@dataclass(frozen=True, slots=True)
class FunctionContext:
    """What functions can use; `query` returns the result of an expression."""

    query: Callable[[str], Vector]
    external_url: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class TemplateFunction:
    """`parameters` are the expected Go types; a final `...` repeats the one before it."""

    parameters: tuple[str, ...]
    call: Callable[..., object]


def _first(vector: Vector) -> TemplateSample:
    if not vector:
        raise ValueError("first() called on vector with no elements")
    return vector[0]


def _replace_all(pattern: str, replacement: str, text: str) -> str:
    try:
        compiled = _compile(pattern)
    except ValueError as exc:
        raise ValueError(sprintf("regexp: Compile(%#q): %s", [pattern, str(exc)])) from exc
    n_characters, last_end = len(text), -1

    def replaced(match: PatternMatch) -> str:
        nonlocal n_characters, last_end
        # Unlike Python, Go ignores an empty match right behind another one.
        if match.start() == match.end() == last_end:
            return ""
        last_end = match.end()
        most = len(replacement) + replacement.count("$") * (match.end() - match.start())
        if n_characters + most > MAX_TEXT:
            raise TooLongError
        expanded = expand(replacement, compiled, match)
        n_characters += len(expanded)
        return expanded

    return compiled.sub(replaced, text)


def _compile(pattern: str) -> CompiledPattern:
    try:
        return compile_capturing(pattern, max_cost=_MAX_PATTERN_COST)
    except BadDataError as exc:
        raise ValueError(str(exc)) from exc


def _split_host_port(text: str) -> tuple[str, str] | None:
    match = re.fullmatch(r"\[([^\[\]]*)\]:([^:\[\]]*)|([^:\[\]]*):([^:\[\]]*)", text)
    if match is None:
        return None
    return (match[1] or "", match[2] or "") if match[3] is None else (match[3], match[4] or "")


def _strip_port(text: str) -> str:
    found = _split_host_port(text)
    return text if found is None else found[0]


def _strip_domain(text: str) -> str:
    host, port = _split_host_port(text) or (text, "")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        short = host.split(".")[0]
        return f"{short}:{port}" if port else short
    return text


def _to_float(value: object) -> float:
    """A number, given as one or as text. Raises ValueError in Prometheus' words."""
    if isinstance(value, str):
        return parse_float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"can't convert {type_name(value)} to float")


def _humanize(value: object) -> str:
    number = _to_float(value)
    if number == 0 or not math.isfinite(number):
        return sprintf("%.4g", [number])
    prefix = ""
    if abs(number) >= 1:
        for candidate in "kMGTPEZY":
            if abs(number) < 1000:
                break
            prefix, number = candidate, number / 1000
    else:
        for candidate in "munpfazy":
            if abs(number) >= 1:
                break
            prefix, number = candidate, number * 1000
    return sprintf("%.4g%s", [number, prefix])


def _humanize_1024(value: object) -> str:
    number = _to_float(value)
    if abs(number) <= 1 or not math.isfinite(number):
        return sprintf("%.4g", [number])
    prefix = ""
    for candidate in "kMGTPEZY":
        if abs(number) < 1024:
            break
        prefix, number = f"{candidate}i", number / 1024
    return sprintf("%.4g%s", [number, prefix])


def _humanize_duration(value: object) -> str:
    number = _to_float(value)
    if not math.isfinite(number):
        return sprintf("%.4g", [number])
    if number == 0:
        return sprintf("%.4gs", [number])
    if abs(number) >= 1:
        sign, number = ("-", -number) if number < 0 else ("", number)
        minutes, seconds = _divided(_to_int64(number), 60)
        hours, minutes = _divided(minutes, 60)
        days, hours = _divided(hours, 24)
        if days:
            return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
        if hours:
            return f"{sign}{hours}h {minutes}m {seconds}s"
        if minutes:
            return f"{sign}{minutes}m {seconds}s"
        return sprintf("%s%.4gs", [sign, number])
    prefix = ""
    for candidate in "munpfazy":
        if abs(number) >= 1:
            break
        prefix, number = candidate, number * 1000
    return sprintf("%.4g%ss", [number, prefix])


def _to_int64(number: float) -> int:
    """Without its fraction. What int64 cannot hold becomes its least value, as on amd64."""
    return int(number) if -(2.0**63) <= number < 2.0**63 else -(1 << 63)


def _divided(number: int, by: int) -> tuple[int, int]:
    """Quotient and remainder as in Go, rounded to 0."""
    quotient, remainder = divmod(abs(number), by)
    return (-quotient, -remainder) if number < 0 else (quotient, remainder)


def _humanize_percentage(value: object) -> str:
    return sprintf("%.4g%%", [_to_float(value) * 100])


def _to_moment(value: object) -> Moment:
    number = _to_float(value)
    if not math.isfinite(number):
        raise ValueError("value is NaN or Inf")
    nanoseconds = number * 1e9
    if not -(2.0**63) <= nanoseconds <= 2.0**63:
        raise ValueError(
            f"{sprint([number])} cannot be represented as a nanoseconds timestamp "
            "since it overflows int64"
        )
    # Prometheus keeps milliseconds.
    milliseconds, _ = _divided(_to_int64(nanoseconds), 1_000_000)
    return Moment(milliseconds * 1_000_000)


def _to_duration(value: object) -> Duration:
    return Duration(_to_int64(_to_float(value) * 1e9))


def _humanize_timestamp(value: object) -> str:
    number = _to_float(value)
    if not math.isfinite(number):
        return sprintf("%.4g", [number])
    return str(_to_moment(number))


def _parse_duration(text: str) -> float:
    is_negative = text.startswith("-")
    seconds = parse_duration_ms(text.removeprefix("-")) / 1000
    return -seconds if is_negative else seconds


def _path_prefix(url: str) -> str:
    match = re.match(r"[a-z]+://[^/]*(/.*)?", url)
    return (match[1] or "") if match else ""


def _graph_link(expression: str, tab: int) -> str:
    return f"/graph?g0.expr={quote_plus(expression, safe='~')}&g0.tab={tab}"


def _index(value: object, *keys: object) -> object:
    for key in keys:
        value = _index_one(value, key)
    return value


def _index_one(value: object, key: object) -> object:
    match value:
        case LabelMap() if isinstance(key, str):
            return value.get(key, "")
        case Mapping() if isinstance(key, str):
            return value.get(key)
        case str() | Sequence() if isinstance(key, int) and not isinstance(key, bool):
            items: Sequence[object] = value.encode() if isinstance(value, str) else value
            if not 0 <= key < len(items):
                raise ValueError(f"index out of range: {key}")
            return items[key]
        case None:
            raise ValueError("index of untyped nil")
        case Mapping() | Sequence():
            raise ValueError(f"cannot index slice/array with type {type_name(key)}")
        case _:
            raise ValueError(f"can't index item of type {type_name(value)}")


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, str | Sequence):
        raise ValueError(f"can't slice item of type {type_name(value)}")
    numbers = [bound for bound in bounds if isinstance(bound, int)]
    if len(numbers) != len(bounds) or len(bounds) > 2:
        raise ValueError("cannot index slice/array with such indexes")
    items = value.encode() if isinstance(value, str) else value
    start, end = (*numbers, *[0, len(items)][len(numbers) :])
    if not 0 <= start <= end <= len(items):
        raise ValueError(f"index out of range: {end if end > len(items) else start}")
    part = items[start:end]
    return part.decode(errors="replace") if isinstance(part, bytes) else part


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Sequence | Mapping):
        return len(value)
    raise ValueError(f"len of type {type_name(value)}")


def _equals_any(first: object, *others: object) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    return any(is_equal(first, other) for other in others)


def _js(*values: object) -> str:
    text = sprint(values)
    marks = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E",
             "&": "\\u0026", "=": "\\u003D"}  # fmt: skip
    return "".join(
        marks.get(char) or (char if _is_shown(char) else f"\\u{ord(char):04X}") for char in text
    )


def _is_shown(char: str) -> bool:
    return char >= " " if char.isascii() else char.isprintable()


def _println(*values: object) -> str:
    check_length(values)
    return " ".join(sprint([value]) for value in values) + "\n"


def _html(*values: object) -> str:
    escaped = html.escape(sprint(values), quote=False)
    return escaped.replace('"', "&#34;").replace("'", "&#39;").replace("\0", "\ufffd")


_STATIC: Final[dict[str, TemplateFunction]] = {
    name: TemplateFunction(parameters, call)
    for name, parameters, call in (
        ("first", ("template.queryResult",), _first),
        ("label", ("string", "*template.sample"), lambda name, sample: sample.labels.get(name, "")),
        ("value", ("*template.sample",), lambda sample: sample.value),
        ("strvalue", ("*template.sample",), lambda sample: sample.labels.get("__value__", "")),
        (
            "sortByLabel",
            ("string", "template.queryResult"),
            lambda name, vector: sorted(vector, key=lambda sample: sample.labels.get(name, "")),
        ),
        ("args", ("any", "..."), lambda *args: {f"arg{n}": arg for n, arg in enumerate(args)}),
        ("reReplaceAll", ("string", "string", "string"), _replace_all),
        (
            "match",
            ("string", "string"),
            lambda pattern, text: _compile(pattern).search(text) is not None,
        ),
        ("safeHtml", ("string",), str),
        ("title", ("string",), to_title),
        ("toUpper", ("string",), to_upper),
        ("toLower", ("string",), to_lower),
        ("graphLink", ("string",), lambda expression: _graph_link(expression, 0)),
        ("tableLink", ("string",), lambda expression: _graph_link(expression, 1)),
        ("stripPort", ("string",), _strip_port),
        ("stripDomain", ("string",), _strip_domain),
        ("humanize", ("any",), _humanize),
        ("humanize1024", ("any",), _humanize_1024),
        ("humanizeDuration", ("any",), _humanize_duration),
        ("humanizePercentage", ("any",), _humanize_percentage),
        ("humanizeTimestamp", ("any",), _humanize_timestamp),
        ("toTime", ("any",), _to_moment),
        ("toDuration", ("any",), _to_duration),
        ("parseDuration", ("string",), _parse_duration),
        ("urlQueryEscape", ("string",), lambda text: quote_plus(text, safe="~")),
        ("printf", ("string", "any", "..."), lambda pattern, *given: sprintf(pattern, given)),
        ("print", ("any", "..."), lambda *given: sprint(given)),
        ("println", ("any", "..."), _println),
        ("html", ("any", "..."), _html),
        ("js", ("any", "..."), _js),
        ("urlquery", ("any", "..."), lambda *given: quote_plus(sprint(given), safe="~")),
        ("len", ("any",), _length),
        ("index", ("any", "any", "..."), _index),
        ("slice", ("any", "any", "..."), _slice),
        ("not", ("any",), lambda value: not is_true(value)),
        ("eq", ("any", "any", "..."), _equals_any),
        ("ne", ("any", "any"), lambda left, right: not is_equal(left, right)),
        ("lt", ("any", "any"), compare_less),
        (
            "le",
            ("any", "any"),
            lambda left, right: compare_less(left, right) or is_equal(left, right),
        ),
        (
            "gt",
            ("any", "any"),
            lambda left, right: not (compare_less(left, right) or is_equal(left, right)),
        ),
        ("ge", ("any", "any"), lambda left, right: not compare_less(left, right)),
    )
}
FUNCTION_NAMES: Final = frozenset(_STATIC) | {
    "query", "now", "externalURL", "pathPrefix", "and", "or", "call",
}  # fmt: skip
"""Every function a template may call, without `and` and `or`: the evaluator has them, as they may
skip arguments."""


def bind_functions(context: FunctionContext) -> Mapping[str, TemplateFunction]:
    """All functions but `and`, `or` and `call` (no template holds a function value)."""
    return _STATIC | {
        "query": TemplateFunction(("string",), context.query),
        "now": TemplateFunction((), lambda: context.now_ms / 1000),
        "externalURL": TemplateFunction((), lambda: context.external_url),
        "pathPrefix": TemplateFunction((), lambda: _path_prefix(context.external_url)),
    }
