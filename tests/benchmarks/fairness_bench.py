"""`make bench-fairness`: what a tenant at five times its limits costs another one.

One service, two tenants. The quiet one writes, queries and has rules, in turn alone and beside the
noisy one, which asks for five times its limits of series, samples, queries and rules. Nothing is
asserted: figures of a shared machine are for people to judge, as the ratio of one run.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from conformance.processes import running_promcompat
from tests.benchmarks.fairness_load import Comparison, Load, compare


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.fairness_bench", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=10, help="measurements of either kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="promcompat-bench-") as name:
        folder = Path(name)
        # The database runs as an ordinary user, who must get there.
        folder.chmod(0o755)
        with running_promcompat(
            None, folder / "promcompat.log", data_dir=str(folder / "data"), tenancy="header"
        ) as service:
            found = asyncio.run(compare(service.url, Load(), options.seconds, options.rounds))
    _print(found)
    return 0


def _print(found: Comparison) -> None:
    for of in (50, 99):
        alone, beside = found.alone.percentiles(of), found.beside.percentiles(of)
        for what, quiet_ms in alone.items():
            busy_ms = beside.get(what, float("nan"))
            sys.stdout.write(
                f"{what}: p{of} alone {quiet_ms:.1f} ms, beside a noisy tenant {busy_ms:.1f} ms, "
                f"ratio {busy_ms / quiet_ms:.2f}\n"
            )
    for (what, status), number in sorted(found.noisy_statuses.items()):
        sys.stdout.write(f"noisy tenant, {what}: {number} answers {status}\n")


if __name__ == "__main__":
    sys.exit(main())
