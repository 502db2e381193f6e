"""`promcompat migrate-store`: the rows of an older installation are moved into blocks."""

import sys
import time

import uvloop

from promcompat.composition.options import database_options, storage_options
from promcompat.configuration.settings import Settings
from promcompat.database import SHORT, migrate_when_answering, own_database, owner_url
from sql.database.database import Database
from sql.samples.store_move import MoveProgress, StoreMove

_REPORT_SECONDS = 5.0


def run_migrate_store(settings: Settings) -> int:
    """Move all rows, with progress on standard output. Raises PromcompatError.

    It may be stopped at any moment and started again.
    """
    n_moved = uvloop.run(_migrate_store(settings))
    sys.stdout.write(f"{n_moved:,} samples moved. The samples of this database are in blocks.\n")
    return 0


async def _migrate_store(settings: Settings) -> int:
    async with own_database(settings):
        await migrate_when_answering(settings, SHORT)
        database = await Database.open(owner_url(settings), database_options(settings))
        try:
            options = storage_options(settings)
            report = _ProgressReport().show
            move = await StoreMove.of(database, options.drains, options.now_ms, report)
            return await move.run()
        finally:
            await database.close()


class _ProgressReport:
    """Shows progress every few seconds."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown_at = self._started
        self._first: int | None = None

    def show(self, progress: MoveProgress) -> None:
        """Show how far the move is, unless that was shown just now."""
        now = time.monotonic()
        if self._first is None:
            self._first = progress.n_moved
        if now - self._shown_at < _REPORT_SECONDS:
            return
        self._shown_at = now
        rate = (progress.n_moved - self._first) / (now - self._started)
        line = (
            f"{progress.n_moved:,} of about {progress.n_expected:,} samples moved, "
            f"{rate:,.0f}/s, now {progress.chunk}"
        )
        if rate > 0:
            minutes = (progress.n_expected - progress.n_moved) / rate / 60
            line += f", about {minutes:,.0f} min left"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
