"""The readers of line formats: what each line means, and what is said of a bad one."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.errors import BadDataError
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import STALE_NAN_BITS, MetricMetadata
from promcompat.imports.columns import MAX_LINE_CHARACTERS, ColumnsBuilder, ImportedColumns
from promcompat.imports.csv_lines import parse_csv_format, read_csv_lines
from promcompat.imports.exposition import (
    ExpositionOptions,
    TimeUnit,
    parse_series,
    read_exposition,
    unit_of,
)
from promcompat.imports.graphite_lines import read_graphite_lines
from promcompat.imports.influx_lines import InfluxOptions, read_influx_lines
from promcompat.imports.json_lines import read_json_lines
from promcompat.remote_write.remote_pb2 import Label, SeriesKey
from promcompat.remote_write.series_key import decode_series_key, encode_series_key
from tests.support.known_series import NOTHING_KNOWN

NOW_MS = 1_700_000_000_000
Rows = list[tuple[dict[str, str], int, float]]
Read = Callable[[Sequence[str], int, ColumnsBuilder], None]


def columns_of(read: Read, *lines: str, **extra_labels: str) -> ImportedColumns:
    builder = ColumnsBuilder(extra_labels)
    read(lines, 1, builder)
    return builder.finish()


def rows_of(columns: ImportedColumns) -> Rows:
    labels = [decode_series_key(key).as_dict() for key in columns.keys]
    series, times = columns.series.tolist(), columns.timestamps.tolist()
    rows = zip(series, times, columns.values.tolist(), strict=True)
    return [(labels[number], time, value) for number, time, value in rows]


def exposition(unit: TimeUnit = TimeUnit.BY_MAGNITUDE) -> Read:
    options = ExpositionOptions(NOW_MS, unit)
    return lambda lines, first, builder: read_exposition(lines, first, builder, options)


def influx(precision: str = "", database: str = "") -> Read:
    options = InfluxOptions(NOW_MS, precision, database)
    return lambda lines, first, builder: read_influx_lines(lines, first, builder, options)


def comma_separated(form: str) -> Read:
    columns = parse_csv_format(form)
    return lambda lines, first, builder: read_csv_lines(lines, first, builder, columns, NOW_MS)


def graphite(lines: Sequence[str], first_line: int, builder: ColumnsBuilder) -> None:
    read_graphite_lines(lines, first_line, builder, NOW_MS)


# -- Exposition text and OpenMetrics ----------------------------------------------------------


def test_text_lines_are_samples_and_comments_are_metadata() -> None:
    columns = columns_of(
        exposition(),
        "# HELP http_requests_total The\\nrequests \\\\.",
        "# TYPE http_requests_total counter",
        "# UNIT http_requests_total requests",
        "# TYPE old untyped",
        "# anything else",
        'http_requests_total{method="post",code="200"} 1027 1395066363000',
        'http_requests_total { method = "post", code="200", } 1028 1395066364',
        'http_requests_total{method="post",code="200"} 1029 1395066365.5',
        'msdos{path="C:\\\\DIR",error="a \\"b\\"\\nc {}"} 1.458255915e9',
        "no_labels +Inf",
        '{"my.metric","label.x"="é"} -3.0E+2 # {trace_id="}"} 0.5 1395066363.000',
        "\tspaced\t1 ",
        "",
        "# EOF",
    )
    counter = {"__name__": "http_requests_total", "method": "post", "code": "200"}
    assert rows_of(columns) == [
        (counter, 1395066363000, 1027.0),
        (counter, 1395066364000, 1028.0),
        (counter, 1395066365500, 1029.0),
        ({"__name__": "msdos", "path": "C:\\DIR", "error": 'a "b"\nc {}'}, NOW_MS, 1458255915.0),
        ({"__name__": "no_labels"}, NOW_MS, math.inf),
        ({"__name__": "my.metric", "label.x": "é"}, NOW_MS, -300.0),
        ({"__name__": "spaced"}, NOW_MS, 1.0),
    ]
    assert columns.metadata == (
        MetricMetadata("http_requests_total", "counter", "The\nrequests \\.", "requests"),
        MetricMetadata("old", "unknown", "", ""),
    )
    assert not columns.faults.number


def test_names_need_no_quotes() -> None:
    """VictoriaMetrics writes and reads them so."""
    columns = columns_of(exposition(), 'a.b{c-d="1"} 1', "é.f 2 1700000000000")
    assert rows_of(columns) == [
        ({"__name__": "a.b", "c-d": "1"}, NOW_MS, 1.0),
        ({"__name__": "é.f"}, 1_700_000_000_000, 2.0),
    ]


def test_nan_is_that_of_prometheus() -> None:
    columns = columns_of(exposition(), "a NaN", "a 1")
    assert columns.values.view(np.uint64).tolist()[0] == 0x7FF8000000000001


@pytest.mark.parametrize(
    ("content_type", "text", "time_ms"),
    [
        ("application/openmetrics-text; version=1.0.0", "5", 5_000),
        ("application/openmetrics-text", "1700000000.0015", 1_700_000_000_002),
        ("text/plain; version=0.0.4", "5", 5),
        ("text/plain", "2147483647", 2_147_483_647_000),
        ("", "2147483648", 2_147_483_648),
        ("application/x-www-form-urlencoded", "-1.5", -1_500),
    ],
)
def test_the_unit_of_times_follows_the_content_type(
    content_type: str, text: str, time_ms: int
) -> None:
    columns = columns_of(exposition(unit_of(content_type)), f"a 1 {text}")
    assert rows_of(columns) == [({"__name__": "a"}, time_ms, 1.0)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a", "expected a value"),
        ("a 1 2 3", "expected a value"),
        ("a one", 'parsing "one": invalid syntax'),
        ("a 1_0", None),
        ("a 1 soon", "the timestamp 'soon' is not a number"),
        ("a 1 NaN", "the timestamp 'NaN' is not a number"),
        ("a 1 --5", "the timestamp '--5' is not a number"),
        ("{} 1", "there is no metric name"),
        ('{a="b"} 1', "there is no metric name"),
        ('a{b="c" 1', "start with a metric name"),
        ('a{b="c",b="d"} 1', "the label 'b' comes twice"),
        ("a{b=c} 1", "the value of label 'b' is not in quotes"),
        ("a{b} 1", "expected = after the label name 'b'"),
        ('a{b="c"d="e"} 1', "expected a comma"),
        ("a 1 99999999999999999999999", "a timestamp is out of range"),
        ("# TYPE a thing", "unknown metric type 'thing'"),
        ('a{b="\udcff"} 1', "not valid Unicode"),
    ],
)
def test_bad_lines_are_named_and_the_others_read(line: str, reason: str | None) -> None:
    columns = columns_of(exposition(), "ok 1 1700000000000", line, "ok 2 1700000001000")
    assert [value for labels, _, value in rows_of(columns) if labels["__name__"] == "ok"] == [1, 2]
    if reason is None:
        assert not columns.faults.number
        return
    assert columns.faults.number == 1
    assert reason in columns.faults.reasons[0] or line == 'a{b="c" 1'
    if "out of range" not in reason:
        assert columns.faults.reasons[0].startswith("line 2 (")


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1, max_size=8)


@given(TEXTS, st.dictionaries(TEXTS | NAMES, TEXTS, max_size=3))
def test_every_series_that_is_written_is_read_back(name: str, labels: dict[str, str]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    labels.pop("__name__", None)
    parts = [quoted(name), *(f"{quoted(label)}={quoted(value)}" for label, value in labels.items())]
    text = "{" + ",".join(parts) + "}"
    assert parse_series(f"{text} 1 2") == ({"__name__": name, **labels}, len(text))


# -- JSON lines -------------------------------------------------------------------------------


def test_json_lines_are_series() -> None:
    columns = columns_of(
        read_json_lines,
        '{"metric":{"__name__":"up","job":"a"},"values":[1,2.5],"timestamps":[1000,2000]}',
        "",
        '{"metric":{"__name__":"up","job":"a","e":""},"values":[null,"-Inf"],"timestamps":[3e3,4e3]}',
        x="y",
    )
    up = {"__name__": "up", "job": "a", "x": "y"}
    assert len(columns.keys) == 1
    assert rows_of(columns)[:2] == [(up, 1000, 1.0), (up, 2000, 2.5)]
    assert columns.timestamps.tolist()[2:] == [3000, 4000]
    assert columns.values.view(np.uint64).tolist()[2] == STALE_NAN_BITS
    assert columns.values[3] == -math.inf


def test_nan_and_the_stale_marker_differ_in_json() -> None:
    line = '{"metric":{"__name__":"a"},"values":[1,null,"NaN"],"timestamps":[1,2,3]}'
    bits = columns_of(read_json_lines, line).values.view(np.uint64).tolist()
    assert bits[1:] == [STALE_NAN_BITS, 0x7FF8000000000001]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not valid JSON"),
        ("[]", "expected an object with `metric`"),
        ('{"metric":{"__name__":"a"},"values":[],"timestamps":[]}', "at least one"),
        ('{"metric":{"__name__":"a"},"values":[1],"timestamps":[1,2]}', "must have the same"),
        ('{"metric":{"__name__":1},"values":[1],"timestamps":[1]}', "must be strings"),
        ('{"metric":{"a":"b"},"values":[1],"timestamps":[1]}', "no metric name"),
        ('{"metric":{"__name__":"a"},"values":[1],"timestamps":[1}', "JSON at column 56"),
        ('{"metric":{"__name__":"a"},"values":[true],"timestamps":[1]}', "not a number"),
        ('{"metric":{"__name__":"a"},"values":["x"],"timestamps":[1]}', "'x'"),
        ('{"metric":{"__name__":"a"},"values":[1],"timestamps":[1.5]}', "whole numbers"),
        ('{"metric":{"__name__":"a"},"values":[1],"timestamps":["1"]}', "whole numbers"),
    ],
)
def test_bad_json_lines_are_named(line: str, reason: str) -> None:
    good = '{"metric":{"__name__":"up"},"values":[1],"timestamps":[1]}'
    columns = columns_of(read_json_lines, good, line, good)
    assert len(columns.series) == 2
    assert columns.faults.number == 1
    assert columns.faults.reasons[0].startswith("line 2 (")
    assert reason in columns.faults.reasons[0]


# -- Influx line protocol ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_samples", "value", "labels", "is_read"),
    [
        (590_000, "1", "", True),
        (800_000, "1", "", False),
        (300_000, "[]", "", False),
        (1, "1", ",".join(f'"{number}":"b"' for number in range(300_000)), False),
    ],
)
def test_a_json_line_stands_for_so_many_objects_at_most(
    n_samples: int, value: str, labels: str, is_read: bool
) -> None:
    metric = f'"__name__":"a"{"," if labels else ""}{labels}'
    values, times = ",".join([value] * n_samples), ",".join(["1700000000000"] * n_samples)
    line = f'{{"metric":{{{metric}}},"values":[{values}],"timestamps":[{times}]}}'
    columns = columns_of(read_json_lines, line)
    if is_read:
        assert (len(line) > 9_000_000, len(columns.series)) == (True, n_samples)
    else:
        assert "send several lines" in columns.faults.reasons[0]


def test_lines_of_other_formats_have_a_length_at_most() -> None:
    options = InfluxOptions(0, "", "")
    form = parse_csv_format("1:metric:m,2:label:l")
    cases: list[tuple[Any, str, str, str, tuple[Any, ...]]] = [
        (read_exposition, 'm{l="', "x", '"} 1', (ExpositionOptions(0),)),
        (read_csv_lines, "1,", ",", "", (form, 0)),
        (read_graphite_lines, "m;l=", "x", " 1 1", (0,)),
        (read_influx_lines, "m,l=", "x", " f=1", (options,)),
    ]
    for read, head, filler, tail, arguments in cases:
        longest = head + filler * (MAX_LINE_CHARACTERS - len(head + tail)) + tail
        builder = ColumnsBuilder({})
        read([longest, head + longest], 2, builder, *arguments)
        assert (len(builder.series), builder.faults.number) == (1, 1)
        assert "is longer than 524,288 characters" in builder.faults.reasons[0]


def test_influx_fields_are_metrics_and_tags_labels() -> None:
    columns = columns_of(
        influx("s", "metrics"),
        'cpu,host=a,db=own usage=1.5,idle=98i,up=t,text="x, =y" 1700000001',
        "# comment",
        'my\\ cpu,ho\\,st=a\\ b\\=c us\\ age=2u,note="a \\"b\\" \\\\" 1700000002\r',
        "cpu f=1e3",
    )
    assert rows_of(columns) == [
        ({"__name__": "cpu_usage", "host": "a", "db": "own"}, 1_700_000_001_000, 1.5),
        ({"__name__": "cpu_idle", "host": "a", "db": "own"}, 1_700_000_001_000, 98.0),
        ({"__name__": "cpu_up", "host": "a", "db": "own"}, 1_700_000_001_000, 1.0),
        (
            {"__name__": "my cpu_us age", "ho,st": "a b=c", "db": "metrics"},
            1_700_000_002_000,
            2.0,
        ),
        ({"__name__": "cpu_f", "db": "metrics"}, NOW_MS, 1000.0),
    ]
    assert columns.n_skipped == 2
    assert not columns.faults.number


@pytest.mark.parametrize(
    ("precision", "time", "time_ms"),
    [
        ("ns", "1700000000123456789", 1_700_000_000_123),
        ("n", "-1", -1),
        ("us", "1700000000123456", 1_700_000_000_123),
        ("ms", "5", 5),
        ("s", "5", 5_000),
        ("m", "2", 120_000),
        ("h", "1", 3_600_000),
        ("", "1700000000123456789", 1_700_000_000_123),
        ("", "1700000000123456", 1_700_000_000_123),
        ("", "1700000000123", 1_700_000_000_123),
        ("", "1700000000", 1_700_000_000_000),
        ("", "0", NOW_MS),
    ],
)
def test_influx_times_have_a_precision(precision: str, time: str, time_ms: int) -> None:
    assert columns_of(influx(precision), f"a b=1 {time}").timestamps.tolist() == [time_ms]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("cpu", "expected name=value"),
        ("cpu usage=", "expected name=value"),
        ("cpu usage=abc", "'abc' is not a number"),
        ("cpu usage=1_000", "'1_000' is not a number"),
        ("cpu usage=1_000i", "'1_000i' is not a number"),
        ("cpu usage=1 soon", "bad timestamp"),
        ("cpu usage=1 1_700_000_000", "bad timestamp"),
        ("cpu,host usage=1", "expected tag=value in place of 'host'"),
        ('cpu usage="open 1', "a quoted value has no closing quote"),
    ],
)
def test_bad_influx_lines_are_named(line: str, reason: str) -> None:
    columns = columns_of(influx(), line, "cpu usage=1")
    assert len(columns.series) == 1
    assert columns.faults.number == 1
    assert reason in columns.faults.reasons[0]


# -- CSV --------------------------------------------------------------------------------------


def test_csv_columns_are_named_by_the_format() -> None:
    read = comma_separated("2:metric:ask,4:metric:bid,1:label:ticker,3:time:rfc3339")
    columns = columns_of(
        read,
        "ticker,ask,time,bid",
        "GOOG,1.23,2023-11-14T22:13:20Z,",
        '"A,B",-2,2023-11-14T23:13:20.5+01:00,4,ignored',
    )
    assert rows_of(columns) == [
        ({"__name__": "ask", "ticker": "GOOG"}, 1_700_000_000_000, 1.23),
        ({"__name__": "ask", "ticker": "A,B"}, 1_700_000_000_500, -2.0),
        ({"__name__": "bid", "ticker": "A,B"}, 1_700_000_000_500, 4.0),
    ]
    assert not columns.faults.number


def test_csv_cells_have_either_quote() -> None:
    read = comma_separated("1:metric:a,2:label:b,3:label:c,4:time:unix_s")
    lines = """1,'x,y','"q"',5\r""", """'2',"z""'",it's,""", "3,'open,,5", "4,'x'y,,5"
    columns = columns_of(read, *lines)
    assert rows_of(columns) == [
        ({"__name__": "a", "b": "x,y", "c": '"q"'}, 5_000, 1.0),
        ({"__name__": "a", "b": "z\"'", "c": "it's"}, NOW_MS, 2.0),
    ]
    assert columns.faults.number == 2
    assert "a quoted cell has no closing quote" in columns.faults.reasons[0]


