"""Prints measurements as a table, or writes them as JSON."""

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict
from os import cpu_count
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Measurement
from tests.benchmarks.thresholds import ThresholdCost


def print_table(measurements: Iterable[Measurement]) -> None:
    """The medians of both servers, and ours as a multiple of Prometheus'."""
    table = Table(title=f"{platform.machine()}, {cpu_count()} cores; medians")
    table.add_column("measurement")
    for title in ("unit", "promcompat", "Prometheus", "ours / theirs"):
        table.add_column(title, justify="right", no_wrap=True)
    for measurement in measurements:
        better = "more is better" if measurement.is_rate else "less is better"
        table.add_row(
            measurement.name,
            measurement.unit,
            _format(median(measurement.ours)),
            _format(median(measurement.prometheus)),
            f"{measurement.ratio:.2f} ({better})",
        )
    Console(width=130).print(table)


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def to_json(measurements: Iterable[Measurement], thresholds: ThresholdCost) -> str:
    """All single figures beside the medians."""
    rows = [
        {
            "name": measurement.name,
            "unit": measurement.unit,
            "more_is_better": measurement.is_rate,
            "promcompat": median(measurement.ours),
            "prometheus": median(measurement.prometheus),
            "ratio": measurement.ratio,
            "promcompat_all": measurement.ours,
            "prometheus_all": measurement.prometheus,
        }
        for measurement in measurements
    ]
    document = {"cores": cpu_count(), "measurements": rows, "thresholds": asdict(thresholds)}
    return json.dumps(document, indent=2) + "\n"
