"""Exemplars: single observations of a series, with labels that lead to a trace."""

from dataclasses import dataclass
from typing import Final

from promcompat.core.model import Labels

MAX_EXEMPLAR_CHARACTERS: Final = 128
"""Of all names and values of an exemplar's labels together, as in OpenMetrics."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """An observation; `timestamp_ms` is Unix milliseconds."""

    labels: Labels
    value: float
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class SeriesExemplar:
    """An exemplar and the labels of its series."""

    series: Labels
    exemplar: Exemplar
