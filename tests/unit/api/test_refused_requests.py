"""What a refused request leaves behind: nothing that only the garbage collector can free."""

import gc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from promcompat.core.errors import OverloadedError, WriteRejectedError
from promcompat.core.model import WriteBatch
from tests.support.fakes import InMemoryStore
from tests.support.formats.remote_write import encode_request, encode_series
from tests.unit.api.conftest import StartService

_WRITE = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
_SERIES = encode_request([encode_series([("__name__", "up")], (1, 1.0))])


class _RefusingStore(InMemoryStore):
    """Refuses every write."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        raise type(self._error)(*self._error.args)


@dataclass(frozen=True)
class _Refused:
    """A request, and the status of its answer."""

    status: int
    path: str
    method: str = "POST"
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    store: Callable[[], InMemoryStore] = InMemoryStore


_REQUESTS = {
    "write: not snappy": _Refused(400, "/api/v1/write", body=b"no", headers=_WRITE),
    "write: encoding": _Refused(
        415, "/api/v1/write", body=_SERIES, headers={"Content-Encoding": "br"}
    ),
    "write: rejected": _Refused(
        400,
        "/api/v1/write",
        body=_SERIES,
        headers=_WRITE,
        store=lambda: _RefusingStore(WriteRejectedError("no", refused={0: "no"})),
    ),
    "write: overload": _Refused(
        503,
        "/api/v1/write",
        body=_SERIES,
        headers=_WRITE,
        store=lambda: _RefusingStore(OverloadedError("no")),
    ),
    "otlp": _Refused(
        400,
        "/api/v1/otlp/v1/metrics",
        body=b"no",
        headers={"Content-Type": "application/x-protobuf"},
    ),
    "import": _Refused(400, "/api/v1/import", body=b"no"),
    "remote read": _Refused(400, "/api/v1/read", body=b"no"),
    "query: text": _Refused(400, "/api/v1/query", body={"query": "sum("}),
    "query: evaluation": _Refused(
        422, "/api/v1/query", body={"query": 'label_replace(up, "a", "b", "c", "(")'}
    ),
    "range query: parameters": _Refused(400, "/api/v1/query_range?query=up", "GET"),
    "series: matchers": _Refused(400, "/api/v1/series?match[]={}", "GET"),
    "unknown path": _Refused(404, "/nowhere", "GET"),
    "unknown path of the native API": _Refused(404, "/api/v1/metrics/nowhere", "GET"),
    "method": _Refused(405, "/api/v1/labels", "DELETE"),
}


@pytest.mark.parametrize("refused", _REQUESTS.values(), ids=_REQUESTS)
async def test_no_request_is_kept_in_a_cycle(
    start_service: StartService, refused: _Refused
) -> None:
    service = await start_service(refused.store())

    async def send() -> None:
        sent = service.client.request(
            refused.method, refused.path, data=refused.body, headers=refused.headers
        )
        async with sent as response:
            await response.read()
            assert response.status == refused.status

    assert await _requests_in_garbage(send) == 0


async def _requests_in_garbage(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """How many requests some work leaves to the garbage collector."""
    # What the first request of a process leaves is no part of this.
    await work()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        # The connection keeps the last one.
        await work()
        await work()
        gc.collect()
        return sum(isinstance(one, web.Request) for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
