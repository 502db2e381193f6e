"""Recorded samples in the three systems: what they take at rest, after everything was merged.

They are loaded in a second or two by one connection, one request after the other, so that the rate
says how long a request takes, and not how much a system takes.

The file is an `.npz` with the arrays `labels` (a line of JSON for each series, as bytes), `offsets`
(of the series, one more than there are), `timestamps_delta` (the differences of all times, in ms)
and `value_bits`. The samples are moved in time, so that they end shortly before today: every system
then takes them for complete.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

import asyncpg
import numpy as np
import snappy

from promcompat.core.model import IntArray, Labels
from sql.embedded.data_folder import read_database_url, read_owner_url
from sql.samples.metric_storage import MetricStorage
from tests.benchmarks.ingest_cases import percentile
from tests.benchmarks.ingest_load import Bodies, load_process, send_load
from tests.benchmarks.ingest_report import Figures
from tests.benchmarks.ingest_systems import OURS, VICTORIA, System
from tests.benchmarks.process_usage import (
    DATABASE,
    SERVICE,
    folder_bytes,
    measure_usage,
    watched_memory,
)
from tests.benchmarks.settled_data import take_over_compaction
from tests.benchmarks.snappy_template import encode_samples
from tests.support.factories import encode_field, encode_labels
from tests.support.storage.repositories import drain_and_compact

DAY_MS: Final = 86_400_000
_BEFORE_MIDNIGHT_MS: Final = 600_000
_SECONDS_PER_REQUEST: Final = 10
_PATIENCE_SECONDS: Final = 300.0
_TABLES: Final = """
    WITH RECURSIVE part (oid) AS (
        SELECT t.name::regclass::oid
        FROM unnest($1::text[]) AS t (name)
        UNION
        SELECT i.inhrelid FROM pg_inherits AS i JOIN part AS p ON i.inhparent = p.oid
    )
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint,
        coalesce(sum(pg_indexes_size(oid)), 0)::bigint
    FROM part
"""
_OF_SAMPLES: Final = [f"promcompat.{name}" for name in ("sample_run", "sample_block")]
"""Arrivals, which are drained, do not count, nor do the logs of the others."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Samples of series, one series after the other."""

    labels: list[Labels]
    offsets: IntArray
    times: IntArray
    bits: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "Recorded":
        """The samples of a file, moved so that they end before today (UTC)."""
        with np.load(path) as arrays:
            lines = arrays["labels"].tobytes().decode().splitlines()
            labels = [Labels.of(json.loads(line)) for line in lines]
            offsets = arrays["offsets"].astype(np.int64)
            times = np.cumsum(arrays["timestamps_delta"]).astype(np.int64)
            bits = arrays["value_bits"].astype(np.uint64)
        midnight_ms = int(time.time() * 1000) // DAY_MS * DAY_MS
        moved = times + (midnight_ms - _BEFORE_MIDNIGHT_MS - int(times.max()))
        return cls(labels, offsets, moved, bits)

    def requests(self) -> Iterator[tuple[bytes, int]]:
        """Remote-write bodies of all series for some seconds each, in the order of time."""
        messages = encode_samples(self.times, self.bits.view(np.float64))
        prefixes = [encode_labels(labels) for labels in self.labels]
        step_ms = _SECONDS_PER_REQUEST * 1000
        first_ms, last_ms = int(self.times.min()), int(self.times.max())
        starts, ends = self.offsets[:-1].tolist(), self.offsets[1:].tolist()
        for end_ms in range(first_ms + step_ms, last_ms + step_ms + 1, step_ms):
            parts, n_samples = [], 0
            for series, prefix in enumerate(prefixes):
                begin = starts[series]
                end = begin + int(np.searchsorted(self.times[begin : ends[series]], end_ms))
                if end > begin:
                    parts.append(encode_field(1, prefix + messages[begin:end].tobytes()))
                    n_samples += end - begin
                starts[series] = end
            yield snappy.compress(b"".join(parts)), n_samples


