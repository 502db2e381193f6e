"""Deterministic data for the newest language: native histograms of all kinds, and odd floats."""

from collections.abc import Iterator, Sequence

import numpy as np
import snappy

from conformance.prometheus_api import PrometheusApi
from conformance.synthetic import END_MS
from promcompat.core.model import STALE_NAN_BITS, Labels
from tests.support.factories import encode_field, encode_labels, make_labels
from tests.support.formats.remote_write import WireHistogram, encode_sample

N_SAMPLES = 240
INTERVAL_MS = 30_000
SAMPLES_PER_REQUEST = 1_000
GAUGE = 3
CUSTOM = -53
BOUNDS = ((0.1, 0.5, 1.0, 5.0), (0.1, 1.0, 2.5, 5.0, 10.0), (-1.0, 0.0, 0.5), (0.25, 0.75))

OddPoint = tuple[int, float | int | WireHistogram]
"""A time and a float, the bits of one, or a histogram (whose own time is replaced)."""


def odd_series(seed: int = 0) -> dict[Labels, list[OddPoint]]:
    """Every series, each with its points in the order of time; other seeds give other values."""
    found: dict[Labels, list[OddPoint]] = {}
    for number, labels_and_values in enumerate((*_histograms(seed), *_mixed(seed), *_floats(seed))):
        labels, values = labels_and_values
        phase_ms = (0, 137, -4_321)[number % 3]
        first_ms = END_MS - (N_SAMPLES - 1) * INTERVAL_MS + phase_ms
        times = [first_ms + place * INTERVAL_MS for place in range(N_SAMPLES)]
        pairs = zip(times, values, strict=True)
        found[labels] = [(time_ms, value) for time_ms, value in pairs if value is not None]
    return found


async def write_odd_series(api: PrometheusApi, seed: int = 0) -> None:
    """Write every series by remote write 1.0; each request goes on where the one before ended."""
    parts: list[bytes] = []
    n_samples = 0
    for labels, points in odd_series(seed).items():
        parts.append(encode_field(1, encode_labels(labels) + _encode(points)))
        n_samples += len(points)
        if n_samples >= SAMPLES_PER_REQUEST:
            await api.write_body(bytes(snappy.compress(b"".join(parts))))
            parts, n_samples = [], 0
    await api.write_body(bytes(snappy.compress(b"".join(parts))))


def _encode(points: Sequence[OddPoint]) -> bytes:
    return b"".join(
        encode_field(4, value.but(timestamp_ms=time_ms).encode())
        if isinstance(value, WireHistogram)
        else encode_sample(time_ms, value)
        for time_ms, value in points
    )


Values = Sequence[float | int | WireHistogram | None]
STALE = WireHistogram(sum=STALE_NAN_BITS)


def _histograms(seed: int) -> Iterator[tuple[Labels, Values]]:
    for number, instance in enumerate(("a:8080", "b:8080", "c:8080", "d:8080")):
        labels = {"job": "demo", "instance": instance}
        rng = np.random.default_rng(1000 * seed + 100 + number)
        yield make_labels("native", method="GET", **labels), _counters(rng, number)
        yield (
            make_labels("native", method="POST", **labels),
            _with_gaps(rng, _counters(rng, 3 - number)),
        )
        yield make_labels("native_gauge", **labels), _gauges(rng, number)
        yield make_labels("custom", method="GET", **labels), _customs(rng, number, is_gauge=False)
        yield (
            make_labels("custom", method="POST", **labels),
            _with_gaps(rng, _customs(rng, number + 1, is_gauge=False)),
        )
        yield make_labels("custom_gauge", **labels), _customs(rng, number, is_gauge=True)


