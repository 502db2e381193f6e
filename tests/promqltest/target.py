"""What a test script runs against: anything that stores samples and answers PromQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from promcompat.core.model import EvalRange, Labels
from tests.promqltest.answer import Answer
from tests.support.factories import MixedPoints, Starts


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with its annotations, or the text of an error."""

    answer: Answer | None
    error: str = ""
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()


class Target(Protocol):
    """One empty store, at first."""

    async def load(self, series: Mapping[Labels, MixedPoints], starts: Starts) -> None:
        """Store samples; they can be queried when this returns.

        `starts` are when the counters of some of them began.
        """

    async def query(self, expr: str, time_ms: int) -> Reply:
        """Ask an instant query."""

    async def query_range(self, expr: str, grid: EvalRange) -> Reply:
        """Ask a range query."""