def measure_recorded(system: System, requests: Bodies) -> Figures:
    """Load all samples, let the system merge what it has, stop it, and measure its files.

    The first request, which makes the series, is not part of the rate.
    """
    root, log_before = system.program.process.pid, system.log_bytes()
    first, others = (
        replace(requests, requests=part) for part in (requests.requests[:1], requests.requests[1:])
    )
    with watched_memory(root) as peak:
        with load_process() as process:
            # One connection: the order of time.
            made = process.submit(send_load, system.url, first, 1, None).result()
            used_before = measure_usage(root)
            result = process.submit(send_load, system.url, others, 1, None).result()
            used = measure_usage(root)
        log_loaded = system.log_bytes()
        at_rest, index = _settle(system)
    n_samples = made.n_samples + result.n_samples
    cpu = {
        role: (used[role].cpu_seconds - used_before[role].cpu_seconds) / (result.n_samples / 1e6)
        for role in (SERVICE, DATABASE)
    }
    figures: Figures = {
        "samples_per_second": result.samples_per_second,
        "p50_ms": percentile(result.request_ms, 50),
        "p99_ms": percentile(result.request_ms, 99),
        "service_cpu": cpu[SERVICE],
        "database_cpu": cpu[DATABASE],
        "memory_mib": sum(peak.memory_bytes.values()) / (1 << 20),
        "refused": sum(result.refused.values()),
        "n_samples": n_samples,
    }
    if log_before is not None and log_loaded is not None:
        figures["log_bytes"] = (log_loaded - log_before) / n_samples
        if system.name == OURS:
            figures["log_bytes_in_all"] = ((system.log_bytes() or 0) - log_before) / n_samples
    system.program.stop()
    if system.name == VICTORIA:
        folders = [system.data / "data", system.data / "indexdb"]
        at_rest = sum(folder_bytes(folder) for folder in folders)
        index = sum(folder_bytes(folder) for folder in system.data.rglob("indexdb"))
    figures["rest_bytes"] = at_rest / n_samples
    figures["index_bytes"] = index / n_samples
    return figures


def _settle(system: System) -> tuple[int, int]:
    """Have everything merged; the bytes of the samples with their index, and those of the index."""
    match system.name:
        case "promcompat":
            return asyncio.run(_settle_ours(system))
        case "Prometheus":
            return _snapshot_prometheus(system)
        case _:
            _merge_victoria(system)
            return 0, 0


async def _settle_ours(system: System) -> tuple[int, int]:
    """Drain and merge everything, as an hour after the end of the day, and vacuum."""
    url, owner_url = read_database_url(system.data), read_owner_url(system.data)
    assert url is not None
    storage = await MetricStorage.open(url)
    try:
        await take_over_compaction(storage)
        await drain_and_compact(storage)
        # VACUUM passes by what its role does not own, with a warning.
        connection = await asyncpg.connect(owner_url)
        await connection.execute("VACUUM")
        samples = await connection.fetchrow(_TABLES, _OF_SAMPLES)
        series = await connection.fetchrow(_TABLES, ["promcompat.series"])
        await connection.close()
        return samples[0] + series[0], samples[1] + series[0]
    finally:
        await storage.close()


def _snapshot_prometheus(system: System) -> tuple[int, int]:
    """Blocks of everything, as compaction would write them, and their index."""
    answer = json.loads(_post(f"{system.url}/api/v1/admin/tsdb/snapshot"))
    blocks = system.data / "snapshots" / answer["data"]["name"]
    chunks = sum(folder_bytes(folder) for folder in blocks.glob("*/chunks"))
    index = sum(path.stat().st_size for path in blocks.glob("*/index"))
    return chunks + index, index


def _merge_victoria(system: System) -> None:
    _post(f"{system.url}/internal/force_flush")
    _post(f"{system.url}/internal/force_merge")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    time.sleep(1)
    while "vm_active_force_merges 0" not in _post(f"{system.url}/metrics", "GET"):
        if time.monotonic() > deadline:
            raise TimeoutError("VictoriaMetrics still merges")
        time.sleep(0.5)


def _post(url: str, method: str = "POST") -> str:
    with urlopen(Request(url, method=method), timeout=_PATIENCE_SECONDS) as response:
        return str(response.read().decode())
