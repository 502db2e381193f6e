"""Bodies of scrapes are read by the rules of Prometheus' parsers, or refused as a whole."""

import math
from typing import Any

import pytest

from promcompat.core.model import MetricMetadata
from promcompat.imports.strict_exposition import (
    ExpositionError,
    open_metrics_float,
    read_open_metrics,
    read_text,
)


class Lines:
    """Keeps what was read."""

    def __init__(self) -> None:
        self.by_text: dict[str, dict[str, str]] = {}
        self.metadata: dict[str, MetricMetadata] = {}
        self.samples: list[Any] = []
        self.exemplars: list[Any] = []

    def new_series(self, text: str, labels: dict[str, str]) -> dict[str, str]:
        return self.by_text.setdefault(text, labels)

    def add(self, series: dict[str, str], time_ms: int | None, value: float) -> None:
        self.samples.append((series, time_ms, value))

    def add_exemplar(
        self, series: dict[str, str], labels: dict[str, str], value: float, time_ms: int | None
    ) -> None:
        self.exemplars.append((labels, value, time_ms))

    def note_family(self, described: MetricMetadata) -> None:
        assert self.metadata[described.family] == described


def series(name: str, **labels: str) -> dict[str, str]:
    return {"__name__": name, **labels}


def test_text_is_read() -> None:
    lines = Lines()
    body = """\
# HELP a A \\\\ b\\nc
# TYPE a counter
# any comment
#TYPE b gouge
 \t# another one
 # HELP c C
a 1
a{x="}",y="1",} 2.5 1000
  \t
a{x="}",y="1",}3
# TYPE h histogram
h_bucket{le="1"} 4
h_bucket{le="+Inf"} \t 5 \t
{"a.b","c d"="e"} NaN
z -Inf"""
    read_text(body, lines)
    *samples, (dotted, _, nan), last = lines.samples
    assert samples == [
        (series("a"), None, 1.0),
        (series("a", x="}", y="1"), 1000, 2.5),
        (series("a", x="}", y="1"), None, 3.0),
        (series("h_bucket", le="1.0"), None, 4.0),
        (series("h_bucket", le="+Inf"), None, 5.0),
    ]
    assert dotted == {"__name__": "a.b", "c d": "e"}
    assert math.isnan(nan)
    assert last == (series("z"), None, -math.inf)
    assert lines.metadata["a"] == MetricMetadata("a", "counter", "A \\ b\nc", "")
    assert sorted(lines.metadata) == ["a", "c", "h"]


def test_open_metrics_is_read() -> None:
    lines = Lines()
    body = """\
# HELP a_seconds Help.
# TYPE a_seconds counter
# UNIT a_seconds seconds
a_seconds_total{x="1 # {2"} 1 1.0015 # {id="x y"} 3 4.5
# TYPE s summary
s{quantile="0.50"} 2 # {} 1
# EOF
"""
    read_open_metrics(body, lines)
    assert lines.samples == [
        (series("a_seconds_total", x="1 # {2"), 1001, 1.0),
        (series("s", quantile="0.5"), None, 2.0),
    ]
    assert lines.exemplars == [({"id": "x y"}, 3.0, 4500), ({}, 1.0, None)]
    assert lines.metadata["a_seconds"].unit == "seconds"
    for empty in ("# EOF", "# EOF\n"):
        read_open_metrics(empty, lines)


@pytest.mark.parametrize(
    "bad",
    [
        "a", "a 1 2 3", "a b", "a 1 -5", "a 1 1.5", "a 1_0", "a 0x1p3", "a 1e999", "a -nan",
        "a 1\r", "1a 1", 'a{x="1" 1', 'a{x=1} 1', 'a{x="1",x="2"} 1', "# TYPE a gouge",
        "# TYPE a unknown", '{x="1"', "a \u0661",
    ],
)  # fmt: skip
def test_one_bad_line_of_text_refuses_the_body(bad: str) -> None:
    with pytest.raises(ExpositionError, match="line 2 "):
        read_text(f"good 1\n{bad}\n", Lines())


@pytest.mark.parametrize(
    "bad",
    [
        "", "a  1", "a 1 ", "a 1 NaN", "a 1 +Inf", "# TYPE a untyped", "# comment", "# UNIT a m",
        "# EOF", 'a 1 # {x="1"}', "a\t1", "a 1 # {x} 1", "a 1 1 1",
    ],
)  # fmt: skip
def test_one_bad_line_of_open_metrics_refuses_the_body(bad: str) -> None:
    with pytest.raises(ExpositionError, match="line 2 "):
        read_open_metrics(f"good 1\n{bad}\n# EOF\n", Lines())


@pytest.mark.parametrize("body", ["", "a 1\n", "a 1\n# EOF\na 1\n", "a 1# EOF\n", "# EOF\n\n"])
def test_open_metrics_ends_with_its_mark(body: str) -> None:
    with pytest.raises(ExpositionError, match="data does not end with # EOF"):
        read_open_metrics(body, Lines())


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1.0"), (100_000, "100000.0"), (1e6, "1e+06"), (0.25, "0.25"), (math.inf, "+Inf")],
)
def test_numbers_in_labels_are_written_as_open_metrics_does(value: float, text: str) -> None:
    assert open_metrics_float(value) == text
