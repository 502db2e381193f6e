"""The questions asked of the synthetic data: `queries.txt`, expanded with what it names."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

VARIANTS = {
    "aggregation": ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"],
    "arithmetic": ["+", "-", "*", "/", "%", "^", "atan2"],
    "comparison": ["==", "!=", "<", ">", "<=", ">="],
    "counter": ["demo_cpu_seconds_total", "demo_requests_total"],
    "counter_function": ["rate", "increase", "irate", "resets", "changes"],
    "date_function": (
        [
            "minute",
            "hour",
            "day_of_week",
            "day_of_month",
            "day_of_year",
            "days_in_month",
            "month",
            "year",
        ]
    ),
    "gauge": ["demo_memory_bytes", "demo_temperature_celsius", "demo_replicas", "irregular"],
    "gauge_function": ["delta", "deriv", "idelta", "changes", "resets"],
    "math_function": [
        "abs",
        "ceil",
        "floor",
        "exp",
        "sqrt",
        "ln",
        "log2",
        "log10",
        "sgn",
        "round",
        "sin",
        "cos",
        "tan",
        "asinh",
        "atan",
        "tanh",
        "deg",
        "rad",
    ],
    "offset": ["30s", "10m", "-3m", "1h"],
    "over_time": [
        "avg",
        "min",
        "max",
        "sum",
        "count",
        "last",
        "present",
        "stddev",
        "stdvar",
        "first",
        "mad",
        "ts_of_max",
        "ts_of_min",
    ],
    "phi": ["0", "0.25", "0.5", "0.99", "1", "1.5", "-1", "NaN"],
    "range": ["20s", "1m", "5m", "17m", "2h"],
    "set_operator": ["and", "or", "unless"],
}


_HOLE = re.compile(r"\{(\w+)\}")


def expressions() -> list[str]:
    """Every expression of every template."""
    templates = Path(__file__).with_suffix(".txt").read_text("utf-8")
    lines = [line for line in templates.splitlines() if line]
    return list(dict.fromkeys(expr for line in lines for expr in _expand(line)))


def _expand(template: str) -> Iterator[str]:
    names = [name for name in dict.fromkeys(_HOLE.findall(template)) if name in VARIANTS]
    for values in itertools.product(*(VARIANTS[name] for name in names)):
        expr = template
        for name, value in zip(names, values, strict=True):
            expr = expr.replace(f"{{{name}}}", value)
        yield expr
