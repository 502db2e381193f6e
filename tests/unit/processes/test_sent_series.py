"""The series of an import: the same labels in every form, and remembered beside the checkpoint."""

from pathlib import Path

import orjson
import pytest

from promcompat.processes.history.sent_series import SentSeries
from promcompat.processes.history.series_keys import (
    digest_of,
    keys_of_lines,
    keys_of_request,
    label_fields,
)
from promcompat.processes.history.sources import HistoryImportError, tally_of_request
from promcompat.remote_write.remote_pb2 import Label, Sample, TimeSeries, WriteRequest

LABELS = {"__name__": "m", "host": "web-1", "path": "/" * 300}


def series(labels: dict[str, str], *values: int) -> bytes:
    fields = [
        Label(name=name.encode(), value=value.encode()).SerializeToString()
        for name, value in labels.items()
    ]
    samples = [Sample(value=value, timestamp=1) for value in values]
    return TimeSeries(labels=fields, samples=samples).SerializeToString()


def request(*found: bytes) -> bytes:
    return WriteRequest(timeseries=found).SerializeToString()


def test_label_fields_end_where_samples_begin() -> None:
    assert label_fields(series(LABELS, 1, 2)) == series(LABELS)
    assert label_fields(series({}, 1)) == b""
    assert label_fields(b"") == b""


def test_the_same_labels_have_the_same_digest_in_every_form() -> None:
    reversed_labels = dict(reversed(LABELS.items()))
    line = orjson.dumps({"metric": reversed_labels, "values": [1], "timestamps": [1]})
    unusual = orjson.dumps({"values": [1], "timestamps": [1], "metric": LABELS})
    found = [
        *keys_of_request(request(series(LABELS, 1), series({**LABELS, "empty": ""}, 2))),
        *keys_of_request(request(series(reversed_labels))),
        *keys_of_lines(line + b"\n\n" + unusual + b"\n"),
    ]
    assert len(found) == 5
    assert len({digest_of(key) for key in found}) == 1


@pytest.mark.parametrize(
    "other",
    [{}, {**LABELS, "a": "b"}, {**LABELS, "host": "web-2"}, {"a": "bc"}, {"ab": "c"}],
)
def test_other_labels_have_another_digest(other: dict[str, str]) -> None:
    assert digest_of(series(other)) != digest_of(series(LABELS))


def test_only_series_that_were_sent_are_compared(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    sent = SentSeries(file, is_resumed=False)
    sent.add(keys_of_request(request(series(LABELS, 1))))
    mine, other = series(LABELS, 0x3FF0000000000000), series({"__name__": "other"}, 7, 8)
    for known in (sent, SentSeries(file, is_resumed=True)):
        assert len(known) == 1
        assert known.are_complete
        assert tally_of_request(known.only_these(request(other, mine))).number == 1
        alone = request(mine)
        assert known.only_these(alone) is alone
    assert len(SentSeries(tmp_path / "another", is_resumed=False)) == 0
    assert len(SentSeries(None, is_resumed=False)) == 0


def test_a_new_import_knows_nothing_of_the_series_of_an_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    SentSeries(file, is_resumed=False).add([series(LABELS)])
    assert len(SentSeries(file, is_resumed=False)) == 0
    assert not SentSeries(file, is_resumed=True).are_complete


def test_a_list_that_was_cut_short_goes_on_behind_its_last_whole_entry(tmp_path: Path) -> None:
    file, beside = tmp_path / "checkpoint", tmp_path / "checkpoint.series"
    other = {"__name__": "other"}
    SentSeries(file, is_resumed=False).add([series(LABELS), series({"a": "b"})])
    beside.write_bytes(beside.read_bytes()[:-3])
    # The last window is sent again, with all of its series.
    SentSeries(file, is_resumed=True).add([series(LABELS), series({"a": "b"}), series(other)])
    found = SentSeries(file, is_resumed=True)
    assert len(found) == 3
    assert tally_of_request(found.only_these(request(series(other, 7)))).number == 1


def test_a_list_that_an_earlier_version_did_not_begin_stays_incomplete(tmp_path: Path) -> None:
    for _ in range(2):
        sent = SentSeries(tmp_path / "checkpoint", is_resumed=True)
        assert not sent.are_complete
        sent.add([series(LABELS)])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.series").mkdir()
    with pytest.raises(HistoryImportError, match=r"checkpoint\.series cannot be read: Is a dir"):
        SentSeries(tmp_path / "checkpoint", is_resumed=True)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    sent = SentSeries(tmp_path / "nowhere" / "checkpoint", is_resumed=False)
    with pytest.raises(HistoryImportError, match=r"checkpoint\.series cannot be written: No such"):
        sent.add([series(LABELS)])
