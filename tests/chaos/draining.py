"""`python -m tests.chaos.draining URL STORE`: drains and merges the little that tests write.

A service drains when a hundred megabytes have arrived, which a short test never has. This process
does the same work all the time, in small transactions, so that it can be killed in the middle.
"""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from promcompat.core.errors import PromcompatError
from sql.samples.draining.drainer import DrainOptions
from sql.samples.storage_options import StoreKind
from tests.support.storage.repositories import drain_and_compact, opened_storage

_SMALL: Final = DrainOptions(start_bytes=0, start_arrivals=0, max_arrivals=16)
_PAUSE_SECONDS: Final = 0.2


async def drain_forever(url: str, store: StoreKind) -> None:
    """Again and again, whatever happens to the database."""
    while True:
        try:
            async with opened_storage(url, store=store, drains=_SMALL) as storage:
                while True:
                    await drain_and_compact(storage)
                    await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS))
        except PromcompatError as exc:
            sys.stderr.write(f"{exc}\n")
            await asyncio.sleep(_PAUSE_SECONDS)


async def drain_once(url: str, store: StoreKind) -> None:
    """Everything, so that nothing is left in arrivals."""
    async with opened_storage(url, store=store, drains=_SMALL) as storage:
        await drain_and_compact(storage)


@dataclass(slots=True)
class DrainerProcess:
    """The process that drains, started again after it was killed."""

    url: str
    store: StoreKind
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, "-m", "tests.chaos.draining", self.url, self.store]
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)


@contextmanager
def running_drainer(url: str, store: StoreKind, folder: Path) -> Iterator[DrainerProcess]:
    """A process that drains for as long as the block lasts."""
    drainer = DrainerProcess(url, store, folder / "drainer.log")
    drainer.start()
    try:
        yield drainer
    finally:
        drainer.kill()


if __name__ == "__main__":
    asyncio.run(drain_forever(sys.argv[1], StoreKind(sys.argv[2])))
