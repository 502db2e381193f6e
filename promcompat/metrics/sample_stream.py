"""Reads all samples of a tenant or selector in bounded portions, for exports."""

from collections.abc import AsyncIterator
from typing import Final

from promcompat.core.errors import ExecutionError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import SampleBlock, SeriesSelection
from promcompat.core.ports import Store

_FIRST_WINDOW_MS: Final = 3_600_000
_ENOUGH_SAMPLES: Final = 250_000
_GROWTH: Final = 4
_SHRINKAGE: Final = 16
_MAX_PORTION_BYTES: Final = 64 << 20
"""A window whose samples take more is read again as shorter ones."""


async def sample_portions(
    store: Store,
    tenant: str,
    matchers: tuple[LabelMatcher, ...],
    start_ms: int,
    end_ms: int,
) -> AsyncIterator[SampleBlock]:
    """The samples of matching series from `start_ms` to `end_ms`, both inclusive, by window.

    Each window is of one moment; what arrives later for a window that was read is left out. The
    store bounds the samples of a window: its limits are those of one query. Raises as
    `Store.select`, and ExecutionError when one millisecond has too many samples.
    """
    bounds = await store.sample_bounds(tenant)
    if bounds is None:
        return
    position, last = max(start_ms, bounds[0]) - 1, min(end_ms, bounds[1])
    size_ms = _FIRST_WINDOW_MS
    while position < last:
        end = min(position + size_ms, last)
        selection = SeriesSelection(matchers=matchers, start_ms=position, end_ms=end)
        try:
            (block,) = await store.select(tenant, [selection], _check_portion)
        except ExecutionError:
            if end - position == 1:
                raise
            size_ms = max((end - position) // _SHRINKAGE, 1)
            continue
        if len(block.timestamps) < _ENOUGH_SAMPLES:
            size_ms *= _GROWTH
        elif len(block.timestamps) > _GROWTH * _ENOUGH_SAMPLES:
            size_ms = max(size_ms // _GROWTH, 1)
        position = end
        yield block


def _check_portion(n_bytes: int) -> None:
    if n_bytes > _MAX_PORTION_BYTES:
        raise ExecutionError(f"one millisecond has samples of more than {_MAX_PORTION_BYTES} bytes")
