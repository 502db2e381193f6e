"""`promcompat export` and `promcompat import-parquet`: samples of a tenant to Parquet and back."""

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from promcompat.api.params import MAX_TIME_MS, MIN_TIME_MS
from promcompat.configuration.settings import Settings
from promcompat.core.errors import OverloadedError, StaleKnowledgeError, WriteRejectedError
from promcompat.core.model import WriteBatch
from promcompat.http.context import DEFAULT_TENANT
from promcompat.imports.parquet_file import ParquetReader, ParquetWriter
from promcompat.metrics.sample_stream import sample_portions
from promcompat.processes.command_storage import command_storage
from promcompat.processes.times import times_of_flags
from promql.parsing.parser import parse_metric_selector
from sql.samples.metric_storage import MetricStorage

_SAMPLES_AT_ONCE: Final = 2_000_000
_REPORT_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 1.0


def run_parquet_command(options: argparse.Namespace, settings: Settings) -> int:
    """Run one of them; progress goes to standard error. Raises PromcompatError."""
    file = Path(options.file).expanduser().absolute()
    tenant = options.tenant or DEFAULT_TENANT
    settings = settings.model_copy(update={"query_max_samples": _SAMPLES_AT_ONCE})
    if options.command == "export":
        uvloop.run(_export(tenant, options, settings, file))
        return 0
    return uvloop.run(_import(tenant, settings, file))


async def _export(tenant: str, options: argparse.Namespace, settings: Settings, file: Path) -> None:
    matchers = parse_metric_selector(options.match) if options.match else ()
    start_ms, end_ms = times_of_flags(options.start, options.end, MIN_TIME_MS, MAX_TIME_MS)
    progress = _Progress("exported")
    with ParquetWriter(file) as writer:
        async with command_storage(settings) as storage:
            bounds = tenant, matchers, start_ms, end_ms
            async for block in sample_portions(storage.store, *bounds):
                await asyncio.to_thread(writer.write, block)
                progress.add(len(block.timestamps))
    progress.finish()


async def _import(tenant: str, settings: Settings, file: Path) -> int:
    """Returns 1 when samples were refused."""
    reader, progress, n_refused = ParquetReader(file), _Progress("imported"), 0
    progress.n_expected = reader.n_rows
    async with command_storage(settings) as storage:
        batches = reader.batches()
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            n_refused += await _write(storage, tenant, batch)
            progress.add(len(batch))
    progress.finish()
    if n_refused:
        sys.stderr.write(
            f"promcompat: {n_refused:,} samples were not stored: the database has other values at "
            "their times, or their labels cannot be stored\n"
        )
    return 1 if n_refused else 0


async def _write(storage: MetricStorage, tenant: str, batch: WriteBatch) -> int:
    """Write a batch, and wait while too much is not drained; returns how many were refused."""
    while True:
        try:
            await storage.store.write_batch(tenant, batch)
        except WriteRejectedError as exc:
            return len(exc.rows) + len(exc.refused)
        except StaleKnowledgeError:
            continue
        except OverloadedError:
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return 0
        finally:
            await storage.drains.drainer.drain_due()


@dataclass(slots=True)
class _Progress:
    """Shows every few seconds how far the work is."""

    verb: str
    n_samples: int = 0
    n_expected: int = 0
    shown_at: float = 0.0

    def add(self, n_samples: int) -> None:
        """Count samples."""
        self.n_samples += n_samples
        now = time.monotonic()
        if now - self.shown_at >= _REPORT_SECONDS:
            self.shown_at = now
            of_all = f" of {self.n_expected:,}" if self.n_expected else ""
            sys.stderr.write(f"{self.n_samples:,}{of_all} samples {self.verb}\n")

    def finish(self) -> None:
        """Show the total."""
        sys.stderr.write(f"{self.n_samples:,} samples {self.verb}.\n")