@pytest.mark.parametrize(
    ("form", "text", "time_ms"),
    [
        ("unix_s", "1700000000", 1_700_000_000_000),
        ("unix_ms", "5", 5),
        ("unix_ns", "1700000000999999999", 1_700_000_000_999),
        ("custom:2006-01-02 15:04:05.000", "2023-11-14 22:13:20.250", 1_700_000_000_250),
        ("custom:02/Jan/2006 03:04 PM -0700", "14/Nov/2023 11:13 PM +0100", 1_699_999_980_000),
        ("custom:Mon Jan _2 3:04PM 2006", "Tue Nov 14 10:13PM 2023", 1_699_999_980_000),
        ("custom:2006-1-2 15:4:5.999 %", "2023-11-4 2:3:5.25 %", 1_699_063_385_250),
    ],
)
def test_csv_times_have_a_form(form: str, text: str, time_ms: int) -> None:
    columns = columns_of(comma_separated(f"1:metric:a,2:time:{form}"), f"1,{text}")
    assert rows_of(columns) == [({"__name__": "a"}, time_ms, 1.0)]


def test_bad_csv_rows_are_named_except_a_header() -> None:
    read = comma_separated("1:metric:a,2:time:unix_s")
    columns = columns_of(read, "value,time", "1", "x,1", "1,soon", '"1,2', "1,5")
    assert rows_of(columns) == [({"__name__": "a"}, 5_000, 1.0)]
    assert columns.faults.number == 4
    assert "the row has 1 columns; the format needs 2" in columns.faults.reasons[0]
    assert "the time 'soon' is not of the form unix_s" in columns.faults.reasons[2]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("", "the parameter `format` is missing"),
        (",", "cannot parse <column_pos>"),
        ("1:label:a", "missing 'metric' column"),
        ("1:metric:a,1:label:b", "duplicate <column_pos> 1"),
        ("0:metric:a", "cannot parse <column_pos>"),
        ("1:size:a", "unknown <column_type>: 'size'; allowed values: time, metric, label"),
        ("1:metric", "<context> in '1:metric' is empty"),
        ("1:metric:a,2:time:unix", "unknown form of a time: 'unix'"),
        ("9" * 5_000 + ":metric:a", "cannot parse <column_pos>"),
        ("1:metric:a,2:time:custom:2006 2006", "has a part twice"),
        ("1:metric:a,2:time:unix_s,3:time:unix_s", "more than one 'time'"),
    ],
)
def test_bad_csv_formats_are_refused(form: str, text: str) -> None:
    with pytest.raises(BadDataError, match=text.replace("(", r"\(")):
        parse_csv_format(form)


