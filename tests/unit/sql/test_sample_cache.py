"""Whose arrays the cache of samples may make read-only."""

from sql.database.storage_stats import StorageStats
from sql.samples.columns.series_samples import NO_SAMPLES
from sql.samples.reading.sample_cache import CachedSamples, SampleCache


def test_cached_samples_are_read_only_but_the_arrays_given_stay_writable() -> None:
    cache = SampleCache(1_000_000, StorageStats())
    entry = CachedSamples(
        epoch=1,
        after_ms=0,
        until_ms=1000,
        samples=NO_SAMPLES,
        late_writes={},
        asked_after_ms=0,
    )
    cache.put((1, ()), entry)
    [kept] = cache._entries.values()
    assert not kept.samples.timestamps.flags.writeable
    assert not kept.samples.values.flags.writeable
    assert NO_SAMPLES.timestamps.flags.writeable
    assert NO_SAMPLES.values.flags.writeable
