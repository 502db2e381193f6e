"""Drains begin before the head is full, and before writes are refused."""

import pytest

from promcompat.composition.options import drain_options
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