def test_a_percent_sign_in_the_form_of_a_time_is_itself() -> None:
    read = comma_separated("1:metric:a,2:time:custom:2006%Y%n")
    columns = columns_of(read, "1,1970%Y%n", "1,19701970")
    assert rows_of(columns) == [({"__name__": "a"}, 0, 1.0)]
    assert columns.faults.number == 1


def test_labels_that_stand_for_many_series_are_bounded_together() -> None:
    fields = ",".join(f"f{number}=1" for number in range(400))
    with pytest.raises(BadDataError, match="the labels of the samples take more than"):
        columns_of(influx(), f"m,a={'x' * 400_000} {fields}")
    builder = ColumnsBuilder({"a": "x" * 2_000_000})
    with pytest.raises(BadDataError, match="the labels of the samples take more than"):
        read_json_lines(
            ['{"metric":{"__name__":"m"},"values":[1],"timestamps":[1]}'] * 100, 1, builder
        )


# -- Graphite ---------------------------------------------------------------------------------


def test_graphite_lines_are_samples() -> None:
    columns = columns_of(
        graphite, "servers.web-1.load;dc=a;rack=2 1.5 1700000000.9", "a.b\t2  -1", "c 3", "d 4 0\r"
    )
    assert rows_of(columns) == [
        ({"__name__": "servers.web-1.load", "dc": "a", "rack": "2"}, 1_700_000_000_000, 1.5),
        ({"__name__": "a.b"}, NOW_MS, 2.0),
        ({"__name__": "c"}, NOW_MS, 3.0),
        ({"__name__": "d"}, NOW_MS, 4.0),
    ]


