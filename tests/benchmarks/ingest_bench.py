"""`python -m tests.benchmarks.ingest_bench`: remote write beside Prometheus and VictoriaMetrics.

The systems run one after the other, each alone and with an empty store, and take the same requests:
2,000 samples each over 4 connections. The load comes from a process of its own, whose share of the
cores is shown. Nothing is asserted: figures of a shared machine are for people to judge, as ratios
of one run.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.ingest_cases import (
    LOADS,
    PATHS,
    Load,
    LoadSizes,
    histogram_requests,
    percentile,
)
from tests.benchmarks.ingest_load import Bodies, LoadResult, load_process, send_load
from tests.benchmarks.ingest_recorded import Recorded, measure_recorded
from tests.benchmarks.ingest_report import Figures, describe_machine, format_markdown, ratios
from tests.benchmarks.ingest_senders import SENDERS, measure_sender
from tests.benchmarks.ingest_systems import SYSTEMS, System, running_system
from tests.benchmarks.process_usage import (
    DATABASE,
    SERVICE,
    Usage,
    device_written_bytes,
    measure_usage,
    watched_memory,
)

RECORDED: Final = "recorded"
HISTOGRAMS_AT_REST: Final = "histograms-at-rest"
"""500 series of native histograms for 100 minutes, everything merged."""
CASES: Final = (*LOADS, *SENDERS, RECORDED, HISTOGRAMS_AT_REST)
_ONCE: Final = ("sustained", RECORDED, HISTOGRAMS_AT_REST)
_DEFAULT_CASES: Final = ("steady", "wide", "churn", "prometheus", "vmagent")


@dataclass(frozen=True, slots=True)
class Before:
    """What a system had used and stored when the clock started."""

    usage: dict[str, Usage]
    log_bytes: int | None
    device_bytes: int | None

    @classmethod
    def of(cls, system: System) -> "Before":
        return cls(
            measure_usage(system.program.process.pid),
            system.log_bytes(),
            device_written_bytes(system.data),
        )


def measure_load(system: System, load: Load, process: ProcessPoolExecutor) -> Figures:
    """Send a load to a system that runs on an empty store, and stop the system.

    It is stopped before its files are measured, so that all of them are written.
    """
    root, empty_bytes, n_samples = system.program.process.pid, system.stored_bytes(), 0
    if load.first is not None:
        first = process.submit(send_load, system.url, load.first, load.n_connections, None)
        n_samples = first.result().n_samples
    before = Before.of(system)
    with watched_memory(root) as peak:
        timed = process.submit(send_load, system.url, load.timed, load.n_connections, load.seconds)
        result = timed.result()
        used, device_bytes = measure_usage(root), device_written_bytes(system.data)
    n_samples += result.n_samples
    figures = _figures(result, before, used, peak.memory_bytes)
    if device_bytes is not None and before.device_bytes is not None:
        figures["written_bytes"] = (device_bytes - before.device_bytes) / result.n_samples
    figures["undrained"] = system.n_undrained()
    figures["head_mib"] = system.head_mib()
    log_bytes = system.log_bytes()
    if log_bytes is not None and before.log_bytes is not None:
        figures["log_bytes"] = (log_bytes - before.log_bytes) / result.n_samples
    system.program.stop()
    figures["stored_bytes"] = (system.stored_bytes() - empty_bytes) / n_samples
    return figures


def _figures(
    result: LoadResult, before: Before, used: dict[str, Usage], memory: dict[str, int]
) -> Figures:
    millions = result.n_samples / 1e6
    cpu = {
        role: (usage.cpu_seconds - before.usage[role].cpu_seconds) / millions
        for role, usage in used.items()
    }
    return {
        "samples_per_second": result.samples_per_second,
        "p50_ms": percentile(result.request_ms, 50),
        "p99_ms": percentile(result.request_ms, 99),
        "service_cpu": cpu[SERVICE],
        "database_cpu": cpu[DATABASE],
        "memory_mib": sum(memory.values()) / (1 << 20),
        "n_samples": result.n_samples,
        "refused": sum(result.refused.values()),
        "generator_cores": result.generator_cpu_seconds / result.seconds,
        "slowest_tenth": min(result.rates(10)),
    }


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    cases: tuple[str, ...]
    systems: tuple[str, ...]
    runs: int
    sizes: LoadSizes
    settings: dict[str, str]
    folder: Path
    recorded: Path | None


def _measurement(case: str, options: Options) -> Callable[[System, Path], Figures]:
    """What measures a system that runs on an empty store; the path is of a folder for it alone."""
    if case in SENDERS:
        return lambda system, folder: measure_sender(case, system, folder, options.sizes.seconds)
    if case == RECORDED:
        assert options.recorded is not None
        requests = Bodies(list(Recorded.read(options.recorded).requests()))
        return lambda system, _folder: measure_recorded(system, requests)
    if case == HISTOGRAMS_AT_REST:
        histograms = Bodies(histogram_requests(1, 400, 500))
        return lambda system, _folder: measure_recorded(system, histograms)
    load = LOADS[case](options.sizes)

    def measured(system: System, _folder: Path) -> Figures:
        with load_process() as process:
            return measure_load(system, load.of_system(system.name), process)

    return measured


def run_case(case: str, options: Options) -> dict[str, list[Figures]]:
    """Every run of a case: the figures of each system, whose order changes from run to run."""
    systems = [name for name in options.systems if PATHS.get(case, {}).get(name, "") is not None]
    figures: dict[str, list[Figures]] = {name: [] for name in systems}
    measure = _measurement(case, options)
    for number in range(1 if case in _ONCE else options.runs):
        for name in systems if number % 2 == 0 else reversed(systems):
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                Path(folder).chmod(0o755)
                with running_system(name, Path(folder) / "system", options.settings) as system:
                    measured = measure(system, Path(folder))
            figures[name].append(measured)
            _tell(f"{case}, run {number + 1}, {name}: {measured['samples_per_second']:,.0f}/s")
    return figures


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.ingest_bench", description=__doc__
    )
    parser.add_argument(
        "--cases", default=",".join(_DEFAULT_CASES), help=f"some of {', '.join(CASES)}"
    )
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="some of the three")
    parser.add_argument("--runs", type=int, default=5, help="runs of each case and system")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a run")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="also the case `sustained`, for so long, once"
    )
    parser.add_argument("--churn-series", type=int, default=1_000_000)
    parser.add_argument(
        "--recorded",
        type=Path,
        help="also the case `recorded`, with the samples of this file, once",
    )
    parser.add_argument("--store", choices=("blocks", "rows"), help="the store of promcompat")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    parser.add_argument("--markdown", type=Path, help="file to write the tables to")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the data goes"
    )
    return parser.parse_args(arguments)


def _options(parsed: argparse.Namespace) -> Options:
    cases = tuple(filter(None, parsed.cases.split(",")))
    if parsed.minutes and "sustained" not in cases:
        cases += ("sustained",)
    if parsed.recorded is None and RECORDED in cases:
        raise SystemExit("the case `recorded` needs --recorded FILE")
    if parsed.recorded is not None and RECORDED not in cases:
        cases += (RECORDED,)
    for given, known in ((cases, CASES), (parsed.systems.split(","), SYSTEMS)):
        if unknown := set(given) - set(known):
            raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return Options(
        cases,
        tuple(parsed.systems.split(",")),
        parsed.runs,
        LoadSizes(parsed.seconds, parsed.minutes or 1.0, parsed.churn_series),
        {"store": parsed.store} if parsed.store else {},
        parsed.folder,
        parsed.recorded,
    )


def main() -> int:
    """Run the benchmark; the exit code."""
    parsed = parse_arguments()
    options = _options(parsed)
    measured = {case: run_case(case, options) for case in options.cases}
    markdown = format_markdown(measured)
    sys.stdout.write(markdown)
    if parsed.markdown is not None:
        parsed.markdown.write_text(markdown)
    if parsed.json is not None:
        document = {
            "machine": describe_machine(),
            "sizes": asdict(options.sizes),
            "settings": options.settings,
            "cases": measured,
            "ratios": {case: ratios(systems) for case, systems in measured.items()},
        }
        parsed.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
