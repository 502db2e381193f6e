"""Every query of docs/sql-queries.md, asked of samples whose answers are computed here too."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import fmean
from typing import Any
from unittest import mock

import numpy as np
import pytest

from promcompat.core.alerting.thresholds import AlertThreshold, Direction
from promcompat.core.definitions import MetricDefinition
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.samples.storage_options import StoreKind
from tests.support.documented_examples import ROOT
from tests.support.factories import make_batch, make_labels
from tests.support.storage.repositories import connected, opened_storage

pytestmark = pytest.mark.integration

ANYTHING = mock.ANY
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
MINUTES = 180
HOSTS = {"web-1": 1.0, "web-2": 4.0, "web-3": 2.0}
GAP = range(70, 90)
RESET_AT = 100

WARNING, CRITICAL = 2.25, 4.5
INVENTORY = """
CREATE TABLE inventory (host text, owner text, euros_per_hour numeric);
INSERT INTO inventory VALUES ('web-1', 'ann', 1), ('web-2', 'ann', 2), ('web-3', 'bob', 3);
"""

Points = dict[datetime, float]
Row = tuple[Any, ...]


def at(minute: int) -> datetime:
    """The time of a sample: minute 0 is three hours before NOW."""
    return NOW - timedelta(minutes=MINUTES - minute)


LOADS: Mapping[str, Points] = {
    host: {at(k): base + (k % 7) / 8 for k in range(MINUTES) if not (host == "web-3" and k in GAP)}
    for host, base in HOSTS.items()
}
REQUESTS: Mapping[str, Points] = {
    host: {at(k): float(60 * (k % RESET_AT if host == "web-2" else k)) for k in range(MINUTES)}
    for host in HOSTS
}


def since(points: Points, **age: float) -> Points:
    """The samples that are no older than that."""
    return {t: v for t, v in points.items() if t >= NOW - timedelta(**age)}


def bucket_of(time: datetime, minutes: int) -> datetime:
    seconds = 60 * minutes
    return datetime.fromtimestamp(time.timestamp() // seconds * seconds, UTC)


def buckets(points: Points, minutes: int) -> dict[datetime, list[float]]:
    found: dict[datetime, list[float]] = defaultdict(list)
    for time, value in points.items():
        found[bucket_of(time, minutes)].append(value)
    return found


def expand(text: str, *, has_timescaledb: bool) -> str:
    """The text as Grafana sends it for a panel of two hours, with NOW for now()."""

    def group(match: re.Match[str]) -> str:
        seconds = 60 * int(match[2])
        if has_timescaledb:
            return f"time_bucket('{seconds:.3f}s', {match[1]})"
        return f"floor(extract(epoch from {match[1]})/{seconds})*{seconds}"

    start, end = (f"'{t:%Y-%m-%dT%H:%M:%S}Z'" for t in (NOW - timedelta(hours=2), NOW))
    text = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {start} AND {end}", text)
    text = re.sub(r"\$__timeGroup\((\w+), '(\d+)m'\)", group, text)
    text = text.replace("$__timeFrom()", start).replace("$__timeTo()", end)
    return text.replace("now()", f"timestamptz {end}")


def documented_queries() -> dict[str, str]:
    """The query below each heading of the page."""
    page = (ROOT / "docs/sql-queries.md").read_text("utf-8")
    return dict(re.findall(r"^## (.+?)\n.*?^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))


# -- what each query has to answer ------------------------------------------------------------


def busiest() -> list[Row]:
    means = {f"{host}:9100": fmean(since(p, hours=1).values()) for host, p in LOADS.items()}
    return sorted(means.items(), key=lambda item: -item[1])[:2]


def spending() -> list[Row]:
    samples = {host: len(since(points, hours=2)) for host, points in LOADS.items()}
    hours = {host: Decimal(count) / 60 for host, count in samples.items()}
    return [
        ("ann", 2, round(hours["web-1"] * 1 + hours["web-2"] * 2, 2)),
        ("bob", 1, round(hours["web-3"] * 3, 2)),
    ]


def panel() -> list[Row]:
    return sorted(
        (bucket, f"{host}:9100", fmean(values))
        for host, points in LOADS.items()
        for bucket, values in buckets(since(points, hours=2), 10).items()
    )


def percentiles() -> list[Row]:
    together = defaultdict(list)
    for points in LOADS.values():
        for bucket, values in buckets(points, 30).items():
            together[bucket] += values
    return [
        (bucket, list(np.percentile(values, [50, 95, 99])))
        for bucket, values in sorted(together.items())
    ]


def gaps() -> list[Row]:
    return [("web-3:9100", at(GAP.start - 1), at(GAP.stop))]


def rates() -> list[Row]:
    rows = []
    for host, points in REQUESTS.items():
        rises = defaultdict(float)
        for (_, before), (time, value) in pairwise(since(points, hours=2).items()):
            rises[bucket_of(time, 10)] += value if value < before else value - before
        rows += [(bucket, f"{host}:80", rise / 600) for bucket, rise in sorted(rises.items())]
    return rows


def hours() -> list[Row]:
    rows = []
    for hour in (NOW - timedelta(hours=2), NOW - timedelta(hours=1)):
        rise, count = 0.0, 0
        for points in REQUESTS.values():
            values = [v for t, v in points.items() if bucket_of(t, 60) == hour]
            rise += sum(b if b < a else b - a for a, b in pairwise(values))
            count += len(values)
        rows.append((hour, rise, count))
    return rows


def last_values() -> list[Row]:
    return [(f"{host}:9100", at(MINUTES - 1), p[at(MINUTES - 1)]) for host, p in LOADS.items()]


def breaches() -> list[Row]:
    rows = []
    for severity, limit in (("critical", CRITICAL), ("warning", WARNING)):
        for host, points in LOADS.items():
            if count := sum(value >= limit for value in since(points, hours=1).values()):
                rows.append((severity, f"{host}:9100", count))
    return rows


def two_hours() -> list[Row]:
    rows = []
    for host, points in LOADS.items():
        new = since(points, hours=1)
        old = [v for t, v in since(points, hours=2).items() if t not in new]
        rows.append((f"{host}:9100", fmean(new.values()), fmean(old)))
    return rows


def stored() -> list[Row]:
    return [("default", len(LOADS) + len(REQUESTS), ANYTHING, ANYTHING, "http_requests_total")]


ANSWERS: Mapping[str, Callable[[], list[Row]]] = {
    "Which series are the busiest": busiest,
    "What a team spends: a join with a table of your own": spending,
    "A panel of Grafana's PostgreSQL data source": panel,
    "Percentiles over time": percentiles,
    "Where samples are missing": gaps,
    "The rate of a counter that was reset": rates,
    "Requests by hour, from the hours that are kept": hours,
    "The last value of every series": last_values,
    "How long a threshold was exceeded": breaches,
    "This hour beside the one before it": two_hours,
    "What a tenant stores": stored,
}


def comparable(row: Row) -> Row:
    """The row with floats of ten digits, and Grafana's seconds as a time."""
    cells = [
        datetime.fromtimestamp(int(cell), UTC) if place == 0 and isinstance(cell, Decimal) else cell
        for place, cell in enumerate(row)
    ]
    return tuple(
        [round(x, 10) for x in cell]
        if isinstance(cell, list)
        else round(cell, 10)
        if isinstance(cell, float)
        else cell
        for cell in cells
    )