def test_bad_graphite_lines_are_named() -> None:
    columns = columns_of(graphite, "a", "a x", "a;b 1", "a 1 soon", "a 1 inf", "a 1 2 3", ";a=b 1")
    assert not len(columns.series)
    assert columns.faults.number == 7


# -- Into a batch -----------------------------------------------------------------------------


def test_series_beyond_the_limits_are_left_out_with_their_samples() -> None:
    lines = ('a{b="1",c="2"} 1 5', "d 2 5", 'a{b="1",c="2"} 3 6', "d 4 6")
    columns = columns_of(exposition(TimeUnit.MILLISECONDS), *lines)
    batch, faults = columns.to_batch(NOTHING_KNOWN, LabelLimits(max_names=2))
    assert batch.values.tolist() == [2.0, 4.0]
    assert [batch.labels[key].get("__name__") for key in batch.unknown_keys] == ["d", "d"]
    assert faults.number == 2
    assert "more than the limit of 2" in faults.reasons[0]


def test_metadata_that_the_database_cannot_hold_is_left_out_or_cleaned() -> None:
    """A name says which family it is; a help text is for people."""
    comments = ("# TYPE a\udc93 counter", "# TYPE b\0 counter", "# HELP c \udc93 \0")
    batch, faults = columns_of(exposition(), *comments).to_batch(NOTHING_KNOWN, LabelLimits())
    assert batch.metadata == (MetricMetadata("c", "unknown", "\ufffd \ufffd", ""),)
    assert not faults.number


