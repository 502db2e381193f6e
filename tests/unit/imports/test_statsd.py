"""StatsD: what lines mean, and what a flush stores of them."""

import pytest

from promcompat.imports.columns import ImportedColumns
from promcompat.imports.statsd_aggregation import MAX_SET_MEMBERS, StatsdAggregator
from promcompat.imports.statsd_lines import parse_statsd_line
from promcompat.remote_write.series_key import decode_series_key

NOW_MS = 1_700_000_000_000
EXPIRY_MS = 60_000


def feed(aggregator: StatsdAggregator, *lines: str, now_ms: int = NOW_MS) -> None:
    for line in lines:
        for event in parse_statsd_line(line):
            aggregator.add(event, now_ms)


def samples_of(columns: ImportedColumns) -> dict[tuple[str, ...], float]:
    """Values by name and the other labels as `name=value`."""
    found = {}
    for number, value in zip(columns.series.tolist(), columns.values.tolist(), strict=True):
        labels = decode_series_key(columns.keys[number]).as_dict()
        name = labels.pop("__name__")
        found[(name, *(f"{label}={text}" for label, text in labels.items()))] = value
    return found


def test_counters_gauges_and_sets() -> None:
    aggregator = StatsdAggregator(100, EXPIRY_MS)
    feed(
        aggregator,
        "hits:1|c",
        "hits:2|c|@0.1",
        "hits:1:2:3|c|#env:prod,bare|c:container|T1700000000",
        "level:10|g",
        "level:-4|g",
        "level:+1.5|g",
        "users:a:b|s",
        "users:a:b|s",
        "users:c|s",
        "_e{5,4}:title|text",
        "_sc|name|0",
    )
    assert samples_of(aggregator.flush(NOW_MS)) == {
        ("hits",): 21.0,
        ("hits", "env=prod"): 6.0,
        ("level",): 7.5,
        ("users",): 2.0,
    }
    feed(aggregator, "hits:1|c", "users:d|s")
    again = samples_of(aggregator.flush(NOW_MS + 10_000))
    assert (again["hits",], again["level",], again["users",]) == (22.0, 7.5, 1.0)


def test_timers_are_histograms_in_seconds_and_distributions_have_no_unit() -> None:
    aggregator = StatsdAggregator(100, EXPIRY_MS)
    feed(aggregator, "t:5|ms", "t:300|ms|@0.5", "size:20|h", "size:1|d")
    found = samples_of(aggregator.flush(NOW_MS))
    bounds = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"]
    assert [found["t_bucket", f"le={bound}"] for bound in bounds] == [1.0] * 6 + [3.0] * 6
    assert (found["t_count",], found["t_sum",]) == (3.0, pytest.approx(0.605))
    assert [found["size_bucket", f"le={bound}"] for bound in bounds] == [0.0] * 7 + [1.0] * 4 + [2]
    assert (found["size_count",], found["size_sum",]) == (2.0, 21.0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a", "expected name:value"),
        ("a:1", "expected name:value"),
        (":1|c", "expected name:value"),
        ("a:1|x", "unknown type 'x'"),
        ("a:x|c", "invalid syntax"),
        ("a:-1|c", "cannot decrease"),
        ("a:nan|g", "is not finite"),
        ("a:inf|ms", "is not finite"),
        ("a:1|c|@x", "invalid syntax"),
        ("a:1|c|@1e-300", "out of range"),
    ],
)
def test_bad_lines_are_refused(line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(parse_statsd_line(line))


def test_series_and_members_are_bounded_and_expire() -> None:
    aggregator = StatsdAggregator(2, EXPIRY_MS)
    feed(aggregator, "a:1|c", "b:1|g")
    with pytest.raises(ValueError, match="there are 2 series already"):
        feed(aggregator, "c:1|c")
    with pytest.raises(ValueError, match="'a' is of type 'c' already"):
        feed(aggregator, "a:1|g")
    feed(aggregator, "a:1|c", now_ms=NOW_MS + EXPIRY_MS)
    assert set(samples_of(aggregator.flush(NOW_MS + EXPIRY_MS + 1))) == {("a",)}
    feed(aggregator, *(f"s:{number}|s" for number in range(MAX_SET_MEMBERS + 5)))
    assert samples_of(aggregator.flush(NOW_MS))["s",] == MAX_SET_MEMBERS


def test_a_histogram_counts_as_its_series() -> None:
    aggregator = StatsdAggregator(15, EXPIRY_MS)
    feed(aggregator, "t:1|ms", "a:1|c")
    assert len(samples_of(aggregator.flush(NOW_MS))) == 15
    with pytest.raises(ValueError, match="there are 15 series already"):
        feed(aggregator, "b:1|c")
    aggregator.flush(NOW_MS + EXPIRY_MS + 1)
    feed(aggregator, "t:1|ms", "b:1|c")


def test_what_texts_take_of_memory_is_bounded_and_given_back() -> None:
    aggregator = StatsdAggregator(100, EXPIRY_MS, max_bytes=3_000)
    feed(aggregator, "a" * 2_000 + ":1|c", *(f"s:{'m' * 500}{number}|s" for number in range(100)))
    with pytest.raises(ValueError, match="more than 3000 bytes"):
        feed(aggregator, "b" * 2_000 + ":1|c")
    members = samples_of(aggregator.flush(NOW_MS))["s",]
    assert 10 <= members <= 1_000 / 64
    feed(aggregator, *(f"s:{number}|s" for number in range(100)))
    assert samples_of(aggregator.flush(NOW_MS))["s",] == members
    aggregator.flush(NOW_MS + EXPIRY_MS + 1)
    feed(aggregator, "b" * 2_000 + ":1|c")
