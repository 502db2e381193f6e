"""Slots: the partitions of blocks, one for each retention class and UTC day, and one for far days.

A class has samples that are kept for about the same time, so that its partitions are dropped as a
whole.
"""

from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS, MS_PER_DAY

N_CLASSES: Final = 8
FAR_SLOT: Final = -(2**30)
"""The slot of samples that are far from now, of any day and class."""


def slot_of(day: int, retention_class: int = 0) -> int:
    """The slot of a UTC day (since 1970-01-01) and a class."""
    return N_CLASSES * day + retention_class


def day_of_slot(slot: int) -> int:
    """The UTC day of a slot; a day before all others for FAR_SLOT."""
    return slot // N_CLASSES


def class_of_slot(slot: int) -> int:
    """The retention class of a slot that is not FAR_SLOT."""
    return slot % N_CLASSES


def slots_between(first_ms: int, last_ms: int) -> tuple[int, int]:
    """The first and last slot near now with times of a range, both inclusive."""
    first_ms, last_ms = max(first_ms, MIN_TIMESTAMP_MS), min(last_ms, MAX_TIMESTAMP_MS)
    return slot_of(first_ms // MS_PER_DAY), slot_of(last_ms // MS_PER_DAY, N_CLASSES - 1)


def day_of(time_ms: int) -> int:
    """The UTC day of a time, within the days that a column can hold."""
    return max(-(2**31), min(time_ms // MS_PER_DAY, 2**31 - 1))


def first_whole_days(from_ms: IntArray) -> IntArray:
    """The first UTC day (since 1970-01-01) that begins at or after each time."""
    return np.asarray(-(-from_ms // MS_PER_DAY))
