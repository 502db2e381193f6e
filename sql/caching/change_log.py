"""When samples of which times last changed, for caches of answers.

A process learns of changes as it reads the log of arrivals. It numbers what it has learned by
versions, which mean nothing to other processes. Whatever was read after a version was taken is
valid until samples that it depends on change under a later version.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.ports import ALL_TIME, SampleState, TimeRange

_NARROWEST_MS: Final = 1 << 14
"""16 seconds. Bounds how much older samples seem to change with those of now."""
_WIDEST: Final = 49
_MAX_BUCKETS: Final = 8_192
"""For each tenant: a day and a half of steady writes; 100 bytes each."""


class _TenantChanges:
    """The version of the last change by bucket of time.

    A bucket is of one of several widths, each twice the one before, so that a change of any length
    falls into at most two. `known_since` is the version since which all changes are known.
    """

    __slots__ = ("_versions", "known_since")

    def __init__(self, known_since: int) -> None:
        self._versions: dict[tuple[int, int], int] = {}
        self.known_since = known_since

    def add(self, first_ms: int, last_ms: int, version: int) -> None:
        first_ms, last_ms = max(first_ms, ALL_TIME[0]), min(last_ms, ALL_TIME[1])
        width = 0
        while width < _WIDEST and (_NARROWEST_MS << width) <= last_ms - first_ms:
            width += 1
        width_ms = _NARROWEST_MS << width
        for number in range(first_ms // width_ms, last_ms // width_ms + 1):
            self._versions[width, number] = version
        if len(self._versions) > _MAX_BUCKETS:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        versions = np.fromiter(self._versions.values(), np.int64, len(self._versions))
        self.known_since = max(self.known_since, int(np.median(versions)))
        newer = {key: one for key, one in self._versions.items() if one > self.known_since}
        self._versions = newer

    def since(self, version: int) -> list[TimeRange]:
        if version < self.known_since:
            return [ALL_TIME]
        ranges = []
        for (width, number), changed in self._versions.items():
            if changed > version:
                width_ms = _NARROWEST_MS << width
                ranges.append((number * width_ms, (number + 1) * width_ms - 1))
        return joined_ranges(ranges)


def joined_ranges(ranges: Sequence[TimeRange]) -> list[TimeRange]:
    """The same times as ranges that are apart, ascending."""
    joined: list[TimeRange] = []
    for first_ms, last_ms in sorted(ranges):
        if joined and first_ms <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last_ms)
        else:
            joined.append((first_ms, last_ms))
    return joined


class ChangeLog:
    """The changes of all tenants that this process has learned of.

    A change under version `n` makes stale what was read under an earlier one.
    """

    def __init__(self) -> None:
        self.version = 0
        self._known_since = 0
        self._tenants: defaultdict[int, _TenantChanges] = defaultdict(
            lambda: _TenantChanges(self._known_since)
        )

    def advance(self) -> None:
        """Begin the next version."""
        self.version += 1

    def add(self, tenant_id: int, first_ms: int, last_ms: int) -> None:
        """Samples of these times changed, both inclusive, under the present version."""
        self._tenants[tenant_id].add(first_ms, last_ms, self.version)

    def forget(self) -> None:
        """Begin a version since which nothing is known: whatever was read before is stale."""
        self.version += 1
        self._known_since = self.version
        self._tenants.clear()

    def since(self, tenant_id: int, version: int) -> list[TimeRange]:
        """The times whose samples changed under later versions: ranges that are apart, ascending.

        Bounds are inclusive. The ranges may cover more than what changed.
        """
        if version < self._known_since:
            return [ALL_TIME]
        tenant = self._tenants.get(tenant_id)
        return tenant.since(version) if tenant is not None else []


@dataclass(frozen=True, slots=True)
class ChangeLogState(SampleState):
    """A version of a log; `tenant_id` is None for an unknown tenant."""

    log: ChangeLog
    tenant_id: int | None
    version: int

    @property
    def settled_ms(self) -> int:
        """The log has the changes of all times."""
        return ALL_TIME[1]

    def changed_since(self, earlier: SampleState) -> Sequence[TimeRange]:
        """The times that changed under later versions, which may be later than this one."""
        assert isinstance(earlier, ChangeLogState)
        if earlier.tenant_id != self.tenant_id:
            return [ALL_TIME]
        if self.tenant_id is None:
            return []
        return self.log.since(self.tenant_id, earlier.version)
