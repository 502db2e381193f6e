"""Chooses the exact rule that takes the least time, by estimated rows and probes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from promcompat.core.model import SeriesSelection
from sql.pushdown.rules import Partial, Thinning, Verdict, judge

_RAW_ROW_US: Final = 0.7
_WINDOW_ROW_US: Final = 0.8
_WINDOW_PROBE_US: Final = 3.5
_WINDOW_SCAN_US: Final = 300.0
_AGGREGATED_ROW_US: Final = 0.3
_GROUP_US: Final = 5.0
_NUMBERED_ROW_US: Final = 0.8
_SEGMENT_US: Final = 0.6
_STATEMENT_US: Final = 2_000.0
IN_HEAD: Final = (
    "samples of the time range are in the head, or no longer kept, so all samples are read"
)
_IN_PART: Final = "; the time from the first sample of the head on is read whole"
_WORTH_IT: Final = 0.8
"""A rule must save a fifth of the time, as estimates are no more accurate than that."""
SMALL_ROWS: Final = 5_000
"""Reading so many rows takes as long as estimating and probing."""


class PushdownMode(Enum):
    """When rules apply: never, where they are cheaper, or (for tests) wherever they are exact."""

    OFF = "off"
    AUTO = "auto"
    FORCED = "forced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is known of a selection before it is read.

    `rows` is how many samples lie in its range. `probe_us` is what the database takes to find the
    newest sample of one series and segment: 3 µs with plain partitions, 8 with TimescaleDB, whose
    chunk scans start more slowly (measured, 240,000 probes; reading takes 0.7 µs a row).
    `rows_allowed` is how many samples a query may read (0: no bound). `are_whole`: those samples
    that were looked at are whole numbers. `has_histograms`: some of them are histograms.
    """

    n_series: int
    rows: float
    probe_us: float
    rows_allowed: int = 0
    are_whole: bool = True
    has_histograms: bool = False

    @property
    def is_too_much(self) -> bool:
        """Whether a query that reads all samples is refused."""
        return 0 < self.rows_allowed < self.rows


