"""The sink that stores in this process counts the samples of a batch once."""

from collections.abc import Sequence

import pytest

from promcompat.core.errors import ExecutionError, PromcompatError, StorageUnavailableError
from promcompat.core.exemplars import AppendedExemplars, Exemplar, SeriesExemplar
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits
from promcompat.core.model import Labels
from promcompat.metrics.metric_service import MetricService
from promcompat.remote_write.series_key import encode_series_key
from promcompat.scraping.series_cache import Rows, ScrapedBatch, ScrapedSeries, batch_of
from promcompat.scraping.sinks import StoreSink
from promcompat.telemetry.telemetry import Telemetry
from tests.support.fakes import InMemoryStore

NOW = 1_700_000_000_000
UP = Labels.of({"__name__": "up"})
OF_UP = SeriesExemplar(UP, Exemplar(Labels.of({"id": "1"}), 2.0, NOW))


class Exemplars:
    """Fails as it is told to; then the first exemplar of a request is out of order."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)

    async def write(self, tenant: str, exemplars: Sequence[SeriesExemplar]) -> AppendedExemplars:
        if self.failures:
            raise self.failures.pop(0)
        return AppendedExemplars(len(exemplars) - 1, (exemplars[0].series,), ())


def batch() -> ScrapedBatch:
    """Three samples, of which one is too far in the future, and two exemplars."""
    rows, series = Rows(), ScrapedSeries(encode_series_key(UP.pairs), UP)
    for time_ms in (NOW, NOW + 1, 2 * NOW):
        rows.add(series, time_ms, 1.0)
    return ScrapedBatch(batch_of(rows, {}).columns, [OF_UP, OF_UP])


@pytest.mark.parametrize(
    ("failure", "n_attempts", "n_exemplars_lost"),
    [(StorageUnavailableError("away"), 2, 1), (ExecutionError("no"), 1, 2)],
)
async def test_samples_are_counted_once_when_exemplars_fail(
    failure: PromcompatError, n_attempts: int, n_exemplars_lost: int
) -> None:
    telemetry, store = Telemetry(), InMemoryStore()
    limits = Limits(SameLimits(TenantLimits(creation_grace_period=60_000)))
    metrics = MetricService(store, store, limits=limits, now_ms=lambda: NOW)
    sink = StoreSink(metrics, Exemplars(failure), "t", telemetry.scrapes)
    for _ in range(1, n_attempts):
        with pytest.raises(StorageUnavailableError):
            await sink.store(batch())
    await sink.store(batch())
    counts = [
        telemetry.registry.get_sample_value(f"promcompat_{name}_total")
        for name in (
            "scrape_samples_stored",
            "scrape_samples_refused",
            "target_scrapes_exemplar_out_of_order",
        )
    ]
    assert counts == [2, 1, n_exemplars_lost]
