"""Which series keep the last of several samples with one time, instead of the first."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from promcompat.core.model import BoolArray, IntArray
from sql.caching.series_column import SeriesColumn
from sql.database.connection_pool import Pool, acquired
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("definitions")
_MAX_SERIES: Final = 1_000_000
_UNKNOWN: Final = -1


class DuplicatePolicies:
    """The policies of the tenants that this process writes for.

    They may be out of date: whoever relies on them has the statement that stores samples compare
    `versions`, and calls `forget` when it refuses.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._versions: dict[int, int] = {}
        self._with_last: dict[int, SeriesColumn] = {}

    async def versions(self, tenant_ids: Sequence[int]) -> Mapping[int, int]:
        """The version of each tenant's definitions that is known here; 0 if it has none."""
        # Repeated, because another commit may forget some of the others meanwhile.
        while missing := [tenant for tenant in tenant_ids if tenant not in self._versions]:
            async with acquired(self._pool) as connection:
                rows = await connection.fetch(_QUERIES["policy_versions"], missing)
            for row in rows:
                self._versions[row["tenant_id"]] = row["version"]
                self._with_last.pop(row["tenant_id"], None)
                if row["has_last_wins"]:
                    self._with_last[row["tenant_id"]] = SeriesColumn(_MAX_SERIES)
        return {tenant: self._versions[tenant] for tenant in tenant_ids}

    def forget_all(self) -> None:
        """Read all definitions again: the database was set back, and so were the versions."""
        self._versions.clear()
        self._with_last.clear()

    def forget(self, tenant_ids: Sequence[int]) -> None:
        """Read the definitions of these tenants again."""
        for tenant in tenant_ids:
            self._versions.pop(tenant, None)
            self._with_last.pop(tenant, None)

    def may_keep_last(self, tenant_id: int) -> bool:
        """Whether a definition of the tenant keeps the last sample; ask for `versions` before."""
        return tenant_id in self._with_last

    async def keeps_last(self, tenant_id: int, series_ids: IntArray) -> BoolArray | None:
        """Which series keep the last sample; None when no series of the tenant does.

        The ids ascend strictly, and `versions` has been asked for the tenant.
        """
        known = self._with_last.get(tenant_id)
        if known is None:
            return None
        flags = known.get(series_ids, _UNKNOWN)
        unknown = series_ids[flags == _UNKNOWN]
        if len(unknown):
            async with acquired(self._pool) as connection:
                rows = await connection.fetch(_QUERIES["last_wins_series"], unknown.tolist())
            last = np.array([row["id"] for row in rows], np.int64)
            flags[flags == _UNKNOWN] = np.isin(unknown, last)
            known.put(series_ids, flags)
        return np.asarray(flags == 1)
