"""The parameters of forms as Prometheus reads them: times, durations, limits, matchers."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone

from promcompat.api.forms import Form
from promcompat.core.errors import BadDataError, without_frames
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import EvalRange
from promcompat.core.texts.durations import parse_duration_ms
from promcompat.core.texts.strconv import parse_float, quote
from promql.parsing.parser import parse_metric_selector

MIN_TIME_TEXT = "-292273086-05-16T16:47:06Z"
MAX_TIME_TEXT = "292277025-08-18T07:12:54.999999999Z"
MAX_TIME_MS = 1 << 62
"""Half of Prometheus' bound, so that no lookback or offset overflows int64."""
MIN_TIME_MS = -MAX_TIME_MS
MAX_POINTS_PER_SERIES = 11_000

_MAX_DURATION_NS = (1 << 63) - 1
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_400_YEARS = timedelta(days=146_097)
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


def parse_time_ms(text: str) -> int:
    """Unix milliseconds of a timestamp: seconds as a float, or RFC 3339 with a zone.

    The fraction of a second is rounded half away from zero; nanoseconds of RFC 3339 are cut off.
    A number beyond the range of times is clamped, since clients send such (milliseconds, say).
    Raises BadDataError.
    """
    if text == MIN_TIME_TEXT:
        return MIN_TIME_MS
    if text == MAX_TIME_TEXT:
        return MAX_TIME_MS
    try:
        seconds = parse_float(text)
    except ValueError:
        milliseconds = _parse_rfc3339(text)
        if milliseconds is None:
            raise BadDataError(f"cannot parse {quote(text)} to a valid timestamp") from None
        return milliseconds
    return _seconds_to_ms(seconds)


def _seconds_to_ms(seconds: float) -> int:
    if not math.isfinite(seconds) or abs(seconds) >= MAX_TIME_MS / 1000:
        return MAX_TIME_MS if seconds > 0 else MIN_TIME_MS
    fraction, whole = math.modf(seconds)
    rounded = math.copysign(math.floor(abs(fraction) * 1000 + 0.5), fraction) / 1000
    # Through nanoseconds as Go does it, which floors: -0.0005 s is -1 ms.
    return (int(whole) * 1_000_000_000 + int(rounded * 1e9)) // 1_000_000


