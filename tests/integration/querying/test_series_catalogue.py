"""Lists of series, names and values are remembered, and still what any other service would say."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from promcompat.core.maintenance import StepNotes
from promcompat.core.model import METRIC_NAME, Labels, MetricMetadata, SeriesSelection
from promcompat.core.ports import MatcherSets
from sql.samples.metric_storage import MetricStorage
from sql.series.metadata import MetadataStep, MetadataWriter
from tests.support.factories import make_batch, make_labels, make_matcher
from tests.support.fakes import InMemoryStore
from tests.support.storage.repositories import delete_samples, opened_storage

pytestmark = pytest.mark.integration

TENANT = "default"
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
T0 = 20_000 * DAY_MS
EVER = (-(2**62), 2**62)
UP: MatcherSets = [(make_matcher(METRIC_NAME, "=", "up"),)]


@pytest.fixture
async def services(
    database_url: str,
) -> AsyncIterator[tuple[MetricStorage, MetricStorage]]:
    """Two services on one database."""
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(opened_storage(database_url))
        yield ours, await stack.enter_async_context(opened_storage(database_url))


async def write(storage: MetricStorage, labels: Labels, time_ms: int) -> None:
    await storage.store.write_batch(TENANT, make_batch({labels: [(time_ms, 1.0)]}))


async def delete_before(storage: MetricStorage, time_ms: int) -> None:
    """As maintenance does it."""
    everything = SeriesSelection(matchers=(), start_ms=-1, end_ms=time_ms - 1)
    await delete_samples(storage, TENANT, everything)


async def test_labels_are_counted_again_when_series_come_or_go(
    services: tuple[MetricStorage, MetricStorage],
) -> None:
    ours, other = services
    for number in range(3):
        await write(other, make_labels("up", job=f"j{number}"), T0)
        for _ in range(2):
            counts = await ours.catalogue.label_counts(TENANT)
            jobs = {("job", f"j{n}"): 1 for n in range(number + 1)}
            assert counts.n_series == number + 1
            assert counts.by_label() == {(METRIC_NAME, "up"): number + 1} | jobs
    assert await ours.catalogue.label_counts(TENANT) is counts


@pytest.mark.parametrize("bounds", [EVER, (T0, T0 + MINUTE_MS)])
async def test_new_series_of_another_service_is_in_the_next_list(
    services: tuple[MetricStorage, MetricStorage], bounds: tuple[int, int]
) -> None:
    ours, other = services
    for number in range(3):
        labels = make_labels("up", job=f"j{number}", **{f"only{number}": "1"})
        await write(other, labels, T0)
        for _ in range(2):
            jobs = [f"j{n}" for n in range(number + 1)]
            names = sorted([METRIC_NAME, "job", *(f"only{n}" for n in range(number + 1))])
            assert await ours.catalogue.label_values(TENANT, "job", UP, *bounds, 0) == jobs
            assert await ours.catalogue.label_names(TENANT, UP, *bounds, 0) == names
            assert len(await ours.catalogue.series(TENANT, UP, *bounds, 0)) == number + 1


@pytest.mark.parametrize("n_series", [6, 7])
async def test_label_sets_read_and_sorted_in_pieces_are_complete_and_in_order(
    services: tuple[MetricStorage, MetricStorage], monkeypatch: pytest.MonkeyPatch, n_series: int
) -> None:
    monkeypatch.setattr("sql.series.reader._LABELS_AT_ONCE", 3)
    monkeypatch.setattr("sql.series.reader._PARSED_AT_ONCE", 2)
    monkeypatch.setattr("sql.series.catalogue._SORTED_AT_ONCE", 2)
    ours, _ = services
    series = [make_labels("up", job=f"j{number}") for number in range(n_series)]
    for number in random.Random(1).sample(range(n_series), n_series):
        await write(ours, series[number], T0)
    assert await ours.catalogue.series(TENANT, UP, *EVER, 0) == series


async def test_value_is_listed_while_any_of_its_series_has_samples(
    services: tuple[MetricStorage, MetricStorage],
) -> None:
    ours, other = services
    series = [make_labels("up", job="api", n=str(number)) for number in range(4)]
    for number, labels in enumerate(series):
        await write(other, labels, T0 + number * DAY_MS)

    async def jobs(start_ms: int, end_ms: int) -> list[str]:
        return await ours.catalogue.label_values(TENANT, "job", UP, start_ms, end_ms, 0)

    for number in (3, 0, 2, 1):
        seen_ms = T0 + number * DAY_MS
        assert await jobs(seen_ms - MINUTE_MS, seen_ms) == ["api"]
        assert await jobs(seen_ms + 1, seen_ms + MINUTE_MS) == []
    await write(other, series[0], T0 + 9 * DAY_MS)
    assert await jobs(T0 + 8 * DAY_MS, EVER[1]) == ["api"]
    assert await jobs(EVER[0], T0) == ["api"]


async def test_values_whose_samples_were_deleted_are_gone_from_the_next_list(
    services: tuple[MetricStorage, MetricStorage],
) -> None:
    ours, other = services
    for number in range(3):
        await write(other, make_labels("up", job=f"j{number}"), T0 + number * DAY_MS)
    bounds = T0, T0 + 3 * DAY_MS
    assert await ours.catalogue.label_values(TENANT, "job", UP, *bounds, 0) == ["j0", "j1", "j2"]
    await delete_before(other, T0 + DAY_MS)
    assert await ours.catalogue.label_values(TENANT, "job", UP, *bounds, 0) == ["j1", "j2"]
    assert await ours.catalogue.label_values(TENANT, METRIC_NAME, [], T0, T0 + MINUTE_MS, 0) == []
    assert await ours.catalogue.label_values(TENANT, METRIC_NAME, [], *bounds, 0) == ["up"]
    # The series is still there: without bounds it is listed, as ever.
    assert await ours.catalogue.label_values(TENANT, "job", UP, *EVER, 0) == ["j0", "j1", "j2"]


async def test_lists_are_those_of_a_service_that_remembers_nothing(
    services: tuple[MetricStorage, MetricStorage],
) -> None:
    """A walk of writes and questions, compared with dicts."""
    ours, other = services
    model = InMemoryStore()
    choose = random.Random(4)
    for _ in range(60):
        labels = make_labels(
            choose.choice(["up", "down", ""]), job=choose.choice("abc"), n=choose.choice("12")
        )
        if choose.random() < 0.5:
            labels = labels.with_label("extra", choose.choice("xyzß"))
        time_ms = T0 + choose.randrange(5) * DAY_MS + choose.randrange(3) * MINUTE_MS
        batch = make_batch({labels: [(time_ms, 1.0)]})
        await choose.choice([ours, other]).store.write_batch(TENANT, batch)
        await model.write_batch(TENANT, batch)
        start_ms = choose.choice([EVER[0], T0 + choose.randrange(5) * DAY_MS])
        end_ms = choose.choice([EVER[1], start_ms + choose.randrange(2 * DAY_MS)])
        sets = choose.choice([[], UP, [*UP, (make_matcher("job", "=~", "a|c"),)]])
        question = TENANT, sets, start_ms, end_ms, choose.choice([0, 2])
        name = choose.choice([METRIC_NAME, "job", "extra"])
        asked = TENANT, name, sets, start_ms, end_ms, 0
        assert await ours.catalogue.series(*question) == await model.series(*question)
        assert await ours.catalogue.label_names(*question) == await model.label_names(*question)
        assert await ours.catalogue.label_values(*asked) == await model.label_values(*asked)


async def test_metadata_that_the_database_cannot_hold_is_stored_without_it(
    services: tuple[MetricStorage, MetricStorage],
) -> None:
    """Names that differ in nothing else are one family, of which the last entry counts."""
    ours, _ = services
    entries = [
        MetricMetadata("up\0", "counter", "first", ""),
        MetricMetadata("up\udc93", "gauge", "last \udc93", "\0"),
    ]
    await ours.store.write_batch(TENANT, make_batch({}, entries))
    stored = MetricMetadata("up\ufffd", "gauge", "last \ufffd", "\ufffd")
    assert await ours.catalogue.metadata(TENANT, None) == [stored]


async def test_families_of_metadata_are_bounded_and_known_ones_still_change(
    services: tuple[MetricStorage, MetricStorage],
) -> None:
    ours, _ = services
    writer = MetadataWriter(ours.database.write_pool, max_families=3)
    tenant_id = await ours.database.tenants.find_or_create(TENANT)
    for names, text in (("bd", "old"), ("abcde", "new"), ("z", "new")):
        await writer.store(tenant_id, [MetricMetadata(name, "gauge", text, "") for name in names])
    found = await ours.catalogue.metadata(TENANT, None)
    assert [(entry.family, entry.help) for entry in found] == [
        ("a", "new"), ("b", "new"), ("d", "new")
    ]  # fmt: skip


async def test_metadata_goes_when_a_family_has_no_series(
    services: tuple[MetricStorage, MetricStorage],
) -> None:
    """By any of the names that its series may have; not while it may be ahead of its samples."""
    ours, _ = services
    names = ["gone", "up", "runs", "took", "sizes", "kept_info"]
    series = ["up", "runs_total", "took_bucket", "sizes_gcount", "kept_info"]
    samples = {make_labels(name): [(T0, 1.0)] for name in series}
    entries = [MetricMetadata(name, "gauge", "", "") for name in names]
    await ours.store.write_batch(TENANT, make_batch(samples, entries))
    pool, notes = ours.database.write_pool, StepNotes("metadata")
    assert await MetadataStep(pool).run(notes) == 0
    step = MetadataStep(pool, unused_seconds=0.0)
    assert (await step.plan(), await step.run(notes), await step.run(notes)) == (1, 1, 0)
    found = await ours.catalogue.metadata(TENANT, None)
    assert [entry.family for entry in found] == sorted(set(names) - {"gone"})
