"""Which rollups can stand for the samples of a selection: pure, without looking at the data."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from promcompat.core.model import SeriesSelection
from sql.pushdown.window_grid import WindowGrid
from sql.samples.rollups.rollup_pages import LEVELS, Level

_NEWEST: Final = frozenset(
    {
        "absent_over_time",
        "delta",
        "last_over_time",
        "present_over_time",
        "ts_of_last_over_time",
    }
)


class Stand(Enum):
    """What stands for the samples of a bucket."""

    ENDS = "its first and last sample"
    RESETS = "its ends, and the samples around its resets"
    MINIMUM = "its minimum"
    MAXIMUM = "its maximum"
    COUNT = "its number of samples"
    SUM = "its sum"
    MEAN = "its sum, where it is not rounded"


_STAND_OF: Final = {
    **dict.fromkeys(_NEWEST, Stand.ENDS),
    **dict.fromkeys(("increase", "rate", "resets"), Stand.RESETS),
    "avg_over_time": Stand.MEAN,
    "count_over_time": Stand.COUNT,
    "max_over_time": Stand.MAXIMUM,
    "min_over_time": Stand.MINIMUM,
    "sum_over_time": Stand.SUM,
}
"""What the functions of windows need. Others look at every sample."""


@dataclass(frozen=True, slots=True)
class RollupUse:
    """The rollups that a selection reads, and the windows they are for."""

    level: Level
    stand: Stand
    grid: WindowGrid


@dataclass(frozen=True, slots=True)
class RollupVerdict:
    """The rollups that are exact for a selection, or None; and the reason."""

    use: RollupUse | None
    reason: str


def judge_rollups(selection: SeriesSelection) -> RollupVerdict:
    """Whether the windows of a selection consist of whole buckets, and of which at most.

    Windows may be left-open and end exactly at the end of a bucket, or a millisecond before it as
    those of the native API. A step of an instant selector is a window as long as the lookback, of
    which the newest sample counts.
    """
    hints = selection.hints
    grid = WindowGrid.of(selection)
    if grid is None:
        return RollupVerdict(None, "its evaluation times are not known")
    stand = _STAND_OF.get(hints.function) if hints.range_ms else Stand.ENDS
    if stand is None:
        looks = f"{hints.function}() looks" if hints.function else "the query may look"
        return RollupVerdict(None, f"{looks} at every sample")
    fitting = [level for level in LEVELS if _fits(grid, level)]
    if not fitting:
        width = LEVELS[0].name
        return RollupVerdict(None, f"its windows or steps are not made of buckets of {width}")
    level = max(fitting, key=lambda level: level.bucket_seconds)
    reason = f"windows are made of buckets of {level.name}, each read as {stand.value}"
    return RollupVerdict(RollupUse(level, stand, grid), reason)


def _fits(grid: WindowGrid, level: Level) -> bool:
    width_ms = level.width_ms
    if grid.first_ms % width_ms not in (0, width_ms - 1) or grid.reach_ms % width_ms:
        return False
    return grid.n_steps == 1 or grid.step_ms % width_ms == 0
