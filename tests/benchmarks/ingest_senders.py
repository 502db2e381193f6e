"""A real Prometheus and a real vmagent as senders: what a receiver costs in everyday work.

They scrape exporters of 20,000 series every second and send what they scraped. A receiver that
keeps up is not faster than the senders, so that its CPU time and the lag are what tells.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from conformance.processes import RunningProgram, find_free_port, running_program
from tests.benchmarks.ingest_report import Figures
from tests.benchmarks.ingest_systems import System
from tests.benchmarks.payload import fleet_labels
from tests.benchmarks.process_usage import DATABASE, SERVICE, measure_usage, watched_memory
from tests.support.programs.components import find_program

N_TARGETS: Final = 20
SERIES_PER_TARGET: Final = 1_000
_WARM_UP_SECONDS: Final = 8.0


def _exposition(target: int) -> bytes:
    """A page of one exporter; `VALUE` stands for the value of every counter."""
    lines = []
    for number in range(target * SERIES_PER_TARGET, (target + 1) * SERIES_PER_TARGET):
        pairs = dict(fleet_labels(number, "scraped").as_dict())
        name = pairs.pop("__name__")
        # Prometheus names targets by these two itself.
        pairs["exporter"] = pairs.pop("instance")
        pairs.pop("job")
        text = ",".join(f"{label}={json.dumps(value)}" for label, value in pairs.items())
        lines.append(f"{name}{{{text}}} VALUE\n")
    return "".join(lines).encode()


def _serve_exporters(port_pipe: Connection) -> None:
    pages = [_exposition(target) for target in range(N_TARGETS)]
    started = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            value = str(round((time.monotonic() - started) * 10)).encode()
            body = pages[int(self.path.rpartition("/")[2])].replace(b"VALUE", value)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Nobody reads the requests of a benchmark."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port_pipe.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def running_exporters() -> Iterator[str]:
    """Exporters in a process of their own; their HOST:PORT. They are at /0, /1 and so on."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_exporters, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _scrape_configs(address: str) -> str:
    jobs = [
        {
            "job_name": f"exporter-{target}",
            "metrics_path": f"/{target}",
            "static_configs": [{"targets": [address]}],
        }
        for target in range(N_TARGETS)
    ]
    # JSON is YAML.
    return json.dumps(jobs)


@contextmanager
def _prometheus(address: str, receiver: str, folder: Path) -> Iterator[RunningProgram]:
    config, port = folder / "sender.yml", find_free_port()
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: {_scrape_configs(address)}\n"
        f"remote_write: [{{url: '{receiver}/api/v1/write'}}]\n"
    )
    command: list[str | Path] = [
        find_program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'sender'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with running_program(command, port, folder / "sender.log", "/-/ready") as program:
        yield program


@contextmanager
def _vmagent(address: str, receiver: str, folder: Path) -> Iterator[RunningProgram]:
    config, port = folder / "sender.yml", find_free_port()
    config.write_text(
        f"global: {{scrape_interval: 1s}}\nscrape_configs: {_scrape_configs(address)}\n"
    )
    command: list[str | Path] = [
        find_program("vmagent"),
        f"-promscrape.config={config}",
        f"-remoteWrite.url={receiver}/api/v1/write",
        f"-remoteWrite.tmpDataPath={folder / 'queue'}",
        f"-httpListenAddr=127.0.0.1:{port}",
    ]
    with running_program(command, port, folder / "sender.log", "/health") as program:
        yield program


def _read_metrics(url: str) -> dict[str, float]:
    """The sum of each of a program's own metrics over its labels, without buckets."""
    totals: dict[str, float] = {}
    with urlopen(f"{url}/metrics", timeout=10) as response:
        for line in response.read().decode().splitlines():
            if not line.startswith("#"):
                name = re.split(r"[{ ]", line, maxsplit=1)[0]
                totals[name] = totals.get(name, 0.0) + float(line.rpartition(" ")[2])
    return totals


@dataclass(frozen=True, slots=True)
class Sender:
    """How a program is run as a sender, and the names of its own metrics."""

    running: Callable[[str, str, Path], object]
    sent: str
    spent: str
    requests: str
    failed: tuple[str, ...]
    pending: str


SENDERS: Final[Mapping[str, Sender]] = {
    "prometheus": Sender(
        _prometheus,
        "prometheus_remote_storage_samples_total",
        "prometheus_remote_storage_sent_batch_duration_seconds_sum",
        "prometheus_remote_storage_sent_batch_duration_seconds_count",
        ("prometheus_remote_storage_samples_failed_total",),
        "prometheus_remote_storage_samples_pending",
    ),
    "vmagent": Sender(
        _vmagent,
        "vmagent_remotewrite_block_size_rows_sum",
        "vmagent_remotewrite_duration_seconds_sum",
        "vmagent_remotewrite_duration_seconds_count",
        ("vmagent_remotewrite_packets_dropped_total",),
        "vmagent_remotewrite_pending_data_bytes",
    ),
}


def measure_sender(case: str, system: System, folder: Path, seconds: float) -> Figures:
    """Let a program scrape and send to a system for some seconds, once it runs evenly."""
    sender, root = SENDERS[case], system.program.process.pid
    with (
        running_exporters() as address,
        sender.running(address, system.url, folder) as program,  # type: ignore[attr-defined]
    ):
        time.sleep(_WARM_UP_SECONDS)
        used, told = measure_usage(root), _read_metrics(program.url)
        started = time.monotonic()
        with watched_memory(root) as peak:
            threading.Event().wait(seconds)
        spent = time.monotonic() - started
        used_after, told_after = measure_usage(root), _read_metrics(program.url)
    grown = {name: value - told.get(name, 0.0) for name, value in told_after.items()}
    n_samples = grown[sender.sent]
    cpu = {
        role: (used_after[role].cpu_seconds - used[role].cpu_seconds) / (n_samples / 1e6)
        for role in (SERVICE, DATABASE)
    }
    return {
        "samples_per_second": n_samples / spent,
        "mean_ms": grown[sender.spent] / grown[sender.requests] * 1000,
        "service_cpu": cpu[SERVICE],
        "database_cpu": cpu[DATABASE],
        "memory_mib": sum(peak.memory_bytes.values()) / (1 << 20),
        "n_samples": n_samples,
        "refused": sum(grown.get(name, 0.0) for name in sender.failed),
        "pending": told_after[sender.pending],
    }
