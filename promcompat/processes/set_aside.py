"""`promcompat set-aside`: shows, retries and drops the arrivals that drains could not move."""

import sys
from collections.abc import Sequence

import uvloop

from promcompat.composition.storage import open_storage
from promcompat.configuration.settings import Settings
from promcompat.core.texts.times import format_time_briefly
from promcompat.database import SHORT
from sql.samples.draining.arrivals_aside import ArrivalAside, ArrivalsAside

_KINDS = {1: "samples", 2: "replacing samples", 3: "deletion"}


def run_set_aside(settings: Settings, *, retries: bool, dropped: Sequence[int]) -> int:
    """Retry or drop if asked to, then list what is left; 1 if an arrival to drop was not there.

    Raises PromcompatError.
    """
    return uvloop.run(_run(settings, retries, dropped))


async def _run(settings: Settings, retries: bool, dropped: Sequence[int]) -> int:
    async with open_storage(settings, SHORT) as storage:
        aside, n_missing = storage.drains.aside, 0
        for arrival_id in dropped:
            n_missing += not await _drop(aside, arrival_id)
        if retries:
            result = await aside.retry()
            busy = "; another process drains, try again" if result.is_busy else ""
            sys.stdout.write(f"{result.n_moved} moved, {result.n_left} still set aside{busy}\n")
        found = await aside.list()
        sys.stdout.writelines(f"{_line_of(arrival)}\n" for arrival in found)
        if not found:
            sys.stdout.write("nothing is set aside\n")
    return 1 if n_missing else 0


async def _drop(aside: ArrivalsAside, arrival_id: int) -> bool:
    is_dropped = await aside.drop(arrival_id)
    text = "dropped" if is_dropped else "no such arrival is set aside"
    sys.stdout.write(f"{arrival_id}: {text}\n")
    return is_dropped


def _line_of(arrival: ArrivalAside) -> str:
    kind = _KINDS.get(arrival.kind, f"kind {arrival.kind}")
    return (
        f"{arrival.id}: {kind} of tenant {arrival.tenant or '(removed)'}, "
        f"{arrival.n_samples:,} samples from {format_time_briefly(arrival.first_ms)} to "
        f"{format_time_briefly(arrival.last_ms)}, {arrival.n_bytes:,} bytes, "
        f"arrived {arrival.appended_at:%Y-%m-%d %H:%M:%S} UTC"
    )
