"""Which runs and blocks are merged next, and where a step of a merge ends."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sql.samples.draining.compaction import bounded_step
from sql.samples.draining.compaction_plan import (
    Extent,
    FillingSlots,
    Job,
    Layer,
    due_jobs,
)
from sql.samples.draining.page_moves import StoredPage
from sql.samples.tables.block_table import FINAL_LEVEL, Origin
from sql.samples.tables.slots import FAR_SLOT, slot_of

DAY_MS = 86_400_000
DAY = 20_000
DURING = DAY * DAY_MS + DAY_MS // 2
AFTER = (DAY + 1) * DAY_MS + DAY_MS // 2
SLOT = slot_of(DAY)
EMPTY = Extent(1, SLOT, 0, 0, 0)


def layers(*levels: int, n_samples: int = 1_000, slot: int = SLOT) -> list[Layer]:
    """Layers in arrival order."""
    return [Layer(1, slot, arrival, level, n_samples) for arrival, level in enumerate(levels, 1)]


def next_job(
    stored: Sequence[Layer], extents: Sequence[Extent], aside: Mapping[int, int], now_ms: int
) -> Job | None:
    """The job that is due first."""
    return next(due_jobs(stored, extents, aside, now_ms), None)


class TestNextJob:
    def test_nothing_to_do(self) -> None:
        assert next_job([], [], {}, DURING) is None
        assert next_job(layers(0, 0, 0), [EMPTY], {}, DURING) is None

    def test_eight_layers_are_merged_into_the_next_level(self) -> None:
        job = next_job(layers(*[0] * 8), [EMPTY], {}, DURING)
        assert job == Job(1, SLOT, max_level=0, through=8, makes_blocks=True)
        assert job.out_level == 1

    def test_a_larger_older_level_is_left_alone_and_no_block_is_made(self) -> None:
        stored = [replace(layers(1)[0], n_samples=20_000), *layers(0, *[0] * 8)[1:]]
        job = next_job(stored, [EMPTY], {}, DURING)
        assert job == Job(1, SLOT, max_level=0, through=9, makes_blocks=False)

    def test_a_smaller_older_level_is_merged_with_it(self) -> None:
        stored = [*layers(2, 1), *layers(0, 0, *[0] * 8)[2:]]
        assert next_job(stored, [EMPTY], {}, DURING) == Job(1, SLOT, 2, 10, makes_blocks=True)

    def test_only_a_final_merge_has_its_level(self) -> None:
        """A merge of all layers is of a higher level than each of them, and leaves little in runs.

        What has the level of a final merge is merged by none of the day, and by no first final one.
        """
        stored = layers(0)
        for number in range(200):
            stored += [Layer(1, SLOT, 100 + 8 * number + one, 0, 1_000) for one in range(8)]
            job = next_job(stored, [EMPTY], {}, DURING)
            assert job is not None
            stored = [one for one in stored if one.level > job.max_level]
            stored.append(Layer(1, SLOT, job.through, job.out_level, 10))
            assert len(stored) == 1
            assert job.out_level < FINAL_LEVEL

    def test_the_highest_full_level_decides(self) -> None:
        job = next_job(layers(*[1] * 8, *[0] * 8), [EMPTY], {}, DURING)
        assert job == Job(1, SLOT, max_level=1, through=16, makes_blocks=True)

    def test_far_runs_are_merged_by_layers_and_never_as_an_ended_day(self) -> None:
        extent = Extent(1, FAR_SLOT, 0, 0, 0)
        assert next_job(layers(*[0] * 7, slot=FAR_SLOT), [extent], {}, AFTER) is None
        job = next_job(layers(*[0] * 8, slot=FAR_SLOT), [extent], {}, AFTER)
        assert job == Job(1, FAR_SLOT, 0, 8, makes_blocks=True)

    def test_far_blocks_are_merged_again_when_new_ones_have_added_half_to_them(self) -> None:
        def is_due(unmerged: int, blocks: int, merged: int) -> bool:
            job = next_job([], [Extent(1, FAR_SLOT, unmerged, blocks, merged)], {}, AFTER)
            assert job is None or (job.is_final and job.slot == FAR_SLOT)
            return job is not None

        assert is_due(300, 1, 0)
        assert is_due(300, 1, 600)
        assert not is_due(300, 1, 601)
        assert not is_due(8_000, 1, 0), "a full block has nothing to be merged with"
        assert not is_due(0, 0, 600)

    def test_nothing_is_merged_across_an_arrival_set_aside(self) -> None:
        assert next_job(layers(*[0] * 10), [EMPTY], {1: 3}, AFTER) is None
        job = next_job(layers(*[0] * 11), [EMPTY], {1: 3}, AFTER)
        assert job == Job(1, SLOT, 0, 11, makes_blocks=False, after=3)

    def test_an_ended_day_is_merged_once(self) -> None:
        job = next_job(layers(0), [EMPTY], {}, AFTER)
        assert job is not None
        assert job.is_final
        assert job.makes_blocks
        assert next_job(layers(FINAL_LEVEL), [EMPTY], {}, AFTER) is None
        assert next_job([], [replace(EMPTY, merged_samples=9)], {}, AFTER) is None

    def test_a_day_has_not_ended_before_its_last_samples_have_arrived(self) -> None:
        assert next_job(layers(0), [EMPTY], {}, (DAY + 1) * DAY_MS + 60_000) is None

    def test_late_samples_wait_until_they_are_an_eighth(self) -> None:
        merged = replace(EMPTY, merged_samples=8_001)
        assert next_job(layers(0), [merged], {}, AFTER) is None
        assert next_job(layers(0), [replace(EMPTY, merged_samples=8_000)], {}, AFTER) is not None

    def test_full_blocks_are_not_merged_again(self) -> None:
        full = replace(EMPTY, unmerged_samples=16_384_000, unmerged_blocks=1_000)
        assert next_job([], [full], {}, AFTER) is None
        small = replace(EMPTY, unmerged_samples=16_384_000, unmerged_blocks=1_001)
        assert next_job([], [small], {}, AFTER) is not None


class TestFillingSlots:
    """Seconds are those of a clock that the test sets."""

    def test_a_slot_is_filled_until_five_minutes_without_an_arrival(self) -> None:
        times = iter([0.0, 299.0, 300.0, 301.0, 602.0])
        slots = FillingSlots(lambda: next(times))
        assert slots.see(layers(0), []) == {(1, SLOT)}
        assert slots.see(layers(0), []) == {(1, SLOT)}
        assert slots.see(layers(0), []) == set()
        assert slots.see(layers(0, 0), []) == {(1, SLOT)}
        assert slots.see(layers(0, 0), []) == set()

    def test_after_an_hour_it_does_not_count_as_filled_until_it_is_merged(self) -> None:
        times = iter([60.0 * minute for minute in range(63)])
        slots = FillingSlots(lambda: next(times))
        seen = [bool(slots.see(layers(*[0] * (1 + minute)), [])) for minute in range(62)]
        assert seen == [True] * 60 + [False] * 2
        slots.forget(1, SLOT)
        assert slots.see(layers(0), [EMPTY])

    def test_a_merge_of_its_layers_leaves_it_filled(self) -> None:
        slots = FillingSlots(lambda: 0.0)
        slots.see(layers(*[0] * 8), [EMPTY])
        assert slots.see([], [replace(EMPTY, unmerged_samples=8_000)]) == {(1, SLOT)}
        assert slots.see([], [EMPTY]) == set()

    def test_blocks_that_were_there_before_do_not_wait(self) -> None:
        slots = FillingSlots(lambda: 0.0)
        assert slots.see([], [replace(EMPTY, unmerged_samples=8_000)]) == set()

    def test_a_slot_that_is_filled_is_merged_by_layers_only(self) -> None:
        far = Extent(1, FAR_SLOT, 300, 1, 0)
        filling = {(1, SLOT), (1, FAR_SLOT)}
        assert not list(due_jobs(layers(*[0] * 7), [EMPTY, far], {}, AFTER, filling))
        jobs = list(due_jobs(layers(*[0] * 8), [EMPTY, far], {}, AFTER, filling))
        assert jobs == [Job(1, SLOT, max_level=0, through=8, makes_blocks=True)]


@st.composite
def page_lists(draw: st.DrawFn) -> list[StoredPage]:
    origin = Origin(1, SLOT, 0, False, 1, 1, 1)
    pages = []
    for _ in range(draw(st.integers(0, 8))):
        first, last = sorted(draw(st.tuples(st.integers(1, 4), st.integers(1, 4))))
        start, end = sorted(draw(st.tuples(st.integers(0, 9), st.integers(0, 9))))
        n_samples = draw(st.integers(1, 5))
        pages.append(StoredPage(False, 0, origin, n_samples, first, last, start, end))
    return sorted(pages, key=lambda page: page.key)


@given(pages=page_lists(), max_samples=st.integers(1, 12))
def test_steps_cover_every_page_once_and_end(pages: list[StoredPage], max_samples: int) -> None:
    """Without what is left over of a page, the steps take each page, in order."""
    left, taken = list(pages), 0
    while left:
        step = bounded_step(left, None, max_samples)
        assert step.pages
        assert step.end is None or all(page.key < step.end for page in step.pages)
        rest = left[len(step.pages) :]
        assert step.end is not None or not rest
        assert all(page.key >= step.end for page in rest if step.end is not None)
        taken, left = taken + len(step.pages), rest
    assert taken == len(pages)


@given(pages=page_lists(), max_samples=st.integers(1, 12), limit=st.integers(1, 8))
def test_a_step_stays_before_the_rows_that_were_not_read(
    pages: list[StoredPage], max_samples: int, limit: int
) -> None:
    """Of 20,000 rows and more only the first are read; the last one read is the limit."""
    known = pages[:limit]
    if len(known) < len(pages) and known[-1].key > known[0].key:
        step = bounded_step(known, known[-1].key, max_samples)
        assert step.pages
        assert all(page.key < known[-1].key for page in step.pages)
