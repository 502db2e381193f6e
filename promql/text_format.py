"""Label sets as Go prints them, for error texts."""

import re

from promcompat.core.model import Labels
from promcompat.core.strconv import quote

_LEGACY_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


def format_labels(labels: Labels) -> str:
    """`{a="x", b="y"}`, the metric name as `__name__`; other names than the classic are quoted."""
    pairs = (f"{_format_name(name)}={quote(value)}" for name, value in labels)
    return "{" + ", ".join(pairs) + "}"


def _format_name(name: str) -> str:
    return name if _LEGACY_NAME.match(name) else quote(name)
