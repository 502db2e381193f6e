"""`make fuzz`: attacks a service with all known attacks, then with random requests for a while.

`python -m tests.hostile [--seconds N] [--seed S] [--only TEXT]`. Prints the seed of each round: the
same seed makes the same requests. Ends with 1 when something went wrong, after its time is over.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from promcompat.core.cache_folder import default_cache_folder
from sql.embedded.distributions import install_timescaledb
from tests.hostile.attacks import ATTACKS
from tests.hostile.campaign import carry_out, send_all
from tests.hostile.generator import RequestMaker
from tests.hostile.service import (
    MAX_RESIDENT_BYTES,
    MEBIBYTE,
    AttackedService,
    attacked_service,
    max_health_seconds,
)
from tests.servers import run_server

_N_EACH = 20


async def attack(service: AttackedService, only: str) -> int:
    """Carry out the known attacks whose names hold a text; how many faults there were."""
    n_faults = 0
    for known in ATTACKS:
        if only not in known.name:
            continue
        started = time.monotonic()
        faults = await carry_out(service, known)
        worst = service.worst_health_seconds(started)
        say(
            f"{known.name}: {time.monotonic() - started:.1f} s, worst health {worst:.3f} s, "
            f"resident {service.resident_bytes // MEBIBYTE} MiB, "
            f"peak {service.peak_resident_bytes // MEBIBYTE} MiB"
        )
        n_faults += tell(faults)
    return n_faults


async def fuzz(service: AttackedService, seed: int, seconds: float) -> int:
    """Random requests until the time is over; how many faults there were."""
    n_faults = 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        started = time.monotonic()
        say(f"seed {seed}")
        n_faults += tell(await send_all(service, RequestMaker(seed).requests(_N_EACH)))
        worst = service.worst_health_seconds(started)
        peak = service.peak_resident_bytes
        say(f"worst health {worst:.3f} s, peak {peak // MEBIBYTE} MiB, answers {service.answers}")
        n_faults += (worst > 5 * max_health_seconds()) + (peak > MAX_RESIDENT_BYTES)
        seed += 1
    return n_faults


def tell(faults: Sequence[str]) -> int:
    """Print faults; how many there are."""
    for fault in faults:
        say(f"  FAULT {fault}")
    return len(faults)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def campaign(service: AttackedService, options: argparse.Namespace) -> int:
    """Everything; how many faults there were."""
    n_faults = await attack(service, options.only)
    return n_faults + await fuzz(service, options.seed, options.seconds)


def main() -> int:
    """Attack; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    distribution = install_timescaledb(default_cache_folder(), say)
    with tempfile.TemporaryDirectory(prefix="promcompat-fuzz-") as name:
        folder = Path(name)
        # The database runs as an ordinary user, who must get there.
        folder.chmod(0o755)
        (folder / "database").mkdir()
        with (
            run_server("timescaledb", distribution, folder / "database", say) as server,
            attacked_service(server.create_database(), folder) as service,
        ):
            return int(asyncio.run(campaign(service, options)) > 0)


if __name__ == "__main__":
    sys.exit(main())