def _parse_rfc3339(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    date_time, fraction, sign, hours, minutes = match.groups()
    # Python has no year 0, which is like any that 400 divides.
    has_year = not date_time.startswith("0000")
    if not has_year:
        date_time = "0400" + date_time[4:]
    try:
        parsed = datetime.strptime(date_time, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        if sign and (int(hours) > 24 or int(minutes) > 59):
            return None
    except ValueError:
        return None
    offset_minutes = (int(hours) * 60 + int(minutes)) if sign else 0
    if sign == "-":
        offset_minutes = -offset_minutes
    elapsed = parsed - datetime(1970, 1, 1, tzinfo=timezone(timedelta(0)))
    if not has_year:
        elapsed -= _400_YEARS
    seconds = elapsed // timedelta(seconds=1) - offset_minutes * 60
    return seconds * 1000 + int(((fraction or "") + "000")[:3])


def parse_optional_time_ms(form: Form, name: str, default_ms: int) -> int:
    """The time of a parameter that may be absent; BadDataError in Prometheus' words."""
    text = form.get(name)
    if not text:
        return default_ms
    try:
        return parse_time_ms(text)
    except BadDataError as exc:
        raise BadDataError(
            f"invalid parameter \"{name}\": invalid time value for '{name}': {exc}"
        ) from exc


def parse_duration_ns(text: str) -> int:
    """Nanoseconds of a duration: seconds as a float, or a duration like `5m`. BadDataError."""
    try:
        nanoseconds = parse_float(text) * 1e9
    except ValueError:
        try:
            return parse_duration_ms(text) * 1_000_000
        except ValueError:
            raise BadDataError(f"cannot parse {quote(text)} to a valid duration") from None
    if abs(nanoseconds) > _MAX_DURATION_NS:
        raise BadDataError(f"cannot parse {quote(text)} to a valid duration. It overflows int64")
    return 0 if math.isnan(nanoseconds) else int(nanoseconds)


def parse_eval_range(form: Form) -> EvalRange:
    """`start`, `end` and `step` of a range query, all mandatory. Raises BadDataError."""
    start_ms = _named("start", parse_time_ms, form)
    end_ms = _named("end", parse_time_ms, form)
    if end_ms < start_ms:
        raise invalid_parameter("end", "end timestamp must not be before start time")
    step_ns = _named("step", parse_duration_ns, form)
    if step_ns <= 0:
        raise invalid_parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. "
            "Try a positive integer",
        )
    # Prometheus counts 292 years at most, the longest duration of Go, and evaluates all steps.
    if (end_ms - start_ms) * 1_000_000 // step_ns > MAX_POINTS_PER_SERIES:
        raise BadDataError(
            "exceeded maximum resolution of 11,000 points per timeseries. "
            "Try decreasing the query resolution (?step=XX)"
        )
    # Prometheus truncates the step to ms, and then divides by zero for a step below 1 ms.
    return EvalRange(start_ms, end_ms, max(step_ns // 1_000_000, 1))


def _named(name: str, parse: Callable[[str], int], form: Form) -> int:
    with errors_naming(name):
        return parse(form.get(name))


def parse_timeout_seconds(form: Form) -> float | None:
    """The `timeout` of a query, None when not given. Raises BadDataError."""
    if not form.get("timeout"):
        return None
    # A duration of zero is a timeout of zero, not an absent one.
    return max(_named("timeout", parse_duration_ns, form), 1) / 1e9


def parse_lookback_ms(form: Form) -> int | None:
    """The `lookback_delta` of a query, None for the default. Raises BadDataError."""
    text = form.get("lookback_delta")
    if not text:
        return None
    try:
        lookback_ms = parse_duration_ns(text) // 1_000_000
    except BadDataError as exc:
        raise BadDataError(f"error parsing lookback delta duration: {exc}") from exc
    return lookback_ms if lookback_ms > 0 else None


def parse_limit(form: Form) -> int:
    """The `limit` of a list, 0 for none. Raises BadDataError."""
    text = form.get("limit")
    if not text:
        return 0
    limit = _named("limit", parse_go_int, form)
    if limit < 0:
        raise invalid_parameter("limit", "limit must be non-negative")
    return limit


def parse_go_int(text: str, function: str = "Atoi") -> int:
    """An int as Go's `strconv` reads one. Raises BadDataError in the words of a function of it."""
    if not _INTEGER.fullmatch(text):
        raise BadDataError(f"strconv.{function}: parsing {quote(text)}: invalid syntax")
    # Python refuses to convert thousands of digits; a value of 20 digits is out of range anyway.
    value = int(text) if len(text) <= 20 else 1 << 64
    if not -(1 << 63) <= value < 1 << 63:
        raise BadDataError(f"strconv.{function}: parsing {quote(text)}: value out of range")
    return value


def parse_matcher_sets(
    selectors: Iterable[str],
    check_time: Callable[[], None] = lambda: None,
    *,
    may_match_all: bool = False,
) -> list[tuple[LabelMatcher, ...]]:
    """The matchers of each distinct series selector of `match[]`.

    Raises BadDataError for a parse error or, unless it may, a selector that would match every
    series, and whatever `check_time` raises, which is called now and then. Of those that may match
    every series, `{}` is left out: in Prometheus it selects nothing.
    """
    texts = dict.fromkeys(selectors)
    matcher_sets = [parse_metric_selector(text, lambda _: check_time()) for text in texts]
    for matchers in matcher_sets:
        check_time()
        if not may_match_all and all(matcher.matches_empty() for matcher in matchers):
            raise BadDataError("match[] must contain at least one non-empty matcher")
    return [matchers for matchers in matcher_sets if matchers]


_ESCAPED_RUNE = re.compile(r"_(?:(_)|([0-9A-Fa-f]{1,5})_)")


def unescape_label_name(name: str) -> str:
    """Undo the `U__` escaping of a UTF-8 label name; a name not properly escaped is unchanged."""
    if not name.startswith("U__"):
        return name
    escaped = name[3:]
    out: list[str] = []
    position = 0
    while position < len(escaped):
        if escaped[position] != "_":
            out.append(escaped[position])
            position += 1
            continue
        match = _ESCAPED_RUNE.match(escaped, position)
        rune = "_" if match and match.group(1) else _rune(match.group(2)) if match else None
        if match is None or rune is None:
            return name
        out.append(rune)
        position = match.end()
    return "".join(out)


def _rune(hexadecimal: str) -> str | None:
    code = int(hexadecimal, 16)
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else None


def check_label_name(name: str) -> None:
    """Raises BadDataError unless the name is non-empty valid UTF-8."""
    if not name or any(0xD800 <= ord(char) <= 0xDFFF for char in name):
        raise BadDataError(f"invalid label name: {quote(name)}")


def invalid_parameter(name: str, text: str) -> BadDataError:
    """The error Prometheus gives for a parameter."""
    return BadDataError(f'invalid parameter "{name}": {text}')


@contextmanager
def errors_naming(name: str) -> Iterator[None]:
    """Turns a BadDataError of the block into the error for the parameter of this name."""
    try:
        yield
    except BadDataError as exc:
        # Since Python 3.13, the frames of a generator that is a context manager would refer to it.
        raise invalid_parameter(name, str(exc)) from without_frames(exc)
