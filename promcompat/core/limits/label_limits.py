"""How large a series may be, through every API. Names and defaults are those of Mimir."""

from dataclasses import dataclass
from itertools import chain
from typing import Final

from promcompat.core.model import METRIC_NAME, Labels

MAX_METRIC_NAME_BYTES: Final = 2000
"""Metric names are indexed, and a B-tree entry of PostgreSQL holds at most 2,704 bytes."""
MAX_SERIES_BYTES: Final = 512 << 10
"""The limit of all names and values of a series together, independent of the settings."""
_SHOWN_CHARACTERS: Final = 200
_INFO_SUFFIX: Final = "_info"


class LabelFault(str):
    """Why a label set is too large, and the name of the limit that says so."""

    __slots__ = ("limit",)
    limit: str

    @classmethod
    def of(cls, limit: str, text: str) -> "LabelFault":
        """A fault with this text."""
        fault = cls(text)
        fault.limit = limit
        return fault


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLimits:
    """The metric name counts as a label; `max_metadata_bytes` limits family name, unit and help."""

    max_names: int = 30
    max_names_of_info: int = 80
    max_name_bytes: int = 1024
    max_value_bytes: int = 2048
    max_metadata_bytes: int = 1024

    def fault_of(self, labels: Labels) -> LabelFault | None:
        """Why a label set is too large for a series; None if it is not."""
        metric = labels.get(METRIC_NAME)
        max_names = self.max_names_of(metric)
        if len(labels) > max_names:
            return LabelFault.of(
                self.name_of_max_names(metric),
                f"the series has {len(labels)} labels, more than the limit of {max_names}"
                f"{_series_text(labels)}",
            )
        if self._are_short(labels):
            return None
        n_bytes = 0
        for name, value in labels:
            if fault := self.label_fault(name, value):
                return LabelFault.of(fault.limit, f"{fault}{_series_text(labels)}")
            n_bytes += 4 * (len(name) + len(value))
        if n_bytes > MAX_SERIES_BYTES and _exact_bytes(labels) > MAX_SERIES_BYTES:
            text = f"the labels are longer than {MAX_SERIES_BYTES} bytes{_series_text(labels)}"
            return LabelFault.of("max_label_value_length", text)
        return None

    def _are_short(self, labels: Labels) -> bool:
        """Whether all texts are far below the limits, which nearly all are; in a fifth of the time.

        A character has at most four bytes.
        """
        longest = max(map(len, chain.from_iterable(labels.pairs)), default=0)
        limit = min(self.max_name_bytes, self.max_value_bytes, MAX_METRIC_NAME_BYTES)
        return 4 * longest <= limit and 8 * longest * len(labels) <= MAX_SERIES_BYTES

    def max_names_of(self, metric_name: str) -> int:
        """How many labels a series of a metric may have."""
        return self.max_names_of_info if metric_name.endswith(_INFO_SUFFIX) else self.max_names

    def name_of_max_names(self, metric_name: str) -> str:
        """The name of the limit whose value is `max_names_of`."""
        is_info = metric_name.endswith(_INFO_SUFFIX)
        return "max_label_names_per_info_series" if is_info else "max_label_names_per_series"

    def label_fault(self, name: str, value: str) -> LabelFault | None:
        """Why a label is too long; None if it is not."""
        if _is_longer(name, self.max_name_bytes):
            limit = self.max_name_bytes
            text = f"label name {_quoted(name)} is longer than the limit of {limit} bytes"
            return LabelFault.of("max_label_name_length", text)
        limit = self.max_value_bytes
        if name == METRIC_NAME:
            limit = min(limit, MAX_METRIC_NAME_BYTES)
        if _is_longer(value, limit):
            what = "metric name" if name == METRIC_NAME else f"value of label {_quoted(name)}"
            text = f"{what} is too long: {len(value.encode(errors='replace'))} bytes; the limit is "
            return LabelFault.of("max_label_value_length", f"{text}{limit}")
        return None

    @property
    def label_text(self) -> str:
        """The limits of a label, for errors."""
        return (
            f"a name of at most {self.max_name_bytes} bytes, "
            f"a value of at most {self.max_value_bytes} bytes"
        )

    @property
    def max_key_bytes(self) -> int:
        """The most wire bytes of a series within the limits; longer keys need no decoding."""
        # A label has three tags and three lengths of up to 5 bytes.
        per_label = self.max_name_bytes + self.max_value_bytes + 18
        return max(self.max_names, self.max_names_of_info) * per_label


def _is_longer(text: str, max_bytes: int) -> bool:
    if 4 * len(text) <= max_bytes:
        return False
    return len(text) > max_bytes or len(text.encode(errors="replace")) > max_bytes


def _exact_bytes(labels: Labels) -> int:
    return sum(len((name + value).encode(errors="replace")) for name, value in labels)


def _series_text(labels: Labels) -> str:
    shown = ", ".join(
        f"{name[:_SHOWN_CHARACTERS]}={_quoted(value)}" for name, value in labels.pairs[:5]
    )
    return f" (series {{{shown}{', …' if len(labels) > 5 else ''}}})"


def _quoted(text: str) -> str:
    cut = text[:_SHOWN_CHARACTERS]
    return f'"{cut}…"' if len(cut) < len(text) else f'"{cut}"'
