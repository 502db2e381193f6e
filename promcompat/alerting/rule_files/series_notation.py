"""The notation of series in promtool's unit tests: `m{a="b"}` and `1+2x3 _ stale {{count:3}}`."""

import re
import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

from promcompat.core.errors import BadDataError
from promcompat.core.matchers import MatchOp
from promcompat.core.model import STALE_NAN_BITS, Labels
from promcompat.core.texts.strconv import quote
from promql.histograms.notation import HISTOGRAM_PATTERN, expand_histograms
from promql.parsing.parser import parse_metric_selector
from promql.values.histogram_columns import HistogramColumns

_STALE: Final[float] = struct.unpack("<d", struct.pack("<Q", STALE_NAN_BITS))[0]
_MAX_VALUES: Final = 10_000_000
_MAX_HISTOGRAMS: Final = 100_000
"""A histogram takes about a hundred times as long as a number, and as much memory."""
# No hexadecimal numbers: `0x5` is six zeros.
_NUMBER: Final = r"(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_ITEM: Final = re.compile(
    r"\s*(?:_(?:x(?P<gaps>\d{1,9}))?|(?P<stale>stale)"
    rf"|(?P<start>[-+]?{_NUMBER})(?:(?P<delta>[-+]{_NUMBER})(?=x))?(?:x(?P<times>\d{{1,9}}))?"
    rf"|{HISTOGRAM_PATTERN})(?=\s|$)",
    re.IGNORECASE | re.ASCII,
)

Value: TypeAlias = float | HistogramColumns
"""A number, or one histogram."""


def parse_series_labels(text: str) -> Labels:
    """The labels of a description such as `m{a="b"}`. Raises BadDataError."""
    if text.strip() in ("", "{}"):
        return Labels()
    matchers = parse_metric_selector(text)
    if any(matcher.op is not MatchOp.EQUAL for matcher in matchers):
        raise BadDataError(f"{quote(text)} has a matcher that is no label; use NAME=VALUE only")
    return Labels.of({matcher.name: matcher.value for matcher in matchers})


def parse_series_values(text: str) -> list[Value | None]:
    """The values of consecutive intervals, None for none. Raises BadDataError."""
    values: list[Value | None] = []
    text, at, n_histograms = text.rstrip(), 0, 0
    while at < len(text):
        match = _ITEM.match(text, at)
        if match is None:
            raise BadDataError(
                f"{quote(text[at:].split()[0])} is not a value: expected a number, `a+bxn`, `_`, "
                "`_xn`, `stale`, `{{…}}`, `{{…}}xn` or `{{…}}+{{…}}xn`"
            )
        if len(values) + _n_values(match) > _MAX_VALUES:
            raise BadDataError(f"a series has more than {_MAX_VALUES} values")
        n_histograms += _n_values(match) if match["histogram"] is not None else 0
        if n_histograms > _MAX_HISTOGRAMS:
            raise BadDataError(f"a series has more than {_MAX_HISTOGRAMS} histograms")
        values += _expanded(match)
        at = match.end()
    return values


def _n_values(match: re.Match[str]) -> int:
    if match["gaps"]:
        return int(match["gaps"])
    return int(match["times"] or match["repeats"] or 0) + 1


def _expanded(match: re.Match[str]) -> Iterator[Value | None]:
    if match["histogram"] is not None:
        yield from expand_histograms(match)
    elif match["stale"]:
        yield _STALE
    elif match["start"] is None:
        yield from [None] * _n_values(match)
    else:
        value, delta = float(match["start"]), float(match["delta"] or 0)
        for _ in range(_n_values(match)):
            yield value
            # One addition after the other, as promtool adds them.
            value += delta
