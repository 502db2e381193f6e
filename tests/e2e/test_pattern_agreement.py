"""Regular expressions are taken and refused as by a real Prometheus, in its words."""

import json
from pathlib import Path

import pytest
from aiohttp import ClientSession

from conformance.processes import running_prometheus
from promcompat.core.errors import BadDataError
from promql.parsing.parser import parse_expr

pytestmark = pytest.mark.e2e

PATTERNS = (Path(__file__).parent / "patterns.txt").read_text("utf-8").splitlines()
PATTERNS += ["(" * 998 + "a" + ")" * 998, "x{1000}" * 4_000]


def ours(query: str) -> str:
    try:
        parse_expr(query)
    except BadDataError as exc:
        return str(exc).rpartition("parse error: ")[2]
    return "taken"


async def test_patterns_are_taken_and_refused_as_by_prometheus(
    prometheus_binary: Path, tmp_path: Path
) -> None:
    differences = []
    with running_prometheus(prometheus_binary, tmp_path / "prometheus") as prometheus:
        async with ClientSession() as session:
            for pattern in PATTERNS:
                query = f"up{{a=~{json.dumps(pattern, ensure_ascii=False)}}}"
                url = f"{prometheus.url}/api/v1/format_query"
                async with session.post(url, data={"query": query}) as response:
                    answer = await response.json()
                theirs = answer.get("error", "taken").rpartition("parse error: ")[2]
                if theirs[:1_000] != ours(query)[:1_000]:
                    differences.append((pattern[:50], theirs[:200], ours(query)[:200]))
    assert differences == []