@dataclass(frozen=True, slots=True)
class RuleDecision:
    """Whether a rule applies, and why, for people to read."""

    rule: str
    applies: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The thinning to read (None: every sample), and the decision on each rule."""

    thinning: Thinning | None
    decisions: tuple[RuleDecision, ...]


def estimated_rows(thinning: Thinning, selection: SeriesSelection, estimate: Estimate) -> float:
    """How many rows a thinning fetches, with samples spread evenly over the range."""
    segments = thinning.segments
    share = segments.length_ms / max(selection.end_ms - selection.start_ms, 1)
    rows = estimate.rows * min(share, 1.0)
    per_segment = thinning.newest
    if thinning.partial is not None:
        per_segment = 1 if thinning.partial.is_aggregate else 2
    if not per_segment:
        return rows
    return min(rows, float(estimate.n_series * len(segments) * per_segment))


def cost_us(thinning: Thinning | None, selection: SeriesSelection, estimate: Estimate) -> float:
    """How long reading takes, µs; None reads every sample."""
    if thinning is None:
        return estimate.rows * _RAW_ROW_US
    rows = estimated_rows(thinning, selection, estimate)
    if thinning.partial is not None:
        return _STATEMENT_US + _partial_us(thinning, rows, estimate)
    probes = estimate.n_series * len(thinning.segments)
    if thinning.newest:
        return _STATEMENT_US + probes * estimate.probe_us + rows * _RAW_ROW_US
    scans = len(thinning.segments) * _WINDOW_SCAN_US
    return _STATEMENT_US + scans + probes * _WINDOW_PROBE_US + rows * _WINDOW_ROW_US


def _partial_us(thinning: Thinning, rows: float, estimate: Estimate) -> float:
    assert thinning.partial is not None
    if thinning.partial.is_aggregate:
        return estimate.rows * _AGGREGATED_ROW_US + rows * (_GROUP_US + _RAW_ROW_US)
    row_us = _NUMBERED_ROW_US + (_SEGMENT_US if len(thinning.segments) > 1 else 0.0)
    return estimate.rows * row_us + rows * _RAW_ROW_US


def needs_estimate(verdicts: Sequence[Verdict], mode: PushdownMode) -> bool:
    """Whether a choice depends on how many samples there are."""
    if mode is not PushdownMode.AUTO:
        return False
    legal = [verdict.thinning for verdict in verdicts if verdict.thinning is not None]
    return bool(legal) and legal[0].rule != "last_sample"


def choose(
    selection: SeriesSelection, mode: PushdownMode, estimate: Estimate | None = None
) -> Choice:
    """Choose among the rules; without an estimate only by exactness."""
    verdicts = judge(selection)
    if mode is PushdownMode.OFF:
        reason = "pushdown is turned off"
        return Choice(None, tuple(RuleDecision(v.rule, False, reason) for v in verdicts))
    legal = [verdict.thinning for verdict in verdicts if verdict.thinning is not None]
    if not legal:
        return Choice(None, tuple(RuleDecision(v.rule, False, v.reason) for v in verdicts))
    best = legal[0]
    if mode is PushdownMode.AUTO and best.rule != "last_sample":
        if estimate is None:
            return _none_chosen(verdicts, "there are few enough samples to read them all")
        best = min(legal, key=lambda thinning: cost_us(thinning, selection, estimate))
        why_not = _why_not(best, selection, estimate)
        if why_not:
            return _none_chosen(verdicts, why_not)
    return Choice(best, tuple(_decision(v, best, selection, estimate) for v in verdicts))


def choose_until(choice: Choice, selection: SeriesSelection, end_ms: int) -> Choice:
    """The same choice for the segments that end at `end_ms` or before.

    What comes after them is to be read whole, as other samples are added to it. The samples of
    windows that reach over it are then thinned in part, which is as exact: windows consist of whole
    segments, and what is thinned comes first.
    """
    thinning = choice.thinning
    if thinning is None:
        return choice
    segments = thinning.segments.until(end_ms)
    if not len(segments):
        return choose_none(selection, IN_HEAD)
    if len(segments) == len(thinning.segments):
        return choice
    decisions = tuple(
        replace(decision, reason=decision.reason + _IN_PART) if decision.applies else decision
        for decision in choice.decisions
    )
    return Choice(replace(thinning, segments=segments), decisions)


def choose_none(selection: SeriesSelection, reason: str) -> Choice:
    """Every sample, as there is a reason to read them all."""
    return _none_chosen(judge(selection), reason)


def _why_not(best: Thinning, selection: SeriesSelection, estimate: Estimate) -> str:
    """Why even the best rule is not worth it; empty when it is."""
    if best.partial is not None and estimate.has_histograms:
        return "not of these samples, because some are histograms"
    if best.partial is Partial.SUM and not estimate.are_whole:
        return "not of these samples, whose sums are rounded"
    if estimate.is_too_much:
        return ""
    if cost_us(best, selection, estimate) > _WORTH_IT * cost_us(None, selection, estimate):
        return _comparison(best, selection, estimate)
    return ""


def _none_chosen(verdicts: Sequence[Verdict], reason: str) -> Choice:
    return Choice(
        None,
        tuple(
            RuleDecision(v.rule, False, v.reason if v.thinning is None else f"exact, but {reason}")
            for v in verdicts
        ),
    )


def _decision(
    verdict: Verdict, best: Thinning, selection: SeriesSelection, estimate: Estimate | None
) -> RuleDecision:
    if verdict.thinning is None:
        return RuleDecision(verdict.rule, False, verdict.reason)
    applies = verdict.rule == best.rule
    compared = "" if estimate is None else f"; {_comparison(verdict.thinning, selection, estimate)}"
    reason = verdict.reason if applies else f"exact, but {best.rule} is faster"
    return RuleDecision(verdict.rule, applies, reason + compared)


def _comparison(thinning: Thinning, selection: SeriesSelection, estimate: Estimate) -> str:
    rows = estimated_rows(thinning, selection, estimate)
    with_rule = cost_us(thinning, selection, estimate) / 1000
    without = cost_us(None, selection, estimate) / 1000
    return (
        f"{rows:,.0f} of {estimate.rows:,.0f} rows in about {with_rule:,.0f} ms "
        f"instead of {without:,.0f} ms"
    )
