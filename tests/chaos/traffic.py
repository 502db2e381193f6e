"""Senders that behave as Prometheus does, and what they may rely on.

A request that is answered 5xx or 429, or whose connection is cut, is sent again until it is taken;
any other refusal is a fault. What was acknowledged must be in every later answer of every service.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from conformance.prometheus_api import (
    PrometheusApi,
    WriteError,
    encode_write_requests,
    format_seconds,
)
from promcompat.core.model import Labels
from tests.support.factories import make_labels

METRIC: Final = "chaos_total"
_FIRST_PAUSE_SECONDS: Final = 0.03
_LONGEST_PAUSE_SECONDS: Final = 0.5
_RETRIED: Final = (429, 500, 502, 503, 504)
_UNANSWERED: Final = (503,)
_REPEATED: Final = 0.05
_ASKED: Final = 0.2


@dataclass(frozen=True, slots=True)
class Timeline:
    """Where in time a writer's samples lie: `n`-th at `start_ms + order(n) * step_ms`."""

    start_ms: int
    step_ms: int
    is_disordered: bool = False

    def time_ms(self, number: int) -> int:
        """The time of a round. Disordered: each two rounds come in the wrong order."""
        return self.start_ms + (number ^ self.is_disordered) * self.step_ms


@dataclass(slots=True)
class Findings:
    """What was seen while faults were made."""

    violations: list[str] = field(default_factory=list)
    write_answers: Counter[str] = field(default_factory=Counter)
    query_answers: Counter[str] = field(default_factory=Counter)

    def violated(self, text: str) -> None:
        """Note what must not happen; the first hundred."""
        if len(self.violations) < 100:
            self.violations.append(text)


@dataclass(slots=True)
class Writer:
    """One sender with its own series; a round is one sample of each."""

    number: int
    n_series: int
    timeline: Timeline
    apis: Sequence[PrometheusApi]
    findings: Findings
    rng: random.Random
    n_acknowledged: int = 0
    pause_seconds: float = 0.0

    def labels(self) -> list[Labels]:
        """Its series."""
        return [
            make_labels(METRIC, writer=str(self.number), number=str(number))
            for number in range(self.n_series)
        ]

    def value(self, series: int, round_number: int) -> float:
        """A value that no other sample has: exact in a float."""
        return (self.number * 1_000 + series) * 1_000_000 + round_number + 0.5

    def body(self, round_number: int) -> bytes:
        """The request of a round."""
        time_ms = self.timeline.time_ms(round_number)
        points = {
            labels: [(time_ms, self.value(series, round_number))]
            for series, labels in enumerate(self.labels())
        }
        (body,) = encode_write_requests(points)
        return body

    async def write(self, ended: asyncio.Event, max_rounds: int | None = None) -> None:
        """Write rounds until told to end, the last one until it is acknowledged."""
        while not ended.is_set() and self.n_acknowledged != max_rounds:
            await self._send(self.body(self.n_acknowledged))
            self.n_acknowledged += 1
            if self.rng.random() < _REPEATED:
                await self._send(self.body(self.rng.randrange(self.n_acknowledged)))
            if self.rng.random() < _ASKED:
                await self._ask(self.rng.randrange(self.n_acknowledged))
            await asyncio.sleep(self.pause_seconds)

    async def _send(self, body: bytes) -> None:
        api, pause = self.apis[self.number % len(self.apis)], _FIRST_PAUSE_SECONDS
        while True:
            try:
                await api.write_body(body)
            except WriteError as exc:
                self.findings.write_answers[str(exc.status)] += 1
                if exc.status not in _RETRIED:
                    self.findings.violated(f"a write was refused for good: {exc}")
                    raise
            except (aiohttp.ClientError, TimeoutError):
                self.findings.write_answers["cut"] += 1
            else:
                self.findings.write_answers["taken"] += 1
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _ask(self, round_number: int) -> None:
        """Ask any service for an acknowledged sample; it must be there if the service answers."""
        api, series = self.rng.choice(self.apis), self.rng.randrange(self.n_series)
        time_ms = self.timeline.time_ms(round_number)
        expr = f'{METRIC}{{writer="{self.number}",number="{series}"}}[1ms]'
        try:
            response = await api.query(expr, format_seconds(time_ms))
        except (aiohttp.ClientError, TimeoutError, ValueError):
            self.findings.query_answers["cut"] += 1
            return
        self.findings.query_answers[str(response.status)] += 1
        if not response.is_success:
            if response.status not in _UNANSWERED:
                self.findings.violated(f"a query was answered {response.status}: {response.error}")
            return
        found = [row["values"] for row in response.data["result"]]
        expected = [[[time_ms / 1000, repr(self.value(series, round_number))]]]
        if found != expected:
            self.findings.violated(
                f"{expr} at {time_ms} on {api.url} has {found} instead of {expected}"
            )

    def expected(self, series: int) -> list[tuple[int, float]]:
        """The samples that one of its series must have now, by time."""
        return sorted(
            (self.timeline.time_ms(number), self.value(series, number))
            for number in range(self.n_acknowledged)
        )


@dataclass(slots=True)
class Difference:
    """How stored samples differ from acknowledged ones."""

    lost: int = 0
    doubled: int = 0
    invented: int = 0
    n_compared: int = 0

    def compare(self, stored: Sequence[tuple[int, float]], expected: Sequence[object]) -> None:
        """Count what one series lacks and has too much."""
        here, there = Counter(stored), Counter(expected)
        self.n_compared += len(expected)
        self.lost += sum((there - here).values())
        self.doubled += sum(count - 1 for count in here.values())
        self.invented += len([sample for sample in here if sample not in there])

    def __iadd__(self, other: "Difference") -> "Difference":
        self.lost += other.lost
        self.doubled += other.doubled
        self.invented += other.invented
        self.n_compared += other.n_compared
        return self

    @property
    def is_none(self) -> bool:
        """Whether exactly what was acknowledged is stored."""
        return not (self.lost or self.doubled or self.invented)


async def compare_answers(api: PrometheusApi, writers: Sequence[Writer]) -> Difference:
    """Every sample of every writer, as one service answers it."""
    difference = Difference()
    for writer in writers:
        times = [writer.timeline.time_ms(number) for number in range(writer.n_acknowledged + 1)]
        range_ms = max(times) - min(times) + 1
        expr = f'{METRIC}{{writer="{writer.number}"}}[{range_ms}ms]'
        response = await api.query(expr, format_seconds(max(times)))
        assert response.is_success, response.body
        stored = {
            Labels.of(row["metric"]): [
                (round(seconds * 1000), float(value)) for seconds, value in row["values"]
            ]
            for row in response.data["result"]
        }
        for series, labels in enumerate(writer.labels()):
            difference.compare(stored.pop(labels, []), writer.expected(series))
        difference.invented += sum(map(len, stored.values()))
    return difference
