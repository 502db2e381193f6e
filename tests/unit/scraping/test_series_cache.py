"""What a scrape stores, drops and marks as stale, by the rules of Prometheus."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.model import EMPTY_LABELS, is_stale
from promcompat.core.relabelling import parse_relabel_rules
from promcompat.imports.strict_exposition import read_open_metrics, read_text
from promcompat.remote_write.series_key import decode_series_key
from promcompat.scraping.configuration import JobConfig, ScrapeLimits, TargetGroup
from promcompat.scraping.scrape_limits import ScrapeError
from promcompat.scraping.series_cache import (
    Rows,
    Scrape,
    TargetSeries,
    batch_of,
)
from promcompat.scraping.targets import targets_of

JOB = JobConfig(name="j")
START_MS = 1_700_000_000_000


def known_series(**options: Any) -> TargetSeries:
    job = replace(JOB, **options)
    (target,) = targets_of(job, [TargetGroup([{"__address__": "h:1"}])]).active
    return TargetSeries(target, EMPTY_LABELS)


def scrape(known: TargetSeries, body: str, number: int = 0) -> tuple[Scrape, dict[str, Any]]:
    """The scrape, and its samples and stale markers by metric."""
    time_ms = START_MS + number * 1000
    found = known.begin(time_ms, time_ms)
    read_text(body, found)
    rows, stale, _ = found.complete()
    columns = batch_of(rows, {time_ms: stale}).columns
    names = [decode_series_key(key).get("__name__") for key in columns.keys]
    marks = is_stale(columns.values)
    values = [
        "stale" if mark else value
        for mark, value in zip(marks.tolist(), columns.values.tolist(), strict=True)
    ]
    assert set(columns.timestamps[marks].tolist()) <= {time_ms}
    return found, dict(zip(names, values, strict=True))


@given(st.lists(st.one_of(st.none(), st.sets(st.sampled_from("abcde"))), max_size=12))
def test_a_series_is_marked_once_when_it_goes(bodies: list[set[str] | None]) -> None:
    """None stands for a scrape that fails: then everything has gone."""
    known, before = known_series(), set[str]()
    for number, names in enumerate(bodies):
        if names is None:
            known.begin(START_MS + number * 1000, START_MS)
            gone = {series.labels.get("__name__") for series in known.fail()}
            assert gone == before
            before = set()
            continue
        _, found = scrape(known, "".join(f"{name} 1\n" for name in names), number)
        assert found == dict.fromkeys(names, 1.0) | dict.fromkeys(before - names, "stale")
        before = names


def test_a_series_with_its_own_time_is_not_marked_unless_asked_for() -> None:
    for tracks, expected in ((False, {}), (True, {"a": "stale"})):
        known = known_series(tracks_timestamps_staleness=tracks)
        scrape(known, f"a 1 {START_MS}\n")
        _, found = scrape(known, "", 1)
        assert found == expected


def test_times_are_the_targets_unless_they_are_not_honoured() -> None:
    for honors, expected in ((True, 5), (False, START_MS)):
        found = (known := known_series(honor_timestamps=honors)).begin(START_MS, START_MS)
        read_text("a 1 5", found)
        rows, stale, _ = found.complete()
        assert (rows.times, stale) == ([expected], [])
        assert len(list(known.tracked_keys)) == (not honors)


def test_what_cannot_be_stored_is_dropped_alone_and_counted() -> None:
    known = known_series()
    future_ms = START_MS + 600_001
    body = f"a 1\na 2\nb 1 {START_MS}\nb 2 {START_MS}\nb 1 {START_MS - 1}\nc 1 {future_ms}\nd 1\n"
    found, samples = scrape(known, body)
    assert samples == {"a": 1.0, "b": 1.0, "d": 1.0}
    counts = found.counts
    assert (counts.n_duplicates, counts.n_out_of_order, counts.n_out_of_bounds) == (2, 1, 1)
    assert (counts.n_scraped, counts.n_kept, counts.n_series_added) == (7, 7, 3)


def test_samples_are_stored_again_at_once_when_the_clock_was_set_back() -> None:
    known = known_series()
    scrape(known, "a 1\nb 1\n", 86_400)
    for number, body in enumerate(("a 2\nb 2\n", "a 3\n")):
        found, samples = scrape(known, body, number)
        assert found.counts.n_out_of_order == 0
    assert samples == {"a": 3.0, "b": "stale"}


def test_series_are_added_once_and_again_after_they_were_gone() -> None:
    known = known_series()
    added = [
        scrape(known, body, number)[0].counts.n_series_added
        for number, body in enumerate(["a 1\nb 1", "a 1\nb 1", "a 1", "a 1\nb 1"])
    ]
    assert added == [2, 0, 0, 1]


def test_relabelling_drops_samples_that_still_count_as_scraped() -> None:
    rules = parse_relabel_rules("[{source_labels: [__name__], regex: b, action: drop}]")
    known = known_series(metric_relabel_rules=rules)
    for number in (0, 1):
        found, samples = scrape(known, "a 1\nb 2\nb 3\n", number)
        assert samples == {"a": 1.0}
        assert (found.counts.n_scraped, found.counts.n_kept) == (3, 1)


def test_a_sample_limit_fails_the_scrape_and_all_is_counted() -> None:
    known = known_series(limits=ScrapeLimits(samples=2))
    found = known.begin(START_MS, START_MS)
    read_text("a 1\nb 1\nc 1\nd 1", found)
    with pytest.raises(ScrapeError, match="sample limit exceeded"):
        found.complete()
    assert (found.counts.n_scraped, found.counts.n_kept, found.counts.n_series_added) == (4, 4, 2)
    assert known.fail() == []


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (ScrapeLimits(labels=3), "label_limit exceeded (metric: m, number of labels: 4, limit: 3)"),
        (ScrapeLimits(label_name_bytes=8), "label_name_length_limit exceeded (metric: m, label"),
        (ScrapeLimits(label_value_bytes=5), 'value: "long value", length: 10, limit: 5)'),
    ],
)
def test_limits_of_labels_fail_the_scrape(limits: ScrapeLimits, text: str) -> None:
    found = known_series(limits=limits).begin(START_MS, START_MS)
    with pytest.raises(ScrapeError) as caught:
        read_text('m{label_name="long value"} 1', found)
    assert text in str(caught.value)


@pytest.mark.parametrize("line", ['{"a.b"} 1', '{"a","c.d"="1"} 1'])
def test_names_in_utf8_fail_the_scrape_where_the_job_has_legacy_names(line: str) -> None:
    scrape(known_series(), line)
    found = known_series(legacy_names=True).begin(START_MS, START_MS)
    with pytest.raises(ScrapeError, match="invalid metric name or label names"):
        read_text(line, found)


def test_an_exemplar_is_stored_when_it_changes_and_its_scrape_succeeds() -> None:
    known = known_series(limits=ScrapeLimits(samples=1))
    stored = []
    for number, body in enumerate(
        ['a 1 # {x="1"} 2', 'a 1 # {x="1"} 2', 'a 1 # {x="2"} 2\nb 1', 'a 1 # {x="2"} 2']
    ):
        found = known.begin(START_MS + number, START_MS)
        read_open_metrics(f"{body}\n# EOF\n", found)
        try:
            _, _, exemplars = found.complete()
        except ScrapeError:
            known.fail()
            continue
        stored += [
            (item.exemplar.labels.get("x"), item.exemplar.timestamp_ms) for item in exemplars
        ]
    assert stored == [("1", START_MS), ("2", START_MS + 3)]


def test_metadata_is_taken_when_it_changes_and_forgotten_after_ten_scrapes() -> None:
    known = known_series()
    scrape(known, "# TYPE a gauge\na 1")
    assert [entry.type for entry in known.take_changed_metadata()] == ["gauge"]
    scrape(known, "# TYPE a gauge\na 1")
    assert known.take_changed_metadata() == ()
    for number in range(11):
        assert known.metadata
        scrape(known, "a 1", number)
    assert not known.metadata


def test_nan_is_stored_as_prometheus_stores_it() -> None:
    known, rows = known_series(), Rows()
    rows.add(known.report_series("up"), 1, float("nan"))
    columns = batch_of(rows, {2: [known.report_series("up")]}).columns
    bits = columns.values.view(np.uint64).tolist()
    assert bits == [0x7FF8000000000001, 0x7FF0000000000002]
