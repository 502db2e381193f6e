"""`POST /ingest` and `POST /ingest/batch`: samples as JSON into the write path of remote write."""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from native_api.contract.names import METRIC_NAME_TEXT
from native_api.contract.problem import (
    Fault,
    InvalidRequestError,
    describe_fault,
    fault,
    fault_documents,
    problem_response,
)
from native_api.contract.request_body import check_media_type, read_body
from native_api.contract.responses import json_response
from native_api.contract.route import Call, Example, Reply, Route
from native_api.contract.times import TIME_TEXT
from native_api.contract.validation import (
    JSON_TEXT,
    Expectations,
    expected_of,
    reason_of,
    refusal_of,
)
from native_api.ingest.columns import ColumnReader, SampleFault
from native_api.ingest.payloads import (
    MAX_BATCH,
    BatchPayload,
    IngestQuery,
    IngestReply,
    SamplePayload,
)
from promcompat.core.errors import PromcompatError, StaleKnowledgeError, WriteRejectedError
from promcompat.core.model import WriteBatch
from promcompat.core.texts.json_sizes import JSON_TOKENS_TEXT, has_many_tokens
from promcompat.http.bodies import BODIES, work_of
from promcompat.http.context import SETTINGS, TELEMETRY
from promcompat.metrics.metric_service import MetricService

_BYTES_PER_FAULT = 200
"Reporting a fault costs about as much as reading this many bytes."
_ATTEMPTS = 3
_BATCH: TypeAdapter[BatchPayload] = TypeAdapter(BatchPayload)
_SAMPLE: TypeAdapter[SamplePayload] = TypeAdapter(SamplePayload)
_COLUMNS = ColumnReader()
_MEDIA_TYPES = ("application/json",)
_EXPECTATIONS = {False: Expectations.of(SamplePayload), True: Expectations.of(BatchPayload)}
_EXPECTED = {
    "value": "a number, or NaN, Infinity or -Infinity as a string",
    "timestamp": TIME_TEXT,
}
_BARE_NUMBER = re.compile(r"-?(NaN|Infinity)")
"""As Python's json and JavaScript-like writers print them."""
_CONFLICT = (
    "value",
    "a different value is already stored for this time, and the first value is kept",
    "the stored value, another time, or `duplicate_policy: last` in the metric's definition",
)

Read = tuple[WriteBatch, list[int], list[SampleFault]]
"A batch, the position in the request of each of its rows, and the faults of other samples."


async def handle_ingest(call: Call[IngestQuery, None]) -> web.Response:
    """Store one sample."""
    return await _ingest(call, is_batch=False)


async def handle_ingest_batch(call: Call[IngestQuery, None]) -> web.Response:
    """Store many samples."""
    return await _ingest(call, is_batch=True)


async def _ingest(call: Call[IngestQuery, None], *, is_batch: bool) -> web.Response:
    check_media_type(call.request, _MEDIA_TYPES)
    service = call.services.metrics
    settings = call.request.app[SETTINGS]
    body = await read_body(
        call.request, settings.write_max_body_bytes, settings.write_max_decoded_bytes
    )
    bodies = call.request.app[BODIES].of(call.tenant)

    async def read() -> Read:
        return await bodies.parse(len(body), _read, body, is_batch, service, call.tenant)

    batch, positions, faults = await read()
    metrics = call.request.app[TELEMETRY].native_ingest
    metrics.requests.inc()
    metrics.refuse("invalid", len({found.index for found in faults}))
    service.count_faults(call.tenant, (found.reason for found in faults))
    if faults and not call.query.partial:
        metrics.refuse("withheld", len(batch))
        raise await bodies.work(_BYTES_PER_FAULT * len(faults), _refusal, faults, is_batch)
    if not len(batch):
        return await _reply(call.request, 0, faults, is_batch)
    with call.services.limits.rates.admitted(call.tenant, len(batch)):
        try:
            await _write(call, batch, read)
        except WriteRejectedError as exc:
            return await _partly_stored(call, exc, positions, faults, is_batch)
        except PromcompatError:
            metrics.refuse("failed", len(batch))
            raise
    metrics.samples_accepted.inc(len(batch))
    return await _reply(call.request, len(batch), faults, is_batch)


