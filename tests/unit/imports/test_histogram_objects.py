"""Native histograms as JSON objects, and back."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given

from promcompat.api.export.export_lines import exposition_lines, json_lines
from promcompat.core.histograms.columns import (
    Histograms,
    histogram_cells,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.model import METRIC_NAME, Labels, SampleBlock
from promcompat.imports.columns import NORMAL_NAN_BITS, ColumnsBuilder, ImportedColumns
from promcompat.imports.histogram_objects import checked_object, histogram_objects, histograms_of
from promcompat.imports.json_lines import read_json_lines
from promcompat.imports.parquet_file import ParquetError, ParquetReader, ParquetWriter
from tests.support.factories import STALE_NAN, make_labels
from tests.support.histograms import columns_of, histogram_columns, histogram_of

ODD_NAN = float(np.array(0x7FF8_0000_0000_BEEF).view(np.float64))


@given(histograms=histogram_columns())
def test_json_gives_every_bit_back(histograms: Histograms) -> None:
    text = orjson.dumps(histogram_objects(histograms))
    objects = [checked_object(one) for one in orjson.loads(text)]
    assert columns_of(histograms_of(objects)) == columns_of(histograms)


def test_an_object_names_what_it_has() -> None:
    histogram = histogram_of(
        schema=1,
        hint=3,
        zero_threshold=0.001,
        zero_count=2,
        count=11,
        sum_=float("-inf"),
        positive_spans=[(0, 2)],
        positive=[4, 5],
    )
    assert histogram_objects(histogram) == [
        {
            "schema": 1,
            "count": 11,
            "sum": "-Infinity",
            "zero_threshold": 0.001,
            "zero_count": 2,
            "positive_spans": [[0, 2]],
            "positive_counts": [4, 5],
            "counter_reset_hint": "gauge",
        }
    ]


@pytest.mark.parametrize("value", [-0.0, ODD_NAN, float("nan"), 5e-324, 1.7976931348623157e308])
def test_floats_keep_their_bits(value: float) -> None:
    histogram = histogram_of(is_float=True, count=value, sum_=value, zero_count=value)
    [found] = orjson.loads(orjson.dumps(histogram_objects(histogram)))
    assert columns_of(histograms_of([checked_object(found)])) == columns_of(histogram)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"bucket": 1}, "has no 'bucket'"),
        ({"schema": "3"}, "the `schema` of a histogram is '3'"),
        ({"count": -1}, "`count` of a histogram has -1, which is not a whole number"),
        ({"count": 1.5}, "`count` of a histogram has 1.5, which is not a whole number"),
        ({"sum": None}, "`sum` of a histogram has None, which is not a number"),
        ({"sum": "NaN:0000000000000000"}, "which is not a number"),
        ({"positive_counts": 3}, "`positive_counts` of a histogram must be an array"),
        ({"positive_spans": [[1]]}, "has [1]; expected [offset, length]"),
        ({"counter_reset_hint": "no"}, "must be one of unknown, reset, not_reset, gauge"),
        ({"float_counts": 1}, "`float_counts` of a histogram must be true or false"),
    ],
)
def test_what_is_wrong_with_an_object_is_told(changed: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        checked_object({"schema": 0, "count": 1, "sum": 1.0, **changed})


VALID = histogram_of(count=3, sum_=1.5, positive_spans=[(0, 1)], positive=[3])
FLOATS = histogram_of(
    schema=-53, is_float=True, count=2.5, sum_=1.0, positive_spans=[(1, 1)], positive=[2.5],
    bounds=[0.5],
)  # fmt: skip


def mixed_block() -> SampleBlock:
    """A series with a float, two histograms, a stale marker and NaN."""
    values = np.array([1.5, 0, STALE_NAN, 0, float("nan")])
    values[[1, 3]] = histogram_cells(np.array([1, 0]))
    return SampleBlock(
        (make_labels("h", job="a"),),
        np.arange(5, dtype=np.int64),
        values,
        np.array([0, 5]),
        histograms=Histograms.joined([FLOATS, VALID]),
    )


def read_lines(*lines: str) -> ImportedColumns:
    builder = ColumnsBuilder({})
    read_json_lines(lines, 1, builder)
    return builder.finish()


def test_exported_lines_are_imported_with_every_bit() -> None:
    block = mixed_block()
    found = read_lines(b"".join(json_lines(block)).decode())
    assert found.faults.number == 0
    assert found.timestamps.tolist() == [0, 1, 2, 3, 4]
    refers = is_histogram(found.values)
    assert refers.tolist() == [False, True, False, True, False]
    assert found.values.view(np.int64)[~refers].tolist() == [
        *block.values.view(np.int64)[[0, 2]].tolist(),
        NORMAL_NAN_BITS,
    ]
    assert found.histograms is not None
    histograms = found.histograms.take(histogram_numbers(found.values[refers]))
    assert columns_of(histograms) == columns_of(Histograms.joined([VALID, FLOATS]))


def test_lines_of_histograms_are_short_enough_for_an_import() -> None:
    n_samples = 600
    block = replace(
        mixed_block(),
        timestamps=np.arange(n_samples, dtype=np.int64),
        values=histogram_cells(np.zeros(n_samples, np.int64)),
        offsets=np.array([0, n_samples]),
    )
    rows = [len(orjson.loads(line)["values"]) for line in json_lines(block)]
    assert rows == [250, 250, 100]
    assert len(orjson.loads(next(json_lines(block, 7)))["values"]) == 7


def test_other_exports_leave_histograms_out() -> None:
    [lines] = exposition_lines(mixed_block())
    assert lines.decode().splitlines() == ['h{job="a"} 1.5 0', 'h{job="a"} NaN 4']


def test_a_histogram_that_is_not_valid_costs_only_itself() -> None:
    bad = {"schema": 0, "count": 5, "sum": 1, "positive_spans": [[0, 1]], "positive_counts": [3]}
    line = {"metric": {"__name__": "h"}, "values": [7, bad, 8], "timestamps": [1, 2, 3]}
    found = read_lines(orjson.dumps(line).decode())
    assert (found.values.tolist(), found.timestamps.tolist()) == ([7, 8], [1, 3])
    assert found.faults.number == 1
    assert "histogram's observation count should equal" in found.faults.reasons[0]


@pytest.mark.parametrize("labels", [{"a": "b"}, {METRIC_NAME: "m", "": "b"}])
def test_parquet_with_a_name_that_is_empty_is_refused(
    tmp_path: Path, labels: dict[str, str]
) -> None:
    pytest.importorskip("pyarrow")
    with ParquetWriter(tmp_path / "a.parquet") as writer:
        writer.write(replace(mixed_block(), labels=(Labels.of(labels),)))
    with pytest.raises(ParquetError, match="has no name"):
        next(ParquetReader(tmp_path / "a.parquet").batches())


def test_parquet_gives_every_bit_back(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    block = mixed_block()
    with ParquetWriter(tmp_path / "a.parquet") as writer:
        writer.write(block)
        writer.write(replace(block, values=np.arange(5.0), histograms=None))
    with_histograms = [*ParquetReader(tmp_path / "a.parquet").batches()]
    values = np.concatenate([batch.values for batch in with_histograms])
    refers = is_histogram(values)
    floats = np.append(block.values, np.arange(5.0)).view(np.int64)
    assert refers.tolist() == [False, True, False, True, *[False] * 6]
    assert values.view(np.int64)[~refers].tolist() == floats[~refers].tolist()
    histograms = with_histograms[0].histograms
    assert histograms is not None
    assert columns_of(histograms.take(histogram_numbers(values[refers]))) == columns_of(
        Histograms.joined([VALID, FLOATS])
    )