def _counters(rng: np.random.Generator, number: int) -> Values:
    """Exponential counters: resets, changes of schema, zero buckets that widen."""
    found: list[WireHistogram] = []
    schema, threshold, n = (number % 4, (0.0, 1e-128, 0.001, 0.25)[number % 4], 6)
    positive, negative = np.zeros(n, np.int64), np.zeros(3, np.int64)
    zero, total = 0, 0.0
    for place in range(N_SAMPLES):
        if rng.random() < 0.02:
            positive[:], negative[:], zero, total = 0, 0, 0, 0.0
        if rng.random() < 0.02:
            schema, threshold = int(rng.integers(-1, 5)), float(rng.choice([0.0, 0.001, 0.5]))
        positive += rng.integers(1, 4, n)
        if number % 2:
            negative += rng.integers(1, 3, 3)
        zero += int(rng.integers(0, 3))
        total = total + float(np.round(rng.normal(5, 3), 3))
        if number == 3 and place % 60 == 59:
            total = (np.nan, np.inf, -np.inf, 3.0)[place // 60]
        count = int(positive.sum() + negative.sum() + zero)
        found.append(
            WireHistogram(
                schema=schema,
                count=count + (5 if np.isnan(total) else 0),
                sum=total,
                zero_threshold=threshold,
                zero_count=zero,
                positive_spans=((-1 if threshold < 0.1 else 3, 3), (1, 3)),
                positive=tuple(positive.tolist()),
                negative_spans=((3, 3),) if number % 2 else (),
                negative=tuple(negative.tolist()) if number % 2 else (),
            )
        )
    return found


def _gauges(rng: np.random.Generator, number: int) -> Values:
    """Float histograms that rise and fall."""
    return [
        WireHistogram(
            schema=number - 1,
            count=float(counts.sum()),
            sum=float(rng.normal()),
            zero_threshold=0.001,
            zero_count=counts[0],
            positive_spans=((1, 2), (2, 1)),
            positive=tuple(counts[1:4].tolist()),
            negative_spans=((1, 1),),
            negative=(counts[4],),
            hint=GAUGE,
            is_float=True,
        )
        for counts in np.round(rng.uniform(0.1, 9, (N_SAMPLES, 5)), 2)
    ]


def _customs(rng: np.random.Generator, number: int, *, is_gauge: bool) -> Values:
    """Custom buckets: resets, and bounds that change."""
    found: list[WireHistogram] = []
    bounds = BOUNDS[number % len(BOUNDS)]
    counts = np.zeros(len(bounds) + 1)
    total = 0.0
    for _ in range(N_SAMPLES):
        if rng.random() < 0.01:
            bounds = BOUNDS[int(rng.integers(len(BOUNDS)))]
            counts = np.zeros(len(bounds) + 1)
        if is_gauge or rng.random() < 0.02:
            counts, total = np.zeros(len(bounds) + 1), 0.0
        counts = counts + rng.integers(1, 5, len(counts))
        total += float(np.round(rng.uniform(0, 4), 3))
        found.append(
            WireHistogram(
                schema=CUSTOM,
                count=float(counts.sum()),
                sum=total,
                positive_spans=((0, len(counts)),),
                positive=tuple(counts.tolist()),
                custom_values=bounds,
                hint=GAUGE if is_gauge else 0,
                is_float=is_gauge,
            )
        )
    return found


def _with_gaps(rng: np.random.Generator, values: Values) -> Values:
    """Some samples missing, and stale markers."""
    kept: list[float | int | WireHistogram | None] = list(values)
    for place in range(N_SAMPLES):
        if rng.random() < 0.03:
            kept[place] = STALE
        elif rng.random() < 0.1:
            kept[place] = None
    kept[100:118] = [STALE] + [None] * 17
    return kept


def _mixed(seed: int) -> Iterator[tuple[Labels, Values]]:
    """Series of floats and histograms in turn, in runs of some length."""
    for number, instance in enumerate(("a:8080", "b:8080", "c:8080")):
        rng = np.random.default_rng(1000 * seed + 200 + number)
        histograms = (
            _customs(rng, number, is_gauge=False) if number == 2 else _counters(rng, number)
        )
        floats = np.cumsum(rng.integers(0, 9, N_SAMPLES)).astype(float).tolist()
        is_float = False
        values: list[float | int | WireHistogram | None] = []
        for place in range(N_SAMPLES):
            if rng.random() < 0.08:
                is_float = not is_float
            values.append(floats[place] if is_float else histograms[place])
        yield make_labels("mixed", job="demo", instance=instance), values
        yield (
            make_labels("mixed", job="demo", instance=instance, method="GET"),
            _with_gaps(rng, values),
        )


def _floats(seed: int) -> Iterator[tuple[Labels, Values]]:
    """NaN, infinities, both zeros, large and small numbers; stale markers; info metrics."""
    choices = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.5, 1e308, -1e308, 1e-300, 7e15, 3.0)
    for number, instance in enumerate(("a:8080", "b:8080", "c:8080", "d:8080")):
        rng = np.random.default_rng(1000 * seed + 300 + number)
        labels = {"job": "demo", "instance": instance}
        weights = np.full(len(choices), (0.02, 0.08)[number % 2])
        weights[5:8] = (1 - weights.sum() + weights[5:8].sum()) / 3
        values: list[float | int | WireHistogram | None] = list(
            rng.choice(choices, N_SAMPLES, p=weights / weights.sum()).tolist()
        )
        for place in np.flatnonzero(rng.random(N_SAMPLES) < 0.05).tolist():
            values[place] = STALE_NAN_BITS if rng.random() < 0.5 else None
        yield make_labels("odd", **labels), values
        version = [1.0] * N_SAMPLES
        half = number * 50
        yield (
            make_labels("target_info", version="v1", region=("eu", "us")[number % 2], **labels),
            [
                *version[:half],
                *([STALE_NAN_BITS] if half < N_SAMPLES else []),
                *[None] * (N_SAMPLES - half - 1),
            ],
        )
        yield (
            make_labels("target_info", version="v2", **labels),
            [*[None] * half, *version[half:]],
        )
        yield make_labels("build_info", revision=f"r{number}", **labels), version
        yield (
            make_labels(
                "typed_total", __type__=("counter", "gauge")[number % 2], __unit__="s", **labels
            ),
            np.cumsum(rng.integers(0, 5, N_SAMPLES)).astype(float).tolist(),
        )
