"""Requests that ask for something nobody can mean, for every endpoint that reads queries.

None of them may be answered with a status from 500 on, but for one that says to try again later.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

_QUERY: Final = ("query", "time", "timeout", "limit", "lookback_delta", "stats")
_RANGE: Final = ("query", "start", "end", "step", "timeout", "limit", "lookback_delta", "stats")
_LISTING: Final = ("match[]", "start", "end", "limit")
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "query": _QUERY,
    "query_range": _RANGE,
    "query_exemplars": ("query", "start", "end"),
    "format_query": ("query",),
    "parse_query": ("query",),
    "explain": (*_RANGE, "time", "analyze", "buffers", "database_plan"),
    "labels": _LISTING,
    "label/job/values": _LISTING,
    "series": _LISTING,
    "metadata": ("metric", "limit", "limit_per_metric"),
    "targets": ("state", "scrapePool"),
    "targets/metadata": ("match_target", "metric", "limit"),
    "scrape_pools": ("name",),
    "rules": (
        "type", "rule_name[]", "rule_group[]", "file[]", "match[]", "exclude_alerts", "group_limit",
        "group_next_token",
    ),
    "alerts": ("name",),
    "alertmanagers": ("name",),
    "status/tsdb": ("limit",),
    "status/config": ("name",),
    "status/flags": ("name",),
    "status/buildinfo": ("name",),
    "status/runtimeinfo": ("name",),
}  # fmt: skip
WITH_FORMS: Final = frozenset(
    ["query", "query_range", "query_exemplars", "format_query", "parse_query", "explain", "labels",
     "series", "label/job/values"]
)  # fmt: skip
VALID: Final[Mapping[str, str]] = {
    "query": "up",
    "start": "1699999000",
    "end": "1700000000",
    "step": "100",
    "match[]": "up",
}

NUMBERS: Final = (
    "0", "-1", "-0", "1e400", "-1e400", "1e-400", "nan", "-inf", "+Inf", "0x1p3", "0x1p99999",
    "1_000", str(2**31), str(2**62), str(2**63 - 1), str(2**63), str(-(2**63)), str(2**64),
    str(2**64 + 1), "9" * 30, "9" * 5_000, "0." + "9" * 5_000, "1" + "0" * 400, "٣", "1,5",
    " 1", "1 ",
)  # fmt: skip
TIMES: Final = (
    "9999-12-31T23:59:59Z", "0000-00-00T00:00:00Z", "0001-01-01T00:00:00+24:00",
    "2015-07-01T20:10:51.99999999999999999999Z", "10000-01-01T00:00:00Z", "now", "253402300800",
    "-292273086-05-16T16:47:06Z", "292277025-08-18T07:12:54.999999999Z",
)  # fmt: skip
DURATIONS: Final = (
    "1ms", "0.0000001", "-5m", "10000y", "1y" * 50, "5m5m", "9" * 30 + "d", "106751d", "1h1", "ms",
)  # fmt: skip
TEXTS: Final = (
    "", "%", "a%00b", "%00", "%ff%fe", "%ed%a0%80", "%F4%90%80%80", "a" * 50_000, "%0A",
    "%E2%80%AE",
    "%22", "%5C", "%7B%7D", "%25s%25n", "..%2F..%2Fetc", "%3Cscript%3E", "'%20OR%201=1--", "$1",
)  # fmt: skip
"""Percent-encoded."""


def expressions(n: int) -> Mapping[str, str]:
    """Expressions by name; `n` says about how often each repeats what it repeats."""
    return {
        "matchers": "up{" + ",".join(f'a{n}="x"' for n in range(n)) + "}",
        "negated matchers": "up{" + ",".join(f'a{n}!="x"' for n in range(n)) + "}",
        "patterns": "up{" + ",".join(f'a{n}!~"x{n}.+"' for n in range(n // 10)) + "}",
        "patterns of one label": "up{" + ",".join(f'a!~"x{n}.+"' for n in range(n // 10)) + "}",
        "names": "{" + ",".join(f'__name__!="x{n}"' for n in range(n)) + ',a!=""}',
        "a long name": "a" * (10 * n),
        "a long label": 'up{a="' + "b" * (10 * n) + '"}',
        "groups": 'up{a=~"' + "(" * (2 * n) + "a" + ")" * (2 * n) + '"}',
        "captures": 'up{a=~"' + "(a)" * n + '"}',
        "repetitions": 'up{a=~"' + "x{1000}" * n + '"}',
        "optional parts": 'up{a=~"' + "x{0,100}" * (n // 2) + '"}',
        "properties": 'up{a=~"' + "\\\\pL" * n + '"}',
        "large pattern of label_replace": (
            'label_replace(up, "a", "$1", "job", "' + "(a)" * n + '")'
        ),
        "any byte": 'up{a=~"\\\\C"}',
        "a NUL": 'up{a="\\x00"} or up{a=~"\\x00.*"} or {"\\x00"="a"}',
        "a lone surrogate": 'up{a="\\xed\\xa0\\x80"} or up{a=~"\\xed\\xa0\\x80.*"}',
        "no UTF-8": 'up{"\\xff"="\\xff"} or label_replace(up, "\\xff", "$1", "job", "(.*)")',
        "a large offset": "up offset 290y",
        "a negative offset": "up offset -290y",
        "a large time": "up @ 9e15",
        "a small time": "rate(up[1h] @ -9e15 offset 200y)",
        "a large range": "rate(up[290y])",
        "a small step": "max_over_time(up[1y:1ms])",
        "nested subqueries": "max_over_time(" * (n // 2) + "up" + "[1h:1m])" * (n // 2),
        "many subqueries": "sum_over_time(up[1d:1s])" + "+sum_over_time(up[1d:1s])" * (n // 20),
        "a large number": "1e999 * up > 1e308 * 10",
        "a long number": "9" * (6 * n),
        "a large quantile": "quantile_over_time(1e308, up[5m]) + quantile(-1e308, up)",
        "a large k": "topk(1e300, up) or bottomk(-1e300, up) or limitk(9e18, up) or topk(NaN, up)",
        "a large ratio": "limit_ratio(1e300, up)",
        "a large exponent": "up ^ 1e308 ^ up",
        "a large date": "year(vector(1e300)) + days_in_month(vector(-1e300)) + minute(vector(NaN))",
        "a large precision": "round(up, 1e-323) + clamp(up, -1e308, 1e308) + round(up, 0)",
        "a large prediction": "predict_linear(up[5m], 1e300)",
        "a large factor": "double_exponential_smoothing(up[5m], 2, 9)",
        "buckets": 'histogram_quantile(1e300, label_replace(up, "le", "1e400", "", ""))',
        "parentheses": "(" * (10 * n) + "up" + ")" * (10 * n),
        "signs": "-" * (10 * n) + "up",
        "unions": "up" + " or up" * (10 * n),
        "deep calls": "abs(" * (2 * n) + "up" + ")" * (2 * n),
        "deep aggregations": "sum(" * n + "up" + ")" * n,
        "many labels": "sum by (" + ",".join(f"l{n}" for n in range(4 * n)) + ") (up)",
        "many arguments": 'label_join(up, "a", "-"' + ', "job"' * (4 * n) + ")",
        "a long join": 'label_join(up, "a", "' + "-" * (10 * n) + '"' + ', "job"' * (n // 2) + ")",
        "unclosed": "sum(rate(up[5m",
        "a comment": "up #" + "x" * (10 * n),
    }


@dataclass(frozen=True, slots=True)
class HostileRequest:
    """A request below `/api/v1`; `parameters` is a query string, or a form's body."""

    path: str
    parameters: str
    is_form: bool = False

    def __str__(self) -> str:
        return f"{'POST' if self.is_form else 'GET'} {self.path}?{self.parameters[:80]}"