@pytest.mark.parametrize("store", list(StoreKind))
async def test_every_documented_query_gives_the_answer_of_the_samples(
    database_url: str, store: StoreKind
) -> None:
    await write_everything(database_url, store)
    found = documented_queries()
    assert set(found) == set(ANSWERS)
    async with connected(database_url) as owner:
        await owner.execute(INVENTORY)
        for heading, text in found.items():
            expected = [comparable(row) for row in ANSWERS[heading]()]
            assert expected
            for has_switch in (True, False) if "$__" in text else (True,):
                rows = await owner.fetch(expand(text, has_timescaledb=has_switch))
                assert [comparable(tuple(row)) for row in rows] == expected, heading


async def write_everything(url: str, store: StoreKind) -> None:
    series = {
        make_labels(name, instance=f"{host}:{port}", job=job): [
            (int(t.timestamp() * 1000), v) for t, v in points.items()
        ]
        for name, job, port, of_hosts in (
            ("node_load1", "node", 9100, LOADS),
            ("http_requests_total", "api", 80, REQUESTS),
        )
        for host, points in of_hosts.items()
    }
    threshold = AlertThreshold(warning=WARNING, critical=CRITICAL, direction=Direction.ABOVE)
    async with opened_storage(url, store=store) as storage:
        await storage.store.write_batch("default", make_batch(series))
        definition = replace(MetricDefinition(name="node_load1"), alert_threshold=threshold)
        definitions = PostgresDefinitionRepository(storage.database)
        await definitions.save("default", definition, 0)
