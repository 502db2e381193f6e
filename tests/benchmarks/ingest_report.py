"""The figures of `ingest_bench` as a table in Markdown, with the machine they are from."""

import platform
from collections.abc import Mapping, Sequence
from os import cpu_count
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks.ingest_systems import OURS, PROMETHEUS, VICTORIA

Figures = dict[str, float | int | None]
"""What one run of one system measured; None where a system does not have it."""

_ROWS: Final = {
    "samples_per_second": "samples/s",
    "slowest_tenth": "samples/s in the slowest tenth of the time",
    "p50_ms": "p50 of a request, ms",
    "p99_ms": "p99 of a request, ms",
    "mean_ms": "mean of a request, ms",
    "service_cpu": "CPU seconds per million samples, service",
    "database_cpu": "CPU seconds per million samples, database",
    "memory_mib": "peak memory, MiB",
    "head_mib": "of which samples in the head at the end, MiB",
    "stored_bytes": "bytes on disk a sample, without the log",
    "rest_bytes": "bytes on disk a sample after merging, index included",
    "index_bytes": "of which index",
    "log_bytes": "bytes of write-ahead log a sample",
    "log_bytes_in_all": "bytes of write-ahead log a sample, draining and merging included",
    "written_bytes": "bytes written to the disk a sample, by all programs",
    "pending": "waiting in the sender at the end",
    "refused": "refused requests, or samples the sender gave up",
    "undrained": "samples not yet drained at the end",
    "generator_cores": "cores the load generator used",
}


def format_markdown(measured: Mapping[str, Mapping[str, Sequence[Figures]]]) -> str:
    """A table for each case: medians, and ours as a multiple of the others'."""
    parts = [describe_machine()]
    for case, systems in measured.items():
        names = list(systems)
        ratios = [f"÷ {name}" for name in names if name != OURS and OURS in systems]
        n_runs = max(len(runs) for runs in systems.values())
        header = [f"{case}, medians of {n_runs}", *names, *ratios]
        lines = [header, ["---", *("--:" for _ in header[1:])]]
        lines += [_row(key, title, systems) for key, title in _ROWS.items()]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines if line))
    return "\n\n".join(parts) + "\n"


def ratios(systems: Mapping[str, Sequence[Figures]]) -> dict[str, dict[str, float]]:
    """Our medians as multiples of each other system's, by system and figure."""
    if OURS not in systems:
        return {}
    return {
        name: {
            key: ours / theirs
            for key in _ROWS
            if (ours := _median(systems[OURS], key)) is not None and (theirs := _median(runs, key))
        }
        for name, runs in systems.items()
        if name != OURS
    }


def _row(key: str, title: str, systems: Mapping[str, Sequence[Figures]]) -> list[str]:
    medians = {name: _median(runs, key) for name, runs in systems.items()}
    if all(value is None for value in medians.values()):
        return []
    ours = medians.get(OURS)
    ratios = [
        "" if ours is None or not theirs else f"{ours / theirs:.2f}"
        for name, theirs in medians.items()
        if name in (PROMETHEUS, VICTORIA) and OURS in medians
    ]
    return [title, *map(_format, medians.values()), *ratios]


def _median(runs: Sequence[Figures], key: str) -> float | None:
    values = [value for run in runs if (value := run.get(key)) is not None]
    return median(values) if values else None


def _format(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


def describe_machine() -> str:
    """The processor, the cores, the memory and the kernel."""
    processor = platform.machine()
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    kilobytes = next(
        (int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal:")),
        0,
    )
    return (
        f"{cpu_count()} cores of {processor}, {kilobytes / (1 << 20):.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []
