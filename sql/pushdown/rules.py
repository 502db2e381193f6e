"""Rules for samples that need not be fetched: the remaining samples give the same answer.

A rule decides whether it is exact for a selection, and which thinning it makes;
`sql.pushdown.rule_choice` compares the costs. Most rules leave samples out and compute nothing, so
that rounding cannot differ; `partials_of_window` has the database compute only exact results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from promcompat.core.model import SeriesSelection
from sql.pushdown.window_grid import TimeSegments, WindowGrid
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS

_LAST_OF_WINDOW: Final = frozenset(
    {"absent_over_time", "last_over_time", "present_over_time", "ts_of_last_over_time"}
)
"""Functions that depend only on the newest sample of a window, or on its existence."""
_LAST_TWO_OF_WINDOW: Final = frozenset({"irate", "idelta"})


class Partial(Enum):
    """What is fetched of a segment instead of its samples.

    Of `COUNT`, `MINIMUM`, `MAXIMUM` and `SUM` one sample that stands for all of them, with that
    value. Of `ENDS` the first and the last sample, of `ENDS_AND_RESETS` also the two around each
    reset of the counter; these stand for the samples before them as well.
    """

    COUNT = "count"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    SUM = "sum"
    ENDS = "ends"
    ENDS_AND_RESETS = "ends and resets"

    @property
    def is_aggregate(self) -> bool:
        """Whether a segment is reduced to one sample."""
        return self not in (Partial.ENDS, Partial.ENDS_AND_RESETS)


_PARTIAL_OF: Final = {
    "avg_over_time": Partial.SUM,
    "count_over_time": Partial.COUNT,
    "delta": Partial.ENDS,
    "increase": Partial.ENDS_AND_RESETS,
    "max_over_time": Partial.MAXIMUM,
    "min_over_time": Partial.MINIMUM,
    "rate": Partial.ENDS_AND_RESETS,
    "resets": Partial.ENDS_AND_RESETS,
    "sum_over_time": Partial.SUM,
}
_ROUNDED: Final = frozenset({"stddev_over_time", "stdvar_over_time"})
"""Each sample rounds a running mean, so partial results cannot be combined to the same bits."""
MAX_SEGMENTS: Final = 50_000
"""The most segments in a statement; a subquery of a million steps is read whole."""


@dataclass(frozen=True, slots=True)
class Thinning:
    """Which samples of each series to fetch: `newest` of every segment (0: all of them).

    With `skips_stale_markers` stale markers are left out before the newest samples are chosen.
    `partial` is what is fetched of each segment instead of its samples; the segments are adjacent
    then.
    """

    rule: str
    segments: TimeSegments
    newest: int = 0
    skips_stale_markers: bool = False
    partial: Partial | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a rule for a selection: an exact thinning, or None, and the reason."""

    rule: str
    thinning: Thinning | None
    reason: str


def last_sample(selection: SeriesSelection, grid: WindowGrid) -> Verdict:
    """`up` at one instant, as in alert rules. Before: the lookback. After: one sample a series.

    Exact with stale markers too: a series whose newest sample is one has no value there.
    """
    if selection.hints.range_ms or grid.n_steps > 1:
        return Verdict("last_sample", None, "not an instant selector at a single step")
    thinning = Thinning("last_sample", grid.instants(), newest=1)
    return Verdict("last_sample", thinning, "one step sees one sample of each series")


def last_sample_per_step(selection: SeriesSelection, grid: WindowGrid) -> Verdict:
    """`up` at many steps. Before: every sample. After: the newest of each step.

    A step sees the newest sample of its lookback. If that is older than the previous step, it was
    the newest there as well, so it is among the samples kept.
    """
    name = "last_sample_per_step"
    if selection.hints.range_ms:
        return Verdict(name, None, "a range selector sees more than the newest sample")
    if grid.n_steps == 1:
        return Verdict(name, None, "there is a single step")
    thinning = Thinning(name, grid.instants(), newest=1)
    return Verdict(name, thinning, "each step only sees the newest sample")


def newest_of_window(selection: SeriesSelection, grid: WindowGrid) -> Verdict:
    """`last_over_time(up[1h])`, `irate(up[5m])`. After: one or two samples between window edges.

    The newest two of a window are the newest two of its last segments that have any.
    """
    function = selection.hints.function
    name = "newest_of_window"
    if not selection.hints.range_ms:
        return Verdict(name, None, "not a range selector")
    if function in _LAST_OF_WINDOW:
        newest = 1
    elif function in _LAST_TWO_OF_WINDOW:
        newest = 2
    else:
        why = (
            f"{function}() looks at every sample"
            if function
            else "it is not known how the samples are used"
        )
        return Verdict(name, None, why)
    thinning = Thinning(name, grid.between_edges(), newest, skips_stale_markers=True)
    return Verdict(name, thinning, f"{function}() only uses the newest {newest} of a window")


def window_gaps(selection: SeriesSelection, grid: WindowGrid) -> Verdict:
    """`rate(up[5m])` at steps of an hour. Before: every sample. After: those within windows."""
    if not grid.has_gaps:
        return Verdict("window_gaps", None, "there are no gaps between the windows")
    thinning = Thinning("window_gaps", grid.windows())
    return Verdict("window_gaps", thinning, "no window covers the gaps between the windows")


def partials_of_window(selection: SeriesSelection, grid: WindowGrid) -> Verdict:
    """`max_over_time(x[1d])`, `increase(x[30d])`. After: one to a few samples between window edges.

    A window consists of whole segments. Its maximum is the largest of their maxima, sums of whole
    numbers below 2^53 are exact in any order (series with other values are read whole), and a rate
    depends on the ends of a window, the resets in it and the number of its samples.
    """
    name = "partials_of_window"
    function = selection.hints.function
    if not selection.hints.range_ms:
        return Verdict(name, None, "not a range selector")
    if function in _ROUNDED:
        return Verdict(name, None, f"{function}() rounds at each sample, so their order matters")
    kind = _PARTIAL_OF.get(function)
    if kind is None:
        why = (
            f"{function}() cannot be computed from partial results"
            if function
            else "it is not known how the samples are used"
        )
        return Verdict(name, None, why)
    if grid.has_gaps:
        return Verdict(name, None, "the windows do not meet")
    thinning = Thinning(name, grid.between_edges(), skips_stale_markers=True, partial=kind)
    return Verdict(
        name, thinning, f"{function}() can be computed from the {kind.value} of each segment"
    )


Rule = Callable[[SeriesSelection, WindowGrid], Verdict]

RULES: Final[tuple[Rule, ...]] = (
    last_sample,
    last_sample_per_step,
    newest_of_window,
    partials_of_window,
    window_gaps,
)


def judge(selection: SeriesSelection) -> list[Verdict]:
    """The verdict of every rule on a selection, regardless of costs."""
    grid = WindowGrid.of(selection)
    if grid is None:
        reason = "its evaluation times are not known"
    elif grid.n_steps > MAX_SEGMENTS:
        reason = f"more than {MAX_SEGMENTS:,} steps"
    elif selection.start_ms < MIN_TIMESTAMP_MS or selection.end_ms >= MAX_TIMESTAMP_MS:
        reason = "it reaches beyond the time range of the database"
    else:
        return [rule(selection, grid) for rule in RULES]
    return [Verdict(rule.__name__, None, reason) for rule in RULES]
