"""Rollups that queries asked for lately, in the memory of the process.

They are used for as long as the rollups of their tenant have the same version, which each question
about rollups asks anyway. So drains do not empty it, as they do what is known of drained samples.
Which days are rolled up, what has changed since, and what is kept, is asked or computed each time.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from sql.samples.reading.rollups.choice import RollupUse, Stand
from sql.samples.reading.rollups.days import RollupQuestion
from sql.samples.reading.rollups.rolled_samples import Rolled

_ANSWER_BYTES: Final = 2_048
"""What the objects of an answer take besides their arrays."""
_SAME: Final = {Stand.RESETS: Stand.ENDS, Stand.MEAN: Stand.SUM}
"""What is read in the same way as something else."""


@dataclass(frozen=True, slots=True)
class RollupVersion:
    """As long as it stays the same, so do the rollups of a tenant."""

    epoch: str
    number: int


@dataclass(frozen=True, slots=True)
class RollupKey:
    """A question apart from its times; `windows` are the gaps between windows, if there are."""

    tenant_id: int
    wanted: bytes
    bucket_seconds: int
    stand: Stand
    windows: tuple[int, int, int] | None

    @classmethod
    def of(cls, question: RollupQuestion, use: RollupUse) -> "RollupKey":
        """The key of a question and its use."""
        grid, windows = use.grid, None
        if grid.has_gaps:
            windows = grid.first_ms % grid.step_ms, grid.step_ms, grid.reach_ms
        stand = _SAME.get(use.stand, use.stand)
        wanted = question.wanted.tobytes()
        return cls(question.tenant_id, wanted, use.level.bucket_seconds, stand, windows)


@dataclass(frozen=True, slots=True)
class KnownRollups:
    """The rollups of periods, both inclusive, in a version."""

    version: RollupVersion
    periods: tuple[int, int]
    rolled: Rolled


class RollupCache:
    """Keeps the answers that were used last, of at most `max_bytes` together (0: none)."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._known: OrderedDict[RollupKey, KnownRollups] = OrderedDict()

    @property
    def n_bytes(self) -> int:
        """What the answers take in memory, roughly."""
        return self._n_bytes

    def find(self, key: RollupKey, periods: tuple[int, int]) -> KnownRollups | None:
        """What is known of a question, in some version."""
        known = self._known.get(key)
        if known is None or known.periods[0] > periods[0] or known.periods[1] < periods[1]:
            return None
        self._known.move_to_end(key)
        return known

    def add(self, key: RollupKey, known: KnownRollups) -> None:
        """Keep an answer in place of an earlier one, if there is room. Nobody may change it."""
        replaced = self._known.pop(key, None)
        if replaced is not None:
            self._n_bytes -= _bytes_of(key, replaced)
        n_bytes = _bytes_of(key, known)
        if n_bytes > self._max_bytes:
            return
        self._known[key] = known
        self._n_bytes += n_bytes
        while self._n_bytes > self._max_bytes:
            self._n_bytes -= _bytes_of(*self._known.popitem(last=False))


def _bytes_of(key: RollupKey, known: KnownRollups) -> int:
    return _ANSWER_BYTES + len(key.wanted) + known.rolled.n_bytes
