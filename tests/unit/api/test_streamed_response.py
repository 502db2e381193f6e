"""Large answers are sent piece by piece, and read as if they were not."""

import gzip
import json
from typing import Any

import pytest

from promcompat.api import query_handlers, result_json, streamed_response
from tests.support.factories import make_batch, make_labels
from tests.support.services.http_service import Service

STEPS = {"start": "0", "end": "600", "step": "1"}
ASKED = [
    ("query_range", {"query": "up", **STEPS}),
    ("query_range", {"query": "none", **STEPS}),
    ("query_range", {"query": "time()", **STEPS}),
    # A label is escaped as Go does, and an answer has something to say.
    ("query_range", {"query": 'label_replace(up, "a", "<&>", "", "")', **STEPS}),
    ("query_range", {"query": "rate(up[5m])", "limit": "1", **STEPS}),
    ("query", {"query": "up", "time": "300"}),
    ("query", {"query": "up[10m]", "time": "600"}),
    ("query", {"query": "none[10m]", "time": "600"}),
    ("query", {"query": "1"}),
    ("query_range", {"query": "up", "stats": "all", **STEPS}),
]


async def fetch(
    service: Service, path: str, params: dict[str, str], encoding: str
) -> tuple[dict[str, Any], dict[str, str]]:
    async with service.client.session.get(
        service.client.make_url(f"/api/v1/{path}"),
        params=params,
        headers={"Accept-Encoding": encoding},
    ) as response:
        body = await response.read()
        if response.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        assert b"<" not in body
        answer = json.loads(body)
        answer["data"].get("stats", {}).pop("timings", None)
        return answer, dict(response.headers)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize(("path", "params"), ASKED)
async def test_streamed_answer_is_the_same(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    params: dict[str, str],
    encoding: str,
) -> None:
    series = {
        make_labels("up", n=str(n)): [(t * 15_000 + n, float(t)) for t in range(30)]
        for n in range(20)
    }
    await service.store.write_batch("default", make_batch(series))
    whole, headers = await fetch(service, path, params, encoding)
    assert "Transfer-Encoding" not in headers
    monkeypatch.setattr(query_handlers, "_STREAMED_FROM_POINTS", 1)
    monkeypatch.setattr(streamed_response, "_PIECE_BYTES", 1_000)
    monkeypatch.setattr(result_json, "_POINTS_PER_RUN", 7)
    streamed, headers = await fetch(service, path, params, encoding)
    assert streamed == whole
    if whole["data"]["resultType"] in ("vector", "matrix") and whole["data"]["result"]:
        assert headers["Transfer-Encoding"] == "chunked"
        assert headers.get("Content-Encoding") == (None if encoding == "identity" else "gzip")
