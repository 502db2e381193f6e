"""Series that a limit refused lately, so that senders who repeat them cost no look-ups.

A series is looked up again when the limits of its tenant change, and after half a minute to a
minute: it may have been made by another process, or there may be room again.
"""

import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from promcompat.core.tenant_limits import TenantLimits

_KEPT_SECONDS: Final = 30.0
_MAX_KEYS: Final = 500_000
"""Of a process, by their hashes; 100 bytes each."""
_NONE: Final[Container[int]] = frozenset()


@dataclass(slots=True)
class _OfTenant:
    """The names of the limits that refused a tenant's series, by the hash of their keys."""

    limits: TenantLimits
    now: dict[int, str] = field(default_factory=dict)
    before: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedHashes:
    """The hashes of the keys of a tenant that were refused lately, for any thread."""

    now: Mapping[int, str]
    before: Mapping[int, str]

    def __bool__(self) -> bool:
        return bool(self.now or self.before)

    def __contains__(self, key_hash: object) -> bool:
        return key_hash in self.now or key_hash in self.before


class RefusedSeries:
    """What was refused lately, of all tenants."""

    def __init__(self, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._now_seconds = now_seconds
        self._tenants: dict[str, _OfTenant] = {}
        self._n_keys = 0
        self._turns_at = 0.0

    def add(self, tenant: str, limits: TenantLimits, refused: Mapping[bytes, str]) -> None:
        """Remember keys and the names of the limits that refused them."""
        self._turn()
        if not refused or self._n_keys + len(refused) > _MAX_KEYS:
            return
        known = self._of(tenant, limits)
        known.now.update((hash(key), name) for key, name in refused.items())
        self._n_keys += len(refused)

    def find(self, tenant: str, limits: TenantLimits, keys: Iterable[bytes]) -> dict[bytes, str]:
        """Those of the keys that were refused lately, with the names of the limits."""
        if tenant not in self._tenants:
            return {}
        self._turn()
        known = self._of(tenant, limits)
        found = ((key, known.now.get(h := hash(key)) or known.before.get(h)) for key in keys)
        return {key: name for key, name in found if name is not None}

    def hashes(self, tenant: str, limits: TenantLimits) -> Container[int]:
        """See `KnownSeries.refused`."""
        if tenant not in self._tenants:
            return _NONE
        self._turn()
        known = self._of(tenant, limits)
        return RefusedHashes(known.now, known.before)

    def forget(self) -> None:
        """Forget everything."""
        self._tenants.clear()
        self._n_keys = 0

    def _of(self, tenant: str, limits: TenantLimits) -> _OfTenant:
        known = self._tenants.get(tenant)
        if known is None or known.limits is not limits:
            known = self._tenants[tenant] = _OfTenant(limits)
        return known

    def _turn(self) -> None:
        """Forget what is older than half a minute, once that has passed."""
        now = self._now_seconds()
        if now < self._turns_at:
            return
        self._turns_at = now + _KEPT_SECONDS
        kept = {
            tenant: _OfTenant(known.limits, {}, known.now)
            for tenant, known in self._tenants.items()
            if known.now
        }
        self._tenants = kept
        self._n_keys = sum(len(known.before) for known in kept.values())
