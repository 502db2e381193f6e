"""Which metric and label names are accepted: those that PromQL can express.

Prometheus 3 accepts any UTF-8 name in quotes. Refused are the empty name, reserved names, and texts
that PostgreSQL cannot store (U+0000, lone surrogates).
"""

from promcompat.core.model import METRIC_NAME
from promcompat.core.texts.storable_text import text_fault

MAX_NAME_BYTES = 2000
"""Metric names are indexed, and a B-tree entry of PostgreSQL holds at most 2,704 bytes."""
METRIC_NAME_TEXT = f"a name of 1 to {MAX_NAME_BYTES} bytes of UTF-8"
LABEL_NAME_TEXT = "a non-empty UTF-8 name other than __name__"


def metric_name_fault(name: str) -> str | None:
    """Why this cannot be a metric name; None if it can."""
    if not name:
        return "is empty, so PromQL could not select the metric"
    if found := text_fault(name):
        return found
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return None


def label_name_fault(name: str) -> str | None:
    """Why this cannot be a label name; None if it can."""
    if name == METRIC_NAME:
        return "is reserved for the metric name; use `name`"
    if not name:
        return "is empty, so PromQL could not match the label"
    return text_fault(name)
