"""What README and the docs tell people to type: every request, statement and configuration.

The pages are one story, told to one service on one database in the order they are read: README,
then the pages by name.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from promcompat.configuration.settings import Settings
from promcompat.remediation.plans import parse_plan
from tests.support.documented_examples import ROOT, DocumentedBlock, is_request, read_blocks
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer
from tests.support.services.native_service import NativeClient, running_native_service
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

PAGES_WITH_REQUESTS = {
    "README.md",
    "docs/alerting.md",
    "docs/dashboards.md",
    "docs/from/datadog-and-statsd.md",
    "docs/from/graphite.md",
    "docs/from/influxdb.md",
    "docs/from/mimir.md",
    "docs/from/opentelemetry.md",
    "docs/from/prometheus.md",
    "docs/from/promscale.md",
    "docs/from/victoriametrics.md",
    "docs/http-api.md",
    "docs/native-api.md",
    "docs/remediation.md",
}
_ADDRESS = re.compile(r"\b(?:127\.0\.0\.1|localhost):9201\b")
_END = "\x1e"
# An answer that is no 2xx ends the block: curl then exits with 22, and `-e` does the rest.
_PROLOGUE = f"""set -eu
curl() {{
    command curl --fail-with-body --silent --show-error -w $'\\n%{{url_effective}}{_END}' "$@"
}}
"""
# What answers with samples, series or names. Alerts and repairs come minutes later, if at all.
_READS = re.compile(
    r"http://[^/]+/(api/v1/(query|query_range|series|export)|federate"
    r"|api/v1/metrics/(latest/\w+|names|aggregate/\w+|series/\w+)?)(\?.*)?"
)
_DEFAULT_RETENTION_DAYS = Settings.model_fields["retention_days"].default
_SERIES = (
    ("up", {"job": "node", "instance": "web-1:9100"}),
    ("node_load1", {"job": "node", "instance": "web-1:9100"}),
    ("node_memory_MemAvailable_bytes", {"job": "node"}),
    ("promcompat_http_request_duration_seconds_count", {"handler": "/metrics"}),
)
# Within a sentence or a table; with an ellipsis, it is only a form.
_INLINE_QUERY = re.compile(r"`(SELECT [^`…]* FROM (?!prom_metric\.)[^`…]*)`")
# A statement ends with a semicolon at the end of a line, or before a comment.
_STATEMENT = re.compile(r".+?;(?=\s*(?:--[^\n]*)?$)", re.MULTILINE | re.DOTALL)
_PAGE_OF_QUERIES = "docs/sql-queries.md"
"""`test_sql_queries.py` runs what is on this page."""
# The tables that the pages call the reader's own, and a start, which JSON samples do not have.
_TABLES = """
CREATE TABLE inventory (host text, owner text);
INSERT INTO inventory VALUES ('web-1', 'ann');
INSERT INTO series_start
SELECT id, ms, ms FROM series, floor(extract(epoch FROM now()) * 1000) AS ms;
"""


@pytest.fixture
async def native(timescaledb_database_url: str) -> AsyncIterator[NativeClient]:
    async with running_native_service(
        timescaledb_database_url, retention_days=_DEFAULT_RETENTION_DAYS
    ) as client:
        newest = time.time() - 15
        samples = (
            {"name": name, "value": value, "labels": labels, "timestamp": newest - age}
            for name, labels in _SERIES
            for value, age in enumerate((15, 0))
        )
        await client.ingest(*samples)
        yield client


@pytest.fixture
def analyst_dropped(
    timescaledb_database_url: str, timescaledb_server: DatabaseServer
) -> Iterator[None]:
    """Roles outlive databases: what the page grants is taken back."""
    yield
    name = timescaledb_database_url.rpartition("/")[2]
    timescaledb_server.run_sql("DROP OWNED BY analyst", name)
    timescaledb_server.run_sql("DROP ROLE analyst")


@pytest.fixture(scope="module")
def curl() -> None:
    require_component("curl")


def blocks_of(language: str) -> list[DocumentedBlock]:
    found = [block for block in read_blocks() if block.language == language]
    assert found
    return found


async def run_shell(block: DocumentedBlock, server: TestServer, promtool: Path) -> str:
    """Standard output of the block, asked of this service; any request that fails fails it."""
    script = _PROLOGUE + _ADDRESS.sub(f"{server.host}:{server.port}", block.text)
    assert "9201" not in script, f"{block}: an address that the test does not replace"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        env=os.environ | {"PATH": f"{promtool.parent}:{os.environ['PATH']}", "NO_PROXY": "*"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{block}: {errors.decode()}\n{output.decode()}"
    return output.decode()


def is_empty(answer: str) -> bool:
    """Whether an answer has no text, or is a JSON document in which every list is empty."""
    try:
        return not _has_items(json.loads(answer))
    except ValueError:
        return not answer.strip()


def _has_items(document: object) -> bool:
    if isinstance(document, dict):
        return any(map(_has_items, document.values()))
    return isinstance(document, list) and bool(document)


@pytest.mark.usefixtures("curl")
async def test_every_documented_request_succeeds_and_finds_something(
    native: NativeClient, promtool_binary: Path
) -> None:
    """The service has the default settings: what an example writes must not be past its retention,
    nor in the future, whenever it is tried.
    """
    server = native.client.server
    assert isinstance(server, TestServer)
    blocks = [block for block in read_blocks() if is_request(block)]
    assert {block.page for block in blocks} >= PAGES_WITH_REQUESTS
    n_read = 0
    for block in blocks:
        *answers, _ = (await run_shell(block, server, promtool_binary)).split(_END)
        for answer in answers:
            text, _, url = answer.rpartition("\n")
            if _READS.fullmatch(url):
                n_read += 1
                assert not is_empty(text), f"{block}: {url} finds nothing: {text}"
    assert n_read >= len(PAGES_WITH_REQUESTS)
    rules = await native.get("/rules")
    assert len(rules["rules"]) == 2


@pytest.mark.usefixtures("native", "analyst_dropped")
async def test_every_documented_statement_runs_and_finds_samples(
    timescaledb_database_url: str, timescaledb_server: DatabaseServer
) -> None:
    async with connected(timescaledb_database_url) as owner:
        await owner.execute(_TABLES)
        for block in blocks_of("sql"):
            if block.page == _PAGE_OF_QUERIES:
                continue
            for statement in _STATEMENT.findall(block.text):
                if "SELECT" in statement:
                    assert await owner.fetch(statement), f"{block}: no rows of {statement}"
                else:
                    await owner.execute(statement)
        pages = {block.page for block in read_blocks()}
        inline = [
            query
            for page in sorted(pages)
            for query in _INLINE_QUERY.findall((ROOT / page).read_text(encoding="utf-8"))
        ]
        assert inline
        for query in inline:
            await owner.execute(query)
    async with connected(timescaledb_server.superuser_url(timescaledb_database_url)) as session:
        await session.execute("SET SESSION AUTHORIZATION analyst")
        assert await session.fetchval("SELECT count(*) FROM promcompat.metrics") == 2 * len(_SERIES)


async def test_documented_configurations_are_valid(promtool_binary: Path, tmp_path: Path) -> None:
    """`promtool` checks what Prometheus reads."""
    blocks = blocks_of("yaml")
    prometheus = [block for block in blocks if "prometheus.yml" in block.text]
    assert prometheus
    for block in prometheus:
        path = tmp_path / "prometheus.yml"
        path.write_text(block.text)
        process = await asyncio.create_subprocess_exec(
            promtool_binary, "check", "config", path, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0, str(block)


def test_documented_json_is_json_and_plans_are_plans() -> None:
    for block in blocks_of("json"):
        document = json.loads(block.text)
        if "action" in document:
            assert parse_plan(document).action, str(block)
