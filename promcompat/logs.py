"""Structured logs: one event a line on standard error, as key=value pairs or as JSON.

Code logs a constant message and puts what varies into `extra`; both formats keep them apart.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Literal

_RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_QUOTED = frozenset(' "=\\')


def set_up_logging(level: str, log_format: Literal["logfmt", "json"]) -> None:
    """Send every log record of the process to standard error in one format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # aiohttp reports malformed requests with a traceback each; they are the client's fault.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, root.level))


def event_fields(record: logging.LogRecord) -> dict[str, object]:
    """The fields of an event in the order they are printed."""
    fields: dict[str, object] = {
        "time": _timestamp(record.created),
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


def _timestamp(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of an event."""
        return json.dumps(event_fields(record), default=str, ensure_ascii=False)


class LogfmtFormatter(logging.Formatter):
    """`key=value` pairs, quoted where a value needs it; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of an event."""
        fields = event_fields(record)
        trace = fields.pop("traceback", None)
        line = " ".join(f"{name}={_logfmt(value)}" for name, value in fields.items())
        return line if trace is None else f"{line}\n{trace}"


def _logfmt(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and _QUOTED.isdisjoint(text):
        return text
    return json.dumps(text, ensure_ascii=False)