def parameter_requests() -> Iterator[HostileRequest]:
    """Each parameter of each endpoint with each value; the others are valid."""
    for path, names in PARAMETERS.items():
        valid = {name: quote(VALID[name]) for name in names if name in VALID}
        if path == "explain":
            valid = {"query": "up"}
        for name in names:
            for value in (*map(quote, (*NUMBERS, *TIMES, *DURATIONS)), *TEXTS):
                parameters = {**valid, name: value}
                text = "&".join(f"{quote(key)}={given}" for key, given in parameters.items())
                # A request line of 50,000 characters is refused before it is read.
                is_form = path in WITH_FORMS and len(value) > 5_000
                if len(value) <= 5_000 or is_form:
                    yield HostileRequest(path, text, is_form)


def expression_requests(n: int) -> Iterator[tuple[str, HostileRequest]]:
    """Each expression at each endpoint that takes expressions or selectors, by name."""
    for name, expression in expressions(n).items():
        for path in sorted(WITH_FORMS):
            parameter = "query" if "query" in PARAMETERS[path] else "match[]"
            parameters = {parameter: expression}
            if path == "query_range":
                parameters |= {"start": "1699999000", "end": "1700000000", "step": "100"}
            text = "&".join(f"{quote(key)}={quote(value)}" for key, value in parameters.items())
            yield f"{name} at {path}", HostileRequest(path, text, is_form=True)


def repeated_requests() -> Iterator[HostileRequest]:
    """Many parameters of a name."""
    for path in ("series", "labels", "label/job/values"):
        yield HostileRequest(path, "&".join(["match[]=up"] * 10_000), is_form=True)
        distinct = "&".join(f"match[]=up%7Ba=%22{n}%22%7D" for n in range(2_000))
        yield HostileRequest(path, distinct, is_form=True)
        yield HostileRequest(path, "&".join(["match[]=up"] * 20_000), is_form=True)
    yield HostileRequest("query", "&".join(["query=up"] * 10_000), is_form=True)
    yield HostileRequest("rules", "&".join(["match[]=up"] * 900))
    yield HostileRequest("rules", "&".join(["rule_name[]=a"] * 900))
