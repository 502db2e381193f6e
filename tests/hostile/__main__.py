"""`make fuzz`: attacks services with all known attacks, then with random requests for a while.

`python -m tests.hostile [--seconds N] [--requests N] [--seed S] [--only TEXT] [--access MODE]`. One
service is for everybody, the other for who has a token: requests then have tokens of each role, of
another tenant, wrong ones or none. Prints the seed of each round: the same seed makes the same
requests. Ends with 1 when something went wrong, after its time is over.
"""

import argparse
import asyncio
import math
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
from tests.support.programs.servers import run_server

_N_EACH = 20
_SECONDS = 300
_N_ERRORS = 10
_MODES = ("off", "tokens")
_SETTLED_REQUESTS = 20_000
"""After so many, caches are full and the allocator has what it needs."""
_MAX_GROWTH_BYTES = 150 * MEBIBYTE


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


@dataclass(slots=True)
class Memory:
    """Watches that memory does not grow with the number of requests."""

    first_bytes: int = 0

    def fault(self, service: AttackedService) -> str:
        """What is wrong after a round; the first rounds fill caches."""
        now_bytes = service.resident_bytes
        if service.n_answers >= _SETTLED_REQUESTS and not self.first_bytes:
            self.first_bytes = now_bytes
        if self.first_bytes and now_bytes > self.first_bytes + _MAX_GROWTH_BYTES:
            grown = (now_bytes - self.first_bytes) // MEBIBYTE
            return f"memory has grown by {grown} MiB since {_SETTLED_REQUESTS} requests"
        return ""


async def fuzz(service: AttackedService, seed: int, seconds: float, n_requests: int) -> int:
    """Random requests until the time is over, or there were so many; how many faults there were."""
    n_faults, memory = 0, Memory()
    begun = time.monotonic()
    while time.monotonic() < begun + seconds and service.n_answers < n_requests:
        started = time.monotonic()
        say(f"seed {seed}")
        maker = RequestMaker(seed, service.credentials)
        n_faults += tell(await send_all(service, maker.requests(_N_EACH)))
        worst = service.worst_health_seconds(started)
        peak = service.peak_resident_bytes
        say(
            f"worst health {worst:.3f} s, resident {service.resident_bytes // MEBIBYTE} MiB, "
            f"peak {peak // MEBIBYTE} MiB, {service.n_answers} requests, "
            f"{service.n_answers / (time.monotonic() - begun):.0f}/s, answers {service.answers}"
        )
        n_faults += (worst > 5 * max_health_seconds()) + (peak > MAX_RESIDENT_BYTES)
        n_faults += tell([fault] if (fault := memory.fault(service)) else [])
        seed += 1
    return n_faults


def say_errors(log: Path) -> None:
    """Print the last errors that the service logged."""
    errors = [line for line in log.read_text(errors="replace").splitlines() if "=error" in line]
    for line in errors[-_N_ERRORS:]:
        say(f"  LOG {line}")


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
    begun, first_bytes = time.monotonic(), service.resident_bytes
    # The known attacks have no token.
    n_faults = await attack(service, options.only) if service.credentials == ("",) else 0
    n_modes = len(options.access)
    seconds = (options.seconds or _default_seconds(options)) / n_modes
    n_requests = -(-options.requests // n_modes) if options.requests else sys.maxsize
    n_faults += await fuzz(service, options.seed, seconds, n_requests)
    summarize(service, time.monotonic() - begun, first_bytes, n_faults)
    return n_faults


def _default_seconds(options: argparse.Namespace) -> float:
    return math.inf if options.requests else _SECONDS


def summarize(service: AttackedService, seconds: float, first_bytes: int, n_faults: int) -> None:
    """Print what was sent, how it was answered, what took longest, and the service's memory."""
    answers = sorted(service.answers.items())
    by_status = ", ".join(f"{status or 'cut'}: {n}" for status, n in answers)
    n_5xx = sum(n for status, n in answers if status >= 500) - service.n_as_prometheus
    say(f"SUMMARY {service.n_answers} requests in {seconds:.0f} s, {n_faults} faults")
    say(
        f"  by status: {by_status}; of 5xx, {service.n_as_prometheus} are of APIs that are off, "
        f"and {n_5xx} others"
    )
    for head in service.cut:
        say(f"  no answer: {head!r}")
    for took, name in service.slowest:
        say(f"  slowest: {took:.2f} s {name!r}")
    say(
        f"  resident memory: {first_bytes // MEBIBYTE} MiB at the start, "
        f"{service.resident_bytes // MEBIBYTE} MiB at the end, "
        f"peak {service.peak_resident_bytes // MEBIBYTE} MiB"
    )


def main() -> int:
    """Attack; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"for both modes together; {_SECONDS} if no number of requests is given",
    )
    parser.add_argument("--requests", type=int, help="about so many, for both modes together")
    parser.add_argument("--access", choices=_MODES, nargs="+", default=_MODES)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    distribution = install_timescaledb(default_cache_folder(), say)
    with tempfile.TemporaryDirectory(prefix="promcompat-fuzz-") as name:
        folder = Path(name)
        # The database runs as an ordinary user, who must get there.
        folder.chmod(0o755)
        (folder / "database").mkdir()
        n_faults = 0
        with run_server("timescaledb", distribution, folder / "database", say) as server:
            for mode in options.access:
                say(f"PROMCOMPAT_ACCESS={mode}")
                (folder / mode).mkdir()
                url, has_access = server.create_database(), mode == "tokens"
                with attacked_service(url, folder / mode, has_access=has_access) as service:
                    n_found = asyncio.run(campaign(service, options))
                if n_found:
                    say_errors(service.program.log)
                n_faults += n_found
        return int(n_faults > 0)


if __name__ == "__main__":
    sys.exit(main())