def test_texts_that_were_read_before_stand_for_the_same_labels() -> None:
    """They are remembered by the process; labels that a request adds are not."""
    exposition = partial(read_exposition, options=ExpositionOptions(0))
    line = '{"metric":{"__name__":"a","x":"}"},"values":[1],"timestamps":[1]}'
    later = '{"values":[1],"timestamps":[1],"metric":{"__name__":"a","x":"}"}}'
    for _ in range(2):
        for read, text in (
            (exposition, 'a{x="}"} 1 1000'),
            (exposition, 'a{x="}",} 1 1000 # {t="}"} 1'),
            (read_json_lines, line),
            (read_json_lines, later),
        ):
            assert rows_of(columns_of(read, text))[0][0] == {"__name__": "a", "x": "}"}
            extended = rows_of(columns_of(read, text, dc="eu"))
            assert extended[0][0] == {"__name__": "a", "x": "}", "dc": "eu"}
        for database in ("", "d", "d\ne"):
            influx = partial(read_influx_lines, options=InfluxOptions(0, "ms", database))
            labels = {"__name__": "cpu_a", "t": "x"} | ({"db": database} if database else {})
            assert rows_of(columns_of(influx, "cpu,t=x a=1 1"))[0][0] == labels
        for metric, label in (("a", "t"), ("a", "u"), ("b", "u"), ("a", "u\nv")):
            read = comma_separated(f"1:metric:{metric},2:label:{label}")
            columns = columns_of(read, "1,x", "2,")
            labels = {"__name__": metric}
            assert [row[0] for row in rows_of(columns)] == [labels | {label: "x"}, labels]


@pytest.mark.parametrize("value", ["", "ä", "v" * 300])
def test_keys_are_what_the_protobuf_library_writes(value: str) -> None:
    message = SeriesKey(labels=[Label(name=b"n", value=value.encode()), Label(name=b"")])
    for _ in range(2):
        assert encode_series_key([("n", value), ("", "")]) == message.SerializeToString()
