"""Log lines in both formats."""

import json
import logging
import sys

import pytest

from promcompat.logs import JsonFormatter, LogfmtFormatter


def make_record(message: str, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("promcompat.x", logging.WARNING, "x.py", 1, message, (), None)
    record.created = 1_700_000_000.1239
    record.__dict__.update(fields)
    return record


def test_logfmt() -> None:
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


def test_json() -> None:
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
