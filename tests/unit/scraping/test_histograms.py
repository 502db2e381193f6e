"""Scraped native histograms on their way to where they are stored."""

import math
from dataclasses import replace

import numpy as np
import pytest
import snappy

from promcompat.core.histograms.columns import histogram_cells, histogram_numbers, is_histogram
from promcompat.core.model import EMPTY_LABELS
from promcompat.imports.columns import NORMAL_NAN_BITS
from promcompat.imports.strict_exposition import ExpositionError, read_text
from promcompat.remote_write.histograms import decode_histograms
from promcompat.remote_write.remote_pb2 import TimeSeries, WriteRequest
from promcompat.scraping.configuration import HistogramOptions, JobConfig, TargetGroup
from promcompat.scraping.delivery import merged
from promcompat.scraping.native_histograms import finest_schema
from promcompat.scraping.protobuf_exposition import read_protobuf
from promcompat.scraping.scrape_limits import ScrapeError
from promcompat.scraping.series_cache import ScrapedBatch, TargetSeries, batch_of
from promcompat.scraping.sinks import encode_request
from promcompat.scraping.targets import targets_of
from tests.support.services.scraped_histograms import (
    GAUGE,
    HISTOGRAM,
    MetricFamily,
    as_text,
    body,
    everything,
    exemplar,
    family,
    labels,
    native,
)
from tests.support.services.scraped_histograms import Metric as WireMetric
from tests.support.services.scraped_histograms import Value as WireValue

NOW = 1_700_000_000_000
NATIVE = HistogramOptions(has_native=True)


def known_series(histograms: HistogramOptions = NATIVE) -> TargetSeries:
    job = replace(JobConfig(name="j"), histograms=histograms)
    (target,) = targets_of(job, [TargetGroup([{"__address__": "h:1"}])]).active
    return TargetSeries(target, EMPTY_LABELS)


def scraped(known: TargetSeries, content: bytes, at_ms: int = NOW) -> ScrapedBatch:
    scrape = known.begin(at_ms, at_ms)
    read_protobuf(content, scrape, has_native=known.job.histograms.has_native, has_classic=False)
    rows, stale, exemplars = scrape.complete()
    return batch_of(rows, {at_ms: stale}, exemplars=exemplars)


def texts_of(batch: ScrapedBatch) -> list[str]:
    columns = batch.columns
    assert columns.histograms is not None
    cells = columns.values[is_histogram(columns.values)]
    return [as_text(columns.histograms, number) for number in histogram_numbers(cells)]


def test_histograms_of_several_scrapes_are_sent_by_remote_write() -> None:
    known = known_series()
    batches = [scraped(known, everything(n), NOW + n) for n in (1, 2)]
    batch = merged(batches)
    assert batch.weight > sum(len(part.columns.series) for part in batches)
    assert texts_of(batch) == [text for part in batches for text in texts_of(part)]
    request = WriteRequest.FromString(snappy.decompress(encode_request(batch, 0, 1_000)))
    sent = [TimeSeries.FromString(series).histograms for series in request.timeseries]
    messages = [message for histograms in sent for message in histograms]
    found = decode_histograms(messages)
    assert not found.faults
    assert [as_text(found.histograms, n) for n in range(len(messages))] == texts_of(batch)
    assert found.timestamps.tolist() == [NOW + 1] * 4 + [NOW + 2] * 4


def test_without_native_histograms_the_classic_buckets_are_stored() -> None:
    batch = scraped(known_series(HistogramOptions()), everything(1))
    assert not is_histogram(batch.columns.values).any()
    assert np.isfinite(batch.columns.values).all()


def test_a_float_whose_bits_look_like_a_histogram_is_nan() -> None:
    value = float(histogram_cells(np.array([7]))[0])
    batch = scraped(
        known_series(), body(family("g", GAUGE, WireMetric(gauge=WireValue(value=value))))
    )
    assert batch.columns.values.view(np.uint64).tolist() == [NORMAL_NAN_BITS]


def converted(text: str, known: TargetSeries | None = None, at_ms: int = NOW) -> ScrapedBatch:
    known = known or known_series(HistogramOptions(converts_classic=True))
    scrape = known.begin(at_ms, at_ms)
    read_text(text, scrape)
    rows, stale, exemplars = scrape.complete()
    return batch_of(rows, {at_ms: stale}, exemplars=exemplars)


def test_series_are_parts_of_a_histogram_while_their_family_is_one() -> None:
    known = known_series(HistogramOptions(converts_classic=True))
    lines = 'x_bucket{le="+Inf"} 3\nx_count 3\nx_sum 2\n'
    found = [
        converted(f"# TYPE x {kind}\n{lines}", known, NOW + number)
        for number, kind in enumerate(("untyped", "histogram", "untyped", "histogram"))
    ]
    assert [batch.columns.histograms is not None for batch in found] == [False, True, False, True]
    # Those that are no longer there get a stale marker.
    assert [len(batch.columns.series) for batch in found] == [3, 4, 4, 4]


def test_counts_beyond_integers_become_those_of_a_float_histogram() -> None:
    buckets = "".join(f'x_bucket{{le="{bound}"}} 1e300\n' for bound in ("1", "+Inf"))
    found = converted(f"# TYPE x histogram\n{buckets}x_count 1e300\n").columns.histograms
    assert found is not None
    assert found.is_float.tolist() == [True]
    assert found.counts.view(np.float64).tolist() == [1e300]


def test_a_sample_without_a_name_fails_the_scrape_of_a_job_that_converts() -> None:
    with pytest.raises(ScrapeError, match="missing metric name"):
        converted('{a="b"} 1\n')


def test_exemplars_of_a_native_histogram_are_stored_once() -> None:
    known = known_series()
    exemplars = [exemplar(2, 1_700_000_002), exemplar(1, 1_700_000_001), exemplar(3)]

    def content(*more: int) -> bytes:
        own = native(exemplars=[*exemplars, *(exemplar(n, 1_700_000_000 + n) for n in more)])
        return body(family("h", HISTOGRAM, WireMetric(histogram=own)))

    first, again, later = (scraped(known, content(*more)) for more in ((), (), (5,)))
    assert [found.exemplar.value for found in first.exemplars] == [1, 2]
    assert not again.exemplars
    assert [found.exemplar.value for found in later.exemplars] == [5]


@pytest.mark.parametrize(
    ("factor", "schema"),
    [(0, 8), (1, 8), (1.001, 8), (1.5, 0), (2, 0), (1.4, 1), (1e9, -4), (math.inf, -4)],
)
def test_the_finest_schema_grows_by_the_factor(factor: float, schema: int) -> None:
    assert finest_schema(factor) == schema


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (MetricFamily(metric=[WireMetric()]), "metric name"),
        (family("a", 7, WireMetric()), 'unknown metric type for metric "a": 7'),
        (family("a", GAUGE, WireMetric(gauge=WireValue(value=1)), unit="s"), 'unit "s" not a suff'),
        (family("a", GAUGE, WireMetric(label=labels(x="1") * 2)), "is not unique"),
    ],
)
def test_what_is_wrong_is_named_with_its_family(found: MetricFamily, reason: str) -> None:
    good = family("ok", GAUGE, WireMetric(gauge=WireValue(value=1)))
    with pytest.raises(ExpositionError, match=f"metric family 2: .*{reason}"):
        scraped(known_series(), body(good, found))


@pytest.mark.parametrize("n_bytes", [1, 3, 20])
def test_a_body_that_is_cut_off_is_refused(n_bytes: int) -> None:
    with pytest.raises(ExpositionError, match="metric family"):
        scraped(known_series(), everything(1)[:-n_bytes])
