"""Structured logs: one event a line on standard error, as key=value pairs or as JSON.

Code logs a constant message and puts what varies into `extra`; both formats keep them apart.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from promcompat.core.texts.secrets import Redactor
from promcompat.core.texts.times import format_time_ms

_RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_INTERVAL_SECONDS = 30.0
_LINES_PER_INTERVAL = 3
_MAX_MESSAGES = 1000
_QUOTED = frozenset(' "=\\')


def set_up_logging(level: str, log_format: Literal["logfmt", "json"], redactor: Redactor) -> None:
    """Send every log record of the process to standard error in one format.

    `redactor` removes secrets from all of them: libraries put addresses into their errors.
    """
    handler = logging.StreamHandler(sys.stderr)
    formatter = JsonFormatter if log_format == "json" else LogfmtFormatter
    handler.setFormatter(formatter(redactor))
    handler.addFilter(RepetitionFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # aiohttp reports malformed requests with a traceback each; they are the client's fault.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, root.level))


@dataclass(slots=True)
class _Interval:
    """The lines printed of one message since `started_at`, and how many were left out."""

    started_at: float
    texts: set[str] = field(default_factory=set)
    n_left_out: int = 0


class RepetitionFilter(logging.Filter):
    """Lets through a bounded number of lines of each warning or error.

    In `_INTERVAL_SECONDS` a line is printed once however often it is logged, and a message at most
    `_LINES_PER_INTERVAL` times with different fields. The next line of the message after that says
    in the field `left_out` how many were not printed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._intervals: dict[tuple[str, int, str], _Interval] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to print the event."""
        if record.levelno < logging.WARNING:
            return True
        key = record.name, record.levelno, str(record.msg)
        with self._lock:
            interval = self._interval_of(key, record)
            text = _comparable_text(record)
            if text in interval.texts or len(interval.texts) >= _LINES_PER_INTERVAL:
                interval.n_left_out += 1
                return False
            interval.texts.add(text)
        return True

    def _interval_of(self, key: tuple[str, int, str], record: logging.LogRecord) -> _Interval:
        now = self._clock()
        interval = self._intervals.get(key)
        if interval is not None and now - interval.started_at < _INTERVAL_SECONDS:
            return interval
        if interval is not None and interval.n_left_out:
            record.left_out = interval.n_left_out
        if len(self._intervals) >= _MAX_MESSAGES:
            self._intervals.clear()
        self._intervals[key] = interval = _Interval(now)
        return interval


def _comparable_text(record: logging.LogRecord) -> str:
    """Everything in a line but its time."""
    fields = event_fields(record)
    del fields["time"]
    fields.pop("left_out", None)
    return repr(fields)


def event_fields(record: logging.LogRecord) -> dict[str, object]:
    """The fields of an event in the order they are printed."""
    fields: dict[str, object] = {
        "time": format_time_ms(int(record.created * 1000)),
        "level": record.levelname.lower(),
        "msg": record.getMessage(),
    }
    fields |= {
        name: value for name, value in record.__dict__.items() if name not in _RECORD_ATTRIBUTES
    }
    fields["logger"] = record.name
    if record.exc_info:
        fields["traceback"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return fields


class _RedactingFormatter(logging.Formatter):
    """Prints the fields of events without the secrets in them."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        super().__init__()
        self._redactor = redactor or Redactor()

    def _public_fields(self, record: logging.LogRecord) -> dict[str, object]:
        return {
            name: value
            if isinstance(value, (int, float, bool))
            else self._redactor.hide(str(value))
            for name, value in event_fields(record).items()
        }


class JsonFormatter(_RedactingFormatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of an event."""
        return json.dumps(self._public_fields(record), ensure_ascii=False)


class LogfmtFormatter(_RedactingFormatter):
    """`key=value` pairs, quoted where a value needs it; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of an event."""
        fields = self._public_fields(record)
        trace = fields.pop("traceback", None)
        line = " ".join(f"{name}={_logfmt(value)}" for name, value in fields.items())
        return line if trace is None else f"{line}\n{trace}"


def _logfmt(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and _QUOTED.isdisjoint(text):
        return text
    return json.dumps(text, ensure_ascii=False)
