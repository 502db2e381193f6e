"""Label sets as Go prints them, for error texts, and numbers for `count_values`."""

import math
import re
from decimal import Decimal

from promcompat.core.model import Labels
from promql.numbers.go_floats import format_g
from promql.parsing.literals import quote

_LEGACY_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


def format_fixed(value: float) -> str:
    """Without an exponent and no longer than needed: `strconv.FormatFloat(v, 'f', -1, 64)`."""
    if not math.isfinite(value):
        return format_g(value)
    return f"{Decimal(repr(value)):f}".removesuffix(".0")


def format_labels(labels: Labels) -> str:
    """`{a="x", b="y"}`, the metric name as `__name__`; other names than the classic are quoted."""
    pairs = (f"{_format_name(name)}={quote(value)}" for name, value in labels)
    return "{" + ", ".join(pairs) + "}"


def _format_name(name: str) -> str:
    return name if _LEGACY_NAME.match(name) else quote(name)
