"""Retention classes: samples that are kept for about the same time have partitions of their own.

Class 0 is kept as long as the service keeps samples. The others have fixed times, and a metric with
a retention of its own gets the class with the shortest time that is not shorter than its own.
Readers clip exactly, so the classes decide only about disk space.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection
from sql.query_loader import load_queries
from sql.samples.columns.series_samples import SeriesSamples

QUERIES: Final = load_queries("retention")
FOREVER: Final = 0
"""A number of days that means no end."""
DEFAULT_CLASS: Final = 0
_DAYS_OF_CLASSES: Final = {1: 7, 2: 30, 3: 90, 4: 400, 5: FOREVER}


def class_for(days: int, default_days: int) -> int:
    """The class of samples kept for so many days, when the service keeps them `default_days`."""
    classes = {DEFAULT_CLASS: default_days, **_DAYS_OF_CLASSES}
    long_enough = {one: kept for one, kept in classes.items() if not is_longer(days, kept)}
    return min(long_enough, key=lambda one: (long_enough[one] == FOREVER, long_enough[one], one))


def days_of_class(retention_class: int, default_days: int) -> int:
    """How many days the samples of a class are on disk; FOREVER for those of an unknown class."""
    if retention_class == DEFAULT_CLASS:
        return default_days
    return _DAYS_OF_CLASSES.get(retention_class, FOREVER)


def is_longer(days: int, than_days: int) -> bool:
    """Whether so many days are more than others; FOREVER is more than any number of them."""
    return than_days != FOREVER and (days == FOREVER or days > than_days)


@dataclass(frozen=True, slots=True)
class TenantClasses:
    """The class of a tenant's series, and those of series (ascending ids) that have another."""

    of_others: int
    ids: IntArray
    classes: IntArray

    def by_class(self, samples: SeriesSamples) -> Iterator[tuple[int, SeriesSamples]]:
        """The samples of each class."""
        if not len(self.ids) or not len(samples):
            yield self.of_others, samples
            return
        of_series = np.full(len(samples.ids), self.of_others, np.int64)
        places = np.minimum(np.searchsorted(self.ids, samples.ids), len(self.ids) - 1)
        is_own = self.ids[places] == samples.ids
        of_series[is_own] = self.classes[places[is_own]]
        found = distinct(of_series).tolist()
        if len(found) == 1:
            yield found[0], samples
            return
        of_rows = np.repeat(of_series, np.diff(samples.offsets))
        for one in found:
            yield one, samples.where(of_rows == one)


NO_CLASSES: Final = TenantClasses(DEFAULT_CLASS, np.empty(0, np.int64), np.empty(0, np.int64))


async def classes_of(
    connection: Connection, tenant_ids: Sequence[int], first_series: int, last_series: int
) -> Mapping[int, TenantClasses]:
    """The classes of those tenants that have any but DEFAULT_CLASS, for series of some ids."""
    rows = await connection.fetch(QUERIES["classes"], tenant_ids, first_series, last_series)
    of_others = {row["tenant_id"]: row["class"] for row in rows if row["series_id"] is None}
    found = {}
    for tenant_id in {row["tenant_id"] for row in rows}:
        own = sorted(
            (row["series_id"], row["class"])
            for row in rows
            if row["tenant_id"] == tenant_id and row["series_id"] is not None
        )
        columns = np.array(own, np.int64).reshape(len(own), 2)
        default = of_others.get(tenant_id, DEFAULT_CLASS)
        found[tenant_id] = TenantClasses(default, columns[:, 0].copy(), columns[:, 1].copy())
    return found
