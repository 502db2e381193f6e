"""Which rollups can stand for the samples of a selection: pure, without looking at the data."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from promcompat.core.model import SeriesSelection
from promcompat.core.value_classes import value_class
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
_BUCKETS_OF_WINDOW: Final = 4


class Stand(Enum):
    """What stands for the samples of a bucket."""

    ENDS = "its first and last sample"
    RESETS = "its ends, and the samples around its resets"
    MINIMUM = "its minimum"
    MAXIMUM = "its maximum"
    COUNT = "its number of samples"
    SUM = "its sum"
    MEAN = "its sum, where it is not rounded"
    SOME = "its first and last sample, and those around its resets"


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
    """The rollups that a selection reads, and the windows they are for.

    `is_coarse`: windows are not made of whole buckets, or the function looks at every sample.
    """

    level: Level
    stand: Stand
    grid: WindowGrid
    is_coarse: bool = False


@value_class(frozen=True, slots=True)
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


def judge_coarse_rollups(selection: SeriesSelection) -> RollupVerdict:
    """Which rollups answer a selection roughly, where `judge_rollups` has none.

    A bucket counts where its last millisecond is; of functions that look at every sample, the
    samples at the ends of buckets count. A window has at least four buckets, of 5 minutes one.
    """
    grid = WindowGrid.of(selection)
    if grid is None:
        return RollupVerdict(None, "its evaluation times are not known")
    if grid.reach_ms < LEVELS[0].width_ms:
        return RollupVerdict(None, f"its windows are shorter than {LEVELS[0].name}")
    function = selection.hints.function if selection.hints.range_ms else "last_over_time"
    stand = _STAND_OF.get(function, Stand.SOME)
    fitting = [one for one in LEVELS[1:] if _BUCKETS_OF_WINDOW * one.width_ms <= grid.reach_ms]
    level = max([LEVELS[0], *fitting], key=lambda one: one.bucket_seconds)
    use = RollupUse(level, stand, grid, is_coarse=True)
    return RollupVerdict(use, f"buckets of {level.name} are each read as {stand.value}")


def coarse_note(use: RollupUse) -> str:
    """The note of an answer that is approximate."""
    return (
        "samples are no longer kept for all of this time; the answer there is a coarse one, "
        f"of buckets of {use.level.name}, each read as {use.stand.value}"
    )


def inexact_note(use: RollupUse) -> str:
    """The note of an answer for which rollups are not exact."""
    return (
        "samples are no longer kept for all of this time; the answer there is a coarse one for "
        f"some series, of buckets of {use.level.name} that are not exact for them"
    )


def unanswered_note(reason: str) -> str:
    """The note of an answer without the days whose samples are gone."""
    return (
        "samples are no longer kept for all of this time, and rollups do not answer there: "
        + reason
    )


def _fits(grid: WindowGrid, level: Level) -> bool:
    width_ms = level.width_ms
    if grid.first_ms % width_ms not in (0, width_ms - 1) or grid.reach_ms % width_ms:
        return False
    return grid.n_steps == 1 or grid.step_ms % width_ms == 0
