"""Series that a limit refused lately, so that senders who repeat them cost no look-ups.

A series is looked up again when the limits of its tenant change, and after half a minute to a
minute: it may have been made by another process, or there may be room again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from promcompat.core.limits.tenant_limits import TenantLimits
from promcompat.core.model import FIRST_REFUSED, UNKNOWN_SERIES, IntArray
from promcompat.core.series_table import RefusedKeys, SeriesTableBuilder

REFUSING_LIMITS: Final = ("max_global_series_per_user", "max_global_series_per_metric")
"""The number of a limit, in place of a series id, is FIRST_REFUSED less its place here."""
_KEPT_SECONDS: Final = 30.0
_MAX_BYTES: Final = 32 << 20
"""Of all tenants in half a minute: 200,000 keys of a hundred bytes."""


def refused_rows(series_ids: IntArray) -> dict[str, int]:
    """How many rows each limit refused, by its name."""
    numbers = FIRST_REFUSED - series_ids[series_ids <= FIRST_REFUSED]
    counts = np.bincount(numbers, minlength=len(REFUSING_LIMITS)).tolist()
    return {name: n for name, n in zip(REFUSING_LIMITS, counts, strict=True) if n}


@dataclass(slots=True)
class _Generation:
    """What was refused in half a minute, and the tenants' numbers in the table."""

    keys: SeriesTableBuilder
    tenants: dict[str, tuple[TenantLimits, int]] = field(default_factory=dict)
    n_numbers: int = 0

    def find(self, tenant: str, limits: TenantLimits) -> RefusedKeys | None:
        """The keys that these limits of a tenant refused."""
        of_limits, number = self.tenants.get(tenant, (None, 0))
        return RefusedKeys(self.keys.table, number) if of_limits is limits else None

    def add(self, tenant: str, limits: TenantLimits, ids: dict[bytes, int]) -> None:
        """Add keys if there is room."""
        if self.tenants.get(tenant, (None, 0))[0] is not limits:
            self.tenants[tenant] = limits, self.n_numbers
            self.n_numbers += 1
        if self.keys.has_room(ids):
            self.keys.add(self.tenants[tenant][1], ids)


class RefusedSeries:
    """What was refused lately, of all tenants."""

    def __init__(self, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._now_seconds = now_seconds
        self._now: _Generation | None = None
        self._before: _Generation | None = None
        self._turns_at = 0.0

    def add(self, tenant: str, limits: TenantLimits, refused: Mapping[bytes, str]) -> None:
        """Remember keys and the names of the limits that refused them."""
        if not refused:
            return
        self._turn()
        if self._now is None:
            self._now = _Generation(SeriesTableBuilder(_MAX_BYTES))
        ids = {key: FIRST_REFUSED - REFUSING_LIMITS.index(name) for key, name in refused.items()}
        self._now.add(tenant, limits, ids)

    def find(self, tenant: str, limits: TenantLimits, keys: Sequence[bytes]) -> dict[bytes, str]:
        """Those of the keys that were refused lately, with the names of the limits."""
        found: dict[bytes, str] = {}
        for part in self.of(tenant, limits) if keys else ():
            ids = part.table.find(part.tenant, keys)
            for place in np.flatnonzero(ids != UNKNOWN_SERIES).tolist():
                found[keys[place]] = REFUSING_LIMITS[FIRST_REFUSED - int(ids[place])]
        return found

    def of(self, tenant: str, limits: TenantLimits) -> tuple[RefusedKeys, ...]:
        """See `KnownSeries.refused`."""
        if self._now is None and self._before is None:
            return ()
        self._turn()
        parts = (part.find(tenant, limits) for part in (self._now, self._before) if part)
        return tuple(filter(None, parts))

    def forget(self) -> None:
        """Forget everything."""
        self._now = self._before = None

    def _turn(self) -> None:
        """Forget what is older than half a minute, once that has passed."""
        now = self._now_seconds()
        if now < self._turns_at:
            return
        self._before = self._now if now < self._turns_at + _KEPT_SECONDS else None
        self._now = None
        self._turns_at = now + _KEPT_SECONDS