async def _write(
    call: Call[IngestQuery, None], batch: WriteBatch, read: Callable[[], Awaitable[Read]]
) -> None:
    """Store a batch; read it again when series that it knew were removed meanwhile."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(StaleKnowledgeError):
            return await call.services.metrics.write(call.tenant, batch)
        batch, _, _ = await read()
    await call.services.metrics.write(call.tenant, batch)


def _refusal(faults: Sequence[SampleFault], is_batch: bool) -> InvalidRequestError:
    """The error for a request that is rejected as a whole."""
    listed = [_fault_of(found, is_batch) for found in faults]
    return InvalidRequestError(listed, f"nothing was stored: {describe_fault(listed[0])}")


def _read(body: bytes, is_batch: bool, service: MetricService, tenant: str) -> Read:
    """Parse and check a body. Raises InvalidRequestError if it contains no readable samples."""
    if has_many_tokens(body):
        text = f"has {JSON_TOKENS_TEXT}"
        raise InvalidRequestError([fault("body", "body", text, "a smaller batch")])
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequestError([_unreadable(exc)]) from exc
    items, positions, keys, faults = _validate(document, is_batch)
    # Also if some are invalid already, so that the client gets all faults at once.
    batch, kept, more = _COLUMNS.read(
        items,
        positions,
        keys,
        service.now_ms(),
        service.latest_ms(tenant),
        service.known_series(tenant),
        service.label_limits(tenant),
    )
    return batch, kept, sorted([*faults, *more], key=lambda found: found.index)


def _unreadable(error: orjson.JSONDecodeError) -> Fault:
    place = f"line {error.lineno} column {error.colno}"
    if "infinity" in error.msg:
        reason = f"contains a number beyond the range of a double at {place}"
        return fault("body", "body", reason, "a smaller number, or Infinity as a string")
    if _BARE_NUMBER.match(error.doc, error.pos):
        reason = f"has NaN or an infinity without quotes, which JSON does not know, at {place}"
        return fault("body", "body", reason, "NaN, Infinity or -Infinity as a string")
    return fault("body", "body", f"is not valid JSON at {place}", JSON_TEXT)


def _validate(
    document: Any, is_batch: bool
) -> tuple[Sequence[SamplePayload], Sequence[int], Sequence[bytes | None], list[SampleFault]]:
    """The well-formed items, their positions, the keys of those with a known series, and the
    faults of the other items.
    """
    items = _items_of(document, is_batch)
    keys = _COLUMNS.recognise(items)
    unknown = [row for row, key in enumerate(keys) if key is None]
    faults = _shape_faults([items[row] for row in unknown], unknown, is_batch)
    if not faults:
        return items, range(len(items)), keys, faults
    bad = {found.index for found in faults}
    kept = [row for row in range(len(items)) if row not in bad]
    return [items[row] for row in kept], kept, [keys[row] for row in kept], faults


def _items_of(document: Any, is_batch: bool) -> Sequence[Any]:
    """The items of the body. Raises InvalidRequestError if it is not a batch."""
    if not is_batch:
        return [document]
    match document:
        case {"metrics": list(items)} if len(document) == 1 and len(items) <= MAX_BATCH:
            return items
    try:
        return _BATCH.validate_python(document)["metrics"]
    except ValidationError as exc:
        raise _invalid_body(exc, is_batch) from exc


def _invalid_body(error: ValidationError, is_batch: bool) -> InvalidRequestError:
    return refusal_of(error, "body", _EXPECTATIONS[is_batch])


def _shape_faults(
    items: Sequence[Any], positions: Sequence[int], is_batch: bool
) -> list[SampleFault]:
    """The faults that the models find in items at these positions of the request."""
    if not items:
        return []
    try:
        if is_batch:
            _BATCH.validate_python({"metrics": items})
        else:
            _SAMPLE.validate_python(items[0])
    except ValidationError as exc:
        return [
            replace(found, index=positions[found.index]) for found in _sample_faults(exc, is_batch)
        ]
    return []


def _sample_faults(error: ValidationError, is_batch: bool) -> list[SampleFault]:
    """Faults of single samples; InvalidRequestError when the whole body is at fault."""
    found: dict[tuple[int, str], SampleFault] = {}
    for entry in error.errors(include_url=False):
        loc = entry["loc"]
        if is_batch and (len(loc) < 2 or loc[0] != "metrics" or not isinstance(loc[1], int)):
            raise _invalid_body(error, is_batch) from error
        if not is_batch and not loc:
            raise _invalid_body(error, is_batch) from error
        index, fields = (int(loc[1]), loc[2:]) if is_batch else (0, loc)
        name = _field_name(fields)
        expected = _EXPECTED.get(name) or expected_of(entry, _EXPECTATIONS[is_batch])
        fault_of_sample = SampleFault(index, name, reason_of(entry), expected)
        found.setdefault((index, name), fault_of_sample)
    return list(found.values())


def _field_name(loc: Sequence[int | str]) -> str:
    """The field of a location, without the union branches after it, which are not fields."""
    depth = 2 if loc and loc[0] == "labels" else 1
    return ".".join(map(str, loc[:depth])) or "sample"


def _fault_of(found: SampleFault, is_batch: bool) -> Fault:
    field = f"metrics[{found.index}].{found.field}" if is_batch else found.field
    return fault("body", field, found.reason, found.expected, found.index)


async def _reply(
    request: web.Request,
    accepted: int,
    faults: Sequence[SampleFault],
    is_batch: bool,
    status: int = 200,
) -> web.Response:
    errors = await work_of(request).work(
        _BYTES_PER_FAULT * len(faults), _documents, faults, is_batch
    )
    rejected = len({found.index for found in faults})
    reply = {"accepted": accepted, "rejected": rejected, "errors": errors}
    return json_response(request, reply, status)


def _documents(faults: Sequence[SampleFault], is_batch: bool) -> list[dict[str, object]]:
    return fault_documents([_fault_of(found, is_batch) for found in faults])


async def _partly_stored(
    call: Call[IngestQuery, None],
    error: WriteRejectedError,
    positions: Sequence[int],
    faults: Sequence[SampleFault],
    is_batch: bool,
) -> web.Response:
    """Answer a write of which some samples could not be stored, and all others were."""
    metrics = call.request.app[TELEMETRY].native_ingest
    refused = [SampleFault(positions[row], *_CONFLICT) for row in error.rows]
    metrics.refuse("conflict", len(refused))
    for row, reason in error.refused.items():
        refused.append(
            SampleFault(positions[row], "sample", reason, "a sample within the configured limits")
        )
    metrics.refuse("invalid", len(error.refused))
    refused.sort(key=lambda found: found.index)
    accepted = len(positions) - len(refused)
    metrics.samples_accepted.inc(accepted)
    if call.query.partial or accepted:
        status = 200 if call.query.partial else 207
        return await _reply(call.request, accepted, [*faults, *refused], is_batch, status)
    work = call.request.app[BODIES].of(call.tenant).work
    listed = await work(
        _BYTES_PER_FAULT * len(refused), lambda: [_fault_of(found, is_batch) for found in refused]
    )
    status = 409 if error.rows else 400
    return problem_response(status, f"nothing was stored: {describe_fault(listed[0])}", listed)


_SAMPLE_EXAMPLE = {
    "name": "queue_length",
    "value": 42,
    "labels": {"queue": "mail"},
    "source": "worker-1",
    "timestamp": "2026-11-24T05:00:00Z",
}
_BATCH_EXAMPLE = {
    "metrics": [
        {"name": "orders_total", "value": 10, "labels": {"shop": "a"}, "timestamp": 1795496400},
        {"name": "orders_total", "value": 25, "labels": {"shop": "a"}, "timestamp": 1795496460},
        {"name": "orders_total", "value": 40, "labels": {"shop": "a"}, "timestamp": 1795496520},
        {"name": "temperature", "value": "NaN", "timestamp": "2026-11-24T06:00:00.250+01:00"},
    ]
}
_PARTIAL_EXAMPLE = {
    "metrics": [
        {"name": "temperature", "value": 21.5, "timestamp": 1795496460},
        {"name": "", "value": 1},
        {"name": "temperature", "value": "warm"},
    ]
}
_STORED = Reply("The samples are committed and visible to every query.", IngestReply)
_PARTLY_STORED = Reply(
    "Some samples are committed; the others are rejected and listed in `errors`.", IngestReply
)
_DESCRIPTION = f"""\
Samples take the same write path as remote write, and are visible to PromQL and SQL at once.

