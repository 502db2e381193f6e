"""How long the stages of a query took."""

import time


class StageTimings:
    """The seconds of each stage that has ended."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, stage: str) -> "_Timed":
        """Adds the time a block takes to a stage."""
        return _Timed(self, stage)

    def add(self, stage: str, seconds: float) -> None:
        """Add to the time of a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


class _Timed:
    """Adds the time of a `with` block to a stage.

    Each query has five of these, and a generator would take four times as long.
    """

    __slots__ = ("_stage", "_started", "_timings")

    def __init__(self, timings: StageTimings, stage: str) -> None:
        self._timings = timings
        self._stage = stage

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timings.add(self._stage, time.perf_counter() - self._started)
