"""Names are those that Prometheus gives to metrics and attributes of OpenTelemetry."""

import pytest

from promcompat.otlp.names import (
    MetricKind,
    TranslationStrategy,
    label_name,
    metric_name,
    unit_words,
)

ESCAPED = TranslationStrategy.ESCAPED
PLAIN = TranslationStrategy.ESCAPED_WITHOUT_SUFFIXES
KEPT = TranslationStrategy.KEPT
GAUGE, COUNTER, OTHER = MetricKind.GAUGE, MetricKind.MONOTONIC_COUNTER, MetricKind.OTHER


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("http.server.duration", "s", OTHER, "http_server_duration_seconds"),
        ("requests.count", "1", COUNTER, "requests_count_total"),
        ("memory.usage", "By", GAUGE, "memory_usage_bytes"),
        ("requests", "1/s", GAUGE, "requests_per_second"),
        ("requests_per_second", "1/s", GAUGE, "requests_per_second_per_second"),
        ("throughput", "By/s", GAUGE, "throughput_bytes_per_second"),
        ("items.total", "1", COUNTER, "items_total"),
        ("total.items", "", COUNTER, "items_total"),
        ("cpu_seconds_total", "s", COUNTER, "cpu_seconds_total"),
        ("usage", "1", GAUGE, "usage_ratio"),
        ("usage.ratio.of", "1", GAUGE, "usage_of_ratio"),
        ("usage", "1", OTHER, "usage"),
        ("size", "By/{x}", GAUGE, "size_bytes"),
        ("open", "{connection}", GAUGE, "open"),
        ("x", "unit@with#special/chars", GAUGE, "x_unit_with_special_per_chars"),
        ("x", "kBy", GAUGE, "x_kBy"),
        ("x", "TiBy", GAUGE, "x_tibibytes"),
        ("x", "m/h", GAUGE, "x_meters_per_hour"),
        ("x", "%", GAUGE, "x_percent"),
        ("x", "/", GAUGE, "x"),
        ("123metric", "", GAUGE, "_123metric"),
        ("a__b..c", "", GAUGE, "a_b_c"),
        ("with:colon", "", GAUGE, "with:colon"),
        ("temp°", "Cel", GAUGE, "temp_celsius"),
        ("@#$%", "", GAUGE, ""),
    ],
)
def test_escaped_names_get_units_and_types(
    name: str, unit: str, kind: MetricKind, expected: str
) -> None:
    assert metric_name(name, unit, kind, ESCAPED) == expected


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("http.server.duration", "s", OTHER, "http.server.duration_seconds"),
        ("cpu_seconds_total", "s", COUNTER, "cpu_seconds_total"),
        ("requests.per_second", "1/s", GAUGE, "requests_per_second"),
        ("usage.ratio", "1", GAUGE, "usage_ratio"),
        ("ratio", "1", GAUGE, "ratio_ratio"),
        ("größe", "By", COUNTER, "größe_bytes_total"),
    ],
)
def test_kept_names_get_units_and_types(
    name: str, unit: str, kind: MetricKind, expected: str
) -> None:
    assert metric_name(name, unit, kind, KEPT) == expected


def test_names_without_suffixes() -> None:
    assert metric_name("a__b..c-", "s", COUNTER, PLAIN) == "a__b_c"
    assert metric_name("1x", "s", COUNTER, PLAIN) == "_1x"
    assert metric_name("a__b..c-", "s", COUNTER, TranslationStrategy.NONE) == "a__b..c-"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("http.method", "http_method"),
        ("a..b", "a__b"),
        ("9lives", "key_9lives"),
        ("_one", "key_one"),
        ("__two", "__two"),
        ("with:colon", "with_colon"),
        ("höhe", "h_he"),
        ("", ""),
    ],
)
def test_labels_of_attributes(name: str, expected: str) -> None:
    assert label_name(name, ESCAPED) == label_name(name, PLAIN) == expected
    assert label_name(name, KEPT) == name


def test_metadata_has_the_words_of_units() -> None:
    assert unit_words("By/s").text == "bytes_per_second"
    assert unit_words("{x}").text == ""
    assert unit_words("s/m/h").text == "seconds_per_m_h"
    assert unit_words("é#").text == ""
