"""Which hours maintenance of the store `rows` computes when some of them fail."""

from collections.abc import Sequence
from typing import Any, cast

from promcompat.core.errors import QueryTimeoutError
from promcompat.core.maintenance import MaintenanceTask, StepNotes
from sql.samples.stores.row_chunks import RowChunks, SampleChunk, StaleHours
from sql.samples.stores.row_steps import HourStep

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 20_000 * DAY_MS + 12 * HOUR_MS


class FakeChunks:
    """Chunks of the last three days; hours in `failing` cannot be computed.

    Nor can more than `most_hours` at once.
    """

    def __init__(self, *, most_hours: int = 6, failing: Sequence[int] = ()) -> None:
        today = NOW_MS // DAY_MS
        self.known_ms: int | None = None
        self.computed: list[tuple[int, int]] = []
        self._chunks = [
            SampleChunk(day, f"day {day}", day * DAY_MS, (day + 1) * DAY_MS)
            for day in range(today - 2, today + 1)
        ]
        self._most_hours = most_hours
        self._failing = failing

    async def fit_edition(self) -> None:
        """Nothing to fit."""

    async def all(self) -> list[SampleChunk]:
        return self._chunks

    async def collect_stale_hours(self, first_ms: int | None) -> list[StaleHours]:
        return [StaleHours(1, [hour]) for hour in (*self._failing, 7)]

    async def compute_again(self, stale: StaleHours) -> None:
        if stale.hours[0] in self._failing:
            raise QueryTimeoutError("too slow")

    async def hours_computed_before(self) -> int | None:
        return self.known_ms

    async def compute_hours(self, start_ms: int, end_ms: int) -> None:
        hours = range(start_ms // HOUR_MS, end_ms // HOUR_MS)
        if len(hours) > self._most_hours or set(hours) & set(self._failing):
            raise QueryTimeoutError("too slow")
        self.computed.append((start_ms, end_ms))
        self.known_ms = end_ms

    async def hours_are_computed(self, before_ms: int) -> None:
        self.known_ms = before_ms


def step(chunks: FakeChunks) -> HourStep:
    return HourStep(cast(RowChunks, cast(Any, chunks)), MaintenanceTask(0, NOW_MS))


async def test_hours_are_computed_six_at_a_time_up_to_an_hour_ago() -> None:
    chunks = FakeChunks()
    assert await step(chunks).plan() == 24 + 24 + 11
    assert await step(chunks).run(StepNotes("hours")) == 24 + 24 + 11 + 1
    first_ms, end_ms = (NOW_MS // DAY_MS - 2) * DAY_MS, NOW_MS - HOUR_MS
    assert [start for start, _ in chunks.computed] == list(range(first_ms, end_ms, 6 * HOUR_MS))
    assert chunks.known_ms == end_ms
    assert await step(chunks).plan() == 0


async def test_what_takes_too_long_is_computed_hour_by_hour() -> None:
    chunks = FakeChunks(most_hours=1)
    await step(chunks).run(StepNotes("hours"))
    assert chunks.known_ms == NOW_MS - HOUR_MS
    assert len(chunks.computed) == 24 + 24 + 11


async def test_no_hour_is_left_out_before_computed_ones() -> None:
    """Readers take the samples from the first hour that is not computed."""
    bad = NOW_MS // HOUR_MS - 20
    chunks, notes = FakeChunks(failing=[bad]), StepNotes("hours")
    await step(chunks).run(notes)
    assert chunks.known_ms == bad * HOUR_MS
    assert f"hours from {bad * HOUR_MS} ms" in {failure.subject for failure in notes.failures}


async def test_stale_hours_that_fail_stop_no_other() -> None:
    bad = NOW_MS // HOUR_MS - 90
    notes = StepNotes("hours")
    assert await step(FakeChunks(failing=[bad])).run(notes) == 24 + 24 + 11 + 1
    assert [failure.subject for failure in notes.failures] == [f"hours {bad} to {bad} of tenant 1"]
