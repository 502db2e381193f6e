"""Options of the store that follow from settings and from the machine."""

import pytest

from promcompat.composition import options
from promcompat.composition.options import drain_options, storage_options
from promcompat.configuration.settings import Settings

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("head", "undrained", "of_tenant", "start"),
    [
        (512, 1024, 0, 128),
        (64, 1024, 0, 16),
        (512, 8, 0, 3),  # A tenant may have three quarters of it.
        (512, 1024, 10, 5),
    ],
)
def test_draining_begins_at_a_quarter_of_the_head_or_half_of_another_limit(
    head: int, undrained: int, of_tenant: int, start: int
) -> None:
    settings = Settings(
        head_bytes=head * MEBIBYTE,
        max_undrained_bytes=undrained * MEBIBYTE,
        max_tenant_undrained_bytes=of_tenant * MEBIBYTE,
    )
    assert drain_options(settings).start_bytes == start * MEBIBYTE


@pytest.mark.parametrize(
    ("mebibytes", "workers", "expected"),
    [(16_384, 1, 2_048), (16_384, 4, 512), (1_024, 1, 256), (1 << 20, 1, 8_192)],
)
def test_caches_of_series_have_a_share_of_the_memory(
    mebibytes: int, workers: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "memory_bytes", lambda: mebibytes * MEBIBYTE)
    found = storage_options(Settings(workers=workers))
    assert found.series_cache_bytes == expected * MEBIBYTE
    assert storage_options(Settings(series_cache_bytes=5)).series_cache_bytes == 5
