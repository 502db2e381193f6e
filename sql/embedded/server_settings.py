"""PostgreSQL settings of the embedded server, scaled to the machine."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MEBIBYTE = 1024 * 1024
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the settings are scaled to."""

    memory_bytes: int
    cores: int
    free_disk_bytes: int


def memory_bytes() -> int:
    """The memory of this machine, or the container's limit."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if _CGROUP_LIMIT.is_file():
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
        found = min(found, int(limit)) if limit.isdigit() else found
    return found


def measure_machine(data_folder: Path) -> Machine:
    """Return this machine's memory (or the container's limit), usable cores and free disk."""
    return Machine(
        memory_bytes=memory_bytes(),
        cores=os.cpu_count() or 1,
        free_disk_bytes=shutil.disk_usage(data_folder).free,
    )


LEAST_MAX_CONNECTIONS: Final = 100


def tune_settings(
    machine: Machine,
    *,
    has_timescaledb: bool,
    has_lz4: bool,
    max_connections: int = LEAST_MAX_CONNECTIONS,
) -> dict[str, str]:
    """Return settings for a metrics database that shares the machine with the service."""
    memory = machine.memory_bytes // _MEBIBYTE
    settings = {
        "max_connections": str(max_connections),
        # Samples are appended, read once and moved, which any size serves: with 256 MB instead of
        # 2 GB, neither ingest nor a million new series took longer. What is evicted from here, the
        # system still has in memory as long as nothing else needs it.
        "shared_buffers": _mebibytes(memory // 4, at_least=64, at_most=256),
        "effective_cache_size": _mebibytes(memory // 2, at_least=128),
        "maintenance_work_mem": _mebibytes(memory // 16, at_least=32, at_most=1024),
        "work_mem": _mebibytes(memory // 256, at_least=4, at_most=32),
        # Ingest is a steady stream of commits; few, long checkpoints write the fewest full pages.
        "max_wal_size": _mebibytes(
            machine.free_disk_bytes // _MEBIBYTE // 10, at_least=512, at_most=8192
        ),
        "min_wal_size": "256MB",
        "checkpoint_timeout": "15min",
        "checkpoint_completion_target": "0.9",
        # A 2xx answer promises that the samples survive a crash.
        "synchronous_commit": "on",
        "max_worker_processes": str(8 + 2 * machine.cores),
        "max_parallel_workers": str(machine.cores),
        "max_parallel_workers_per_gather": str(max(1, machine.cores // 2)),
        # A query over a long range locks every chunk it plans.
        "max_locks_per_transaction": "512",
        "random_page_cost": "1.1",
        # Compiling costs more than a metrics query runs, and Debian's LLVM is not installed.
        "jit": "off",
        # The only zone that needs no zone files, which slim systems lack; same offset as UTC.
        "timezone": "GMT",
        "log_timezone": "GMT",
        "log_line_prefix": "%m [%p] ",
        "log_min_duration_statement": "5s",
    }
    if has_lz4:
        settings["wal_compression"] = "lz4"
    if has_timescaledb:
        settings["shared_preload_libraries"] = "timescaledb"
        settings["timescaledb.telemetry_level"] = "off"
        settings["timescaledb.max_background_workers"] = "4"
    return settings


def render_settings(settings: Mapping[str, str]) -> str:
    """Return `settings` in the syntax of postgresql.conf."""
    lines = ("{} = '{}'".format(name, value.replace("'", "''")) for name, value in settings.items())
    return "\n".join(lines) + "\n"


def _mebibytes(amount: int, *, at_least: int, at_most: int | None = None) -> str:
    amount = max(amount, at_least)
    return f"{amount if at_most is None else min(amount, at_most)}MB"
