"""Groups of rules in a real Prometheus and in promcompat's evaluation: the samples that they write.

Prometheus gets the data first, some of it with times to come, then the rules. It evaluates them a
few times. A probe, the first rule of each group, shows at which times. The same groups are then
evaluated at these times here, and everything written is compared: recorded series, `ALERTS` and
`ALERTS_FOR_STATE`.
"""

import asyncio
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from conformance.processes import find_free_port, running_prometheus
from conformance.prometheus_api import PrometheusApi, encode_write_requests, open_session
from conformance.selector_data import synthesise
from promcompat.alerting.read_time import ReadTime
from promcompat.alerting.rule_files.memory_samples import MemorySamples, MemorySession
from promcompat.alerting.rule_files.rule_conversion import rules_of
from promcompat.alerting.rule_files.rule_document import parse_rule_file
from promcompat.alerting.rule_runner import RuleRunner
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.templates.expansion import Surroundings
from promcompat.core.model import EvalRange, Labels, SampleBlock
from promql.engine import Engine, EngineOptions
from promql.query import Query
from tests.support.factories import Points

STEP_MS = 2_000
"""Between the samples of a series: short, so that alerts begin and end within seconds."""
GROUP_SIZE = 40
WAIT_SECONDS = 120.0
WRITTEN = '{__name__=~"probe|recorded_.*|ALERTS|ALERTS_FOR_STATE"}'
_TENANT = "conformance"
_ANY_ORDER = "storage: {tsdb: {out_of_order_time_window: 1000w}}\n"

Samples = Mapping[Labels, Mapping[int, float]]