All samples of a request are checked before any is written. By default, one invalid sample keeps \
the whole request from being stored. With `partial=true` the valid samples are stored, and each \
invalid one is listed by its index and field.

If the series already has a different value for the time of a sample, the sample is a conflict, \
which is only found while writing. The first value is kept, unless the metric's definition sets \
`duplicate_policy: last`, and all other samples are stored. The answer is then 207 with the \
conflicts in `errors` (200 with `partial=true`), or 409 if no other sample was stored. \
Samples that exceed a limit of the tenant are answered in the same way, with 400 instead of 409.

A sample without `timestamp` gets the server's time. If its series already has a sample in that \
millisecond, it gets the next free one, so it never conflicts.

At most {MAX_BATCH:,} samples; the body may be compressed (`Content-Encoding: gzip`)."""

ROUTES = (
    Route(
        method="POST",
        path="/ingest",
        handler=handle_ingest,
        tag="Ingest",
        summary="Store one sample",
        description="For what is checked and when, see `/ingest/batch`.",
        query=IngestQuery,
        body=SamplePayload,
        reads_body=True,
        headers={"Content-Encoding": "`gzip` if the body is compressed."},
        replies={200: _STORED},
        problems=(409,),
        examples=(
            Example(
                name="A gauge with a label and a source",
                status=200,
                body=_SAMPLE_EXAMPLE,
                answer={"accepted": 1, "rejected": 0, "errors": []},
            ),
            Example(
                name="A different value for the same time",
                status=409,
                body={**_SAMPLE_EXAMPLE, "value": 43},
            ),
        ),
    ),
    Route(
        method="POST",
        path="/ingest/batch",
        handler=handle_ingest_batch,
        tag="Ingest",
        summary="Store many samples",
        description=_DESCRIPTION,
        query=IngestQuery,
        body=BatchPayload,
        reads_body=True,
        headers={"Content-Encoding": "`gzip` if the body is compressed."},
        replies={200: _STORED, 207: _PARTLY_STORED},
        problems=(409,),
        examples=(
            Example(
                name="A counter and a gauge",
                status=200,
                body=_BATCH_EXAMPLE,
                answer={"accepted": 4, "rejected": 0, "errors": []},
            ),
            Example(
                name="Only the valid samples of a batch",
                status=200,
                query={"partial": "true"},
                body=_PARTIAL_EXAMPLE,
                answer={
                    "accepted": 1,
                    "rejected": 2,
                    "errors": [
                        {
                            "in": "body",
                            "field": "metrics[1].name",
                            "reason": "is empty, so PromQL could not select the metric",
                            "expected": METRIC_NAME_TEXT,
                            "index": 1,
                        },
                        {
                            "in": "body",
                            "field": "metrics[2].value",
                            "reason": "is a string",
                            "expected": "a number, or NaN, Infinity or -Infinity as a string",
                            "index": 2,
                        },
                    ],
                },
            ),
            Example(
                name="An invalid batch is rejected as a whole", status=400, body=_PARTIAL_EXAMPLE
            ),
            Example(
                name="A conflict and a new sample",
                status=207,
                body={
                    "metrics": [
                        {"name": "temperature", "value": 20, "timestamp": 1795496460},
                        {"name": "temperature", "value": 20, "timestamp": 1795496520},
                    ]
                },
            ),
        ),
    ),
)
