"""Log lines in both formats."""

import json
import logging
import sys

import pytest

from promcompat.logs import JsonFormatter, LogfmtFormatter, RepetitionFilter


def make_record(message: str, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("promcompat.x", logging.WARNING, "x.py", 1, message, (), None)
    record.created = 1_700_000_000.1239
    record.__dict__.update(fields)
    return record


def test_records_are_written_as_logfmt() -> None:
    line = LogfmtFormatter().format(make_record("it is so", tenant="a", reason='say "no"', n=3))
    assert line == (
        'time=2023-11-14T22:13:20.123Z level=warning msg="it is so" '
        'tenant=a reason="say \\"no\\"" n=3 logger=promcompat.x'
    )


@pytest.mark.parametrize("text", ["", "a b", "a=b", "new\nline", "tab\t", '"'])
def test_logfmt_quotes_what_would_not_read_back(text: str) -> None:
    line = LogfmtFormatter().format(make_record("m", value=text))
    assert f"value={json.dumps(text)} " in line
    assert "\n" not in line


def test_records_are_written_as_json() -> None:
    line = JsonFormatter().format(make_record("m", tenant="ü", size=2, path=object))
    fields = json.loads(line)
    assert list(fields) == ["time", "level", "msg", "tenant", "size", "path", "logger"]
    assert (fields["tenant"], fields["size"]) == ("ü", 2)


def test_tracebacks_are_kept() -> None:
    record = make_record("failed")
    try:
        raise KeyError("why")
    except KeyError:
        record.exc_info = sys.exc_info()
    assert "KeyError: 'why'" in LogfmtFormatter().format(record).split("\n", 1)[1]
    assert "KeyError: 'why'" in json.loads(JsonFormatter().format(record))["traceback"]


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_same_line_is_printed_once_in_an_interval_and_then_with_a_count() -> None:
    clock = Clock()
    lines = RepetitionFilter(clock)
    refused = [make_record("remote write rejected", tenant="a", status=503) for _ in range(1001)]
    assert [lines.filter(record) for record in refused[:1000]] == [True, *[False] * 999]
    clock.seconds = 31.0
    assert lines.filter(refused[1000])
    assert "left_out=999" in LogfmtFormatter().format(refused[1000])


def test_lines_of_one_message_that_differ_are_bounded_too() -> None:
    clock = Clock()
    lines = RepetitionFilter(clock)
    printed = [lines.filter(make_record("refused", reason=str(n))) for n in range(100)]
    assert sum(printed) == 3
    assert lines.filter(make_record("another message", reason="0"))
    clock.seconds = 31.0
    last = make_record("refused", reason="100")
    assert lines.filter(last)
    assert last.left_out == 97  # type: ignore[attr-defined]


def test_events_below_warnings_are_all_printed() -> None:
    lines = RepetitionFilter(Clock())
    record = make_record("request")
    record.levelno = logging.INFO
    assert all(lines.filter(record) for _ in range(10))