def rule_file(recording: Sequence[str], alerting: Sequence[str]) -> str:
    """A rule file with all expressions; its alerts wait, and go on firing, in several ways."""
    rules: list[dict[str, Any]] = [
        {"record": f"recorded_{number}", "expr": expr, "labels": {"recorded": "yes", "job": ""}}
        for number, expr in enumerate(recording)
    ]
    rules += [
        {
            "alert": f"Alert{number}",
            "expr": expr,
            "for": ("0s", "2s", "1h")[number % 3],
            "keep_firing_for": ("0s", "2s")[number // 3 % 2],
            "labels": {"severity": "page", "value": "{{ $value | humanize }}"},
            "annotations": {"summary": "{{ $labels.instance }} {{ $value }}"},
        }
        for number, expr in enumerate(alerting)
    ]
    groups = [
        _group(f"g{number}", ("0s", "1s")[number % 2], rules[first : first + GROUP_SIZE])
        for number, first in enumerate(range(0, len(rules), GROUP_SIZE))
    ]
    return yaml.safe_dump({"groups": groups}, sort_keys=False, width=1_000_000)


def _group(name: str, query_offset: str, rules: Sequence[dict[str, Any]]) -> dict[str, Any]:
    probe = {"record": "probe", "expr": "vector(1)"}
    return {
        "name": name,
        "interval": "1s",
        "query_offset": query_offset,
        "labels": {"rule_group": name},
        "rules": [probe, *rules],
    }


def data_around(expressions: Sequence[str], now_ms: int, ahead_ms: int) -> dict[Labels, Points]:
    """Series that the expressions find, one sample each STEP_MS, until `ahead_ms` after now."""
    data = synthesise(expressions)
    last_ms = (now_ms + ahead_ms) // STEP_MS * STEP_MS
    return {
        labels: [
            (last_ms - (len(points) - 1 - number) * STEP_MS, value)
            for number, (_, value) in enumerate(points)
        ]
        for labels, points in data.items()
    }


async def written_by_prometheus(
    binary: Path, folder: Path, rules: str, data: dict[Labels, Points], n_evaluations: int
) -> Samples:
    """What a Prometheus has written when each group was evaluated so often."""
    rules_folder = folder / "rules"
    rules_folder.mkdir(parents=True)
    config = f"rule_files: ['{rules_folder}/*.yml']\n{_ANY_ORDER}"
    with running_prometheus(
        binary, folder / "prometheus", config=config, port=find_free_port()
    ) as program:
        async with open_session() as session:
            api = PrometheusApi(session, program.url)
            for body in encode_write_requests(data):
                await api.write_body(body)
            (rules_folder / "rules.yml").write_text(rules, encoding="utf-8")
            program.process.send_signal(signal.SIGHUP)
            n_groups = rules.count("record: probe")
            deadline = time.monotonic() + WAIT_SECONDS
            while True:
                written = await _written(api, "probe")
                if len(written) == n_groups and min(map(len, written.values())) > n_evaluations:
                    return await _written(api, WRITTEN)
                assert time.monotonic() < deadline, "Prometheus does not evaluate the groups"
                await asyncio.sleep(0.5)


async def _written(api: PrometheusApi, selector: str) -> Samples:
    answer = await api.query(f"{selector}[10m]", f"{time.time():.3f}")
    return {
        Labels.of(series["metric"]): {
            round(at * 1000): float(text) for at, text in series["values"]
        }
        for series in answer.data["result"]
    }


def evaluation_times(written: Samples) -> list[tuple[int, str]]:
    """When each group was evaluated, in the order of time; its last time may be incomplete."""
    found = [
        (at_ms, labels.get("rule_group"))
        for labels, points in written.items()
        if labels.get("__name__") == "probe"
        for at_ms in sorted(points)[:-1]
    ]
    return sorted(found)


async def written_here(
    rules: str, data: Mapping[Labels, Points], times: Sequence[tuple[int, str]]
) -> Samples:
    """What the same groups write here at the same times."""
    samples = MemorySamples()
    for labels, points in data.items():
        for at_ms, value in points:
            samples.add(labels, at_ms, value)
    engine = Engine(samples, EngineOptions())
    runner = RuleRunner(samples, engine, AlertingStats(), Surroundings())
    sessions: dict[str, MemorySession] = {}
    ids = iter(range(1, 1 << 62))
    for group in parse_rule_file(rules):
        sessions[group.name] = MemorySession(
            [replace(rule, id=next(ids)) for rule in rules_of("rules", group)]
        )
    for sample_ms, name in times:
        read_time = ReadTime()
        for rule, _ in sessions[name].rules:
            at_ms = sample_ms + rule.query_offset_ms
            await runner.evaluate(sessions[name], _TENANT, rule, at_ms, read_time)
    now_ms = max(at_ms for at_ms, _ in times)
    question = Query(_TENANT, f"{WRITTEN}[10m]", EvalRange.instant(now_ms))
    block = (await engine.run(question)).value
    assert isinstance(block, SampleBlock)
    return dict(_points_of(block))


def _points_of(block: SampleBlock) -> Iterator[tuple[Labels, Mapping[int, float]]]:
    for row, labels in enumerate(block.labels):
        span = slice(block.offsets[row], block.offsets[row + 1])
        times, values = block.timestamps[span].tolist(), block.values[span].tolist()
        if times:
            yield labels, dict(zip(times, values, strict=True))


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many samples were equal, and which differ: series, time, Prometheus' value and ours."""

    n_equal: int
    differences: Sequence[tuple[Labels, int, float | None, float | None]]
    n_series: Mapping[str, int]


def compare(theirs: Samples, ours: Samples, times: Sequence[tuple[int, str]]) -> Comparison:
    """Compare the evaluations of each group up to its last one in `times`."""
    last_ms = {name: at_ms for at_ms, name in times}
    n_equal, differences = 0, []
    for labels in theirs.keys() | ours.keys():
        their_points, our_points = theirs.get(labels, {}), ours.get(labels, {})
        for at_ms in sorted(their_points.keys() | our_points.keys()):
            if at_ms > last_ms[labels.get("rule_group")]:
                continue
            left, right = their_points.get(at_ms), our_points.get(at_ms)
            if left is not None and right is not None and _are_close(left, right):
                n_equal += 1
            else:
                differences.append((labels, at_ms, left, right))
    n_series: dict[str, int] = {}
    for labels in theirs:
        kind = labels.get("__name__").partition("_")[0]
        kind = labels.get("__name__") if kind == "ALERTS" else kind
        n_series[kind] = n_series.get(kind, 0) + 1
    return Comparison(n_equal, differences, n_series)


def _are_close(left: float, right: float) -> bool:
    # The order of a sum is the storage's, so that the last digits may differ.
    both_nan = math.isnan(left) and math.isnan(right)
    return both_nan or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)


async def compare_groups(
    binary: Path,
    folder: Path,
    recording: Sequence[str],
    alerting: Sequence[str],
    n_evaluations: int,
) -> Comparison:
    """Evaluate the expressions in a real Prometheus and here, and compare what was written."""
    rules = rule_file(recording, alerting)
    now_ms = time.time_ns() // 1_000_000
    data = data_around([*recording, *alerting], now_ms, round(WAIT_SECONDS * 1000))
    theirs = await written_by_prometheus(binary, folder, rules, data, n_evaluations)
    times = evaluation_times(theirs)
    return compare(theirs, await written_here(rules, data, times), times)
