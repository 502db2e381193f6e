"""The text of federation, as Prometheus 3.5.3 writes it."""

import pytest

from promcompat.api.export.exposition_text import (
    ClassicHistogram,
    Escaping,
    accepted_format,
    escape_name,
    families,
)
from tests.support.factories import make_labels

FROM_SCRAPERS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "escaping"),
    [
        ("", "underscores"),
        ("text/html", "underscores"),
        (FROM_SCRAPERS, "allow-utf-8"),
        ("text/plain;escaping=values", "values"),
        ("text/plain; escaping=unknown", "underscores"),
        ("application/openmetrics-text;escaping=dots;q=0.1,text/plain;q=0.3", "underscores"),
        ("text/plain;escaping=dots;q=x", "dots"),
    ],
)
def test_the_form_of_names_follows_the_accept_header(accept: str, escaping: str) -> None:
    chosen = accepted_format(accept)
    assert chosen == (False, escaping)
    assert chosen.content_type.endswith(f"; escaping={escaping}")


@pytest.mark.parametrize(
    ("name", "underscores", "dots", "values"),
    [
        ("plain_name:x", "plain_name:x", "plain_name:x", "plain_name:x"),
        ("0weird:name", "_weird:name", "__weird:name", "U___30_weird:name"),
        ("dotted.name", "dotted_name", "dotted_dot_name", "U__dotted_2e_name"),
        ("a_ü", "a__", "a____", "U__a___fc_"),
    ],
)
def test_names_are_escaped(name: str, underscores: str, dots: str, values: str) -> None:
    found = [escape_name(name, escaping) for escaping in Escaping]
    assert found == [name, underscores, dots, values]


def test_samples_of_a_metric_come_below_its_type() -> None:
    samples = [
        (make_labels("up", instance="x", job="a"), 5, 1.0),
        (make_labels("up", job='a"b\\c\nd'), 6, 1e21),
        (make_labels("w.x", **{"label.x": "1"}), 7, float("nan")),
        (make_labels("z"), 8, -0.0),
    ]
    text = "".join(families(samples, Escaping.ALLOW_UTF_8))
    assert text == (
        "# TYPE up untyped\n"
        'up{instance="x",job="a"} 1 5\n'
        'up{job="a\\"b\\\\c\\nd",instance=""} 1e+21 6\n'
        '# TYPE "w.x" untyped\n'
        '{"w.x","label.x"="1",instance=""} NaN 7\n'
        "# TYPE z untyped\n"
        'z{instance=""} 0 8\n'
    )


def test_histograms_of_custom_buckets_become_classic_ones_in_families_of_their_own() -> None:
    histogram = ClassicHistogram((0.5, 1.0), (1.0, 3.0), 7.5, 4.0)
    samples = [
        (make_labels("h", job="a"), 5, histogram),
        (make_labels("h", job="b"), 6, 2.0),
    ]
    assert "".join(families(samples, Escaping.UNDERSCORES)) == (
        "# TYPE h histogram\n"
        'h_bucket{job="a",instance="",le="0.5"} 1 5\n'
        'h_bucket{job="a",instance="",le="1"} 3 5\n'
        'h_bucket{job="a",instance="",le="+Inf"} 4 5\n'
        'h_sum{job="a",instance=""} 7.5 5\n'
        'h_count{job="a",instance=""} 4 5\n'
        "# TYPE h untyped\n"
        'h{job="b",instance=""} 2 6\n'
    )
