"""What limits refuse, and which tenants have overrides."""

import math
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from promcompat.core.limits.limit_definitions import LIMIT_OF, LimitValues
from promcompat.core.limits.tenant_limits import RefusalCounter
from promcompat.telemetry.instruments import reload_gauge

_MAX_TENANTS: Final = 10_000
_OTHERS: Final = "(others)"
"""In place of the tenants beyond as many: whoever asks may name any tenant."""


class LimitMetrics(RefusalCounter):
    """A RefusalCounter, and gauges of the overrides."""

    def __init__(self, registry: CollectorRegistry, *, is_shared: bool) -> None:
        """`is_shared`: several workers have their numbers in files, whose values cannot go away."""
        self._is_shared = is_shared
        self._samples = Counter(
            "promcompat_discarded_samples",
            "Samples not stored because their tenant exceeded a limit.",
            ("tenant", "reason"),
            registry=registry,
        )
        self._requests = Counter(
            "promcompat_refused_requests",
            "Queries and changes refused because their tenant exceeded a limit.",
            ("tenant", "reason"),
            registry=registry,
        )
        self._overrides = Gauge(
            "promcompat_limits_overrides",
            "Values of limits that are overridden for a tenant; durations in milliseconds.",
            ("limit_name", "tenant"),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._file_is_good = reload_gauge(
            "promcompat_limits_file_last_reload_successful",
            "Whether PROMCOMPAT_LIMITS_FILE could be used when it was last read.",
            registry,
        )
        self._tenants: set[str] = set()
        self._shown: set[tuple[str, str]] = set()

    def count(self, tenant: str, limit: str, number: int = 1) -> None:
        """See the port."""
        if tenant not in self._tenants:
            if len(self._tenants) >= _MAX_TENANTS:
                tenant = _OTHERS
            self._tenants.add(tenant)
        definition = LIMIT_OF[limit]
        counter = self._samples if definition.counts_samples else self._requests
        counter.labels(tenant, definition.reason).inc(number)

    def show(self, overrides: Mapping[str, LimitValues], *, file_is_good: bool) -> None:
        """Publish the overrides of every tenant."""
        self._file_is_good.set(file_is_good)
        shown = set()
        for tenant, values in overrides.items():
            for name, value in values.items():
                self._overrides.labels(name, tenant).set(value)
                shown.add((name, tenant))
        for name, tenant in self._shown - shown:
            self._hide(name, tenant)
        self._shown = shown

    def _hide(self, name: str, tenant: str) -> None:
        """Remove an override that is gone, or set it to NaN."""
        if self._is_shared:
            self._overrides.labels(name, tenant).set(math.nan)
        else:
            self._overrides.remove(name, tenant)
