"""Imports and exports over HTTP: what is stored, and what each kind of sender is told."""

import asyncio
import gzip
import threading
import zlib
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import snappy
import zstandard
from aiohttp import ClientResponse
from google.protobuf.proto import serialize_length_prefixed

from promcompat.api.export import export_handlers
from promcompat.api.ingest import import_handlers
from promcompat.core.histograms.columns import is_histogram
from promcompat.core.model import SampleBlock, is_stale
from promcompat.core.ports import MatcherSets
from promcompat.http import bodies, line_bodies
from promcompat.imports import datadog_series, storing
from promcompat.imports.datadog_pb2 import (
    Dogsketch,
    MetricPayload,
    MetricPoint,
    MetricSeries,
    Resource,
    Sketch,
    SketchPayload,
)
from promcompat.imports.parquet_file import ParquetReader
from promcompat.remote_write.remote_pb2 import BucketSpan
from promcompat.scraping.metric_family_pb2 import (
    Bucket,
    Counter,
    Histogram,
    LabelPair,
    Metric,
    MetricFamily,
    Value,
)
from tests.support.factories import STALE_NAN, encode_field, make_batch, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import NOW_MS, Service
from tests.unit.api.conftest import StartService

LINE = b'{"metric":{"__name__":"up","job":"a"},"values":[1,2],"timestamps":[1000,2000]}\n'
KEY_OF_ONE = 1338
"""The bucket of a sketch that has the value 1."""
STORED = "X-Promcompat-Samples-Stored"


async def exported(service: Service, selector: str = '{__name__!=""}') -> list[Any]:
    """What is stored, as (labels, values, timestamps), sorted."""
    answer = await service.get("/api/v1/export", params={"match[]": selector, "end": "1e10"})
    assert answer.status == 200
    lines = map(orjson.loads, (await answer.read()).splitlines())
    return sorted(([line["metric"], line["values"], line["timestamps"]] for line in lines), key=str)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("", bytes),
        ("identity", bytes),
        ("gzip", lambda body: gzip.compress(body[:50]) + gzip.compress(body[50:])),
        ("deflate", zlib.compress),
        ("zstd", zstandard.compress),
        ("snappy", snappy.compress),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/prometheus"])
async def test_json_lines_are_stored_whatever_their_encoding(
    service: Service, prefix: str, encoding: str, pack: Any
) -> None:
    headers = {"Content-Encoding": encoding} if encoding else {}
    answer = await service.post(
        f"{prefix}/api/v1/import?extra_label=dc=x", data=bytes(pack(LINE)), headers=headers
    )
    assert (answer.status, await answer.read(), answer.headers[STORED]) == (204, b"", "2")
    up = {"__name__": "up", "job": "a", "dc": "x"}
    assert await exported(service) == [[up, [1.0, 2.0], [1000, 2000]]]


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)]
)
async def test_what_grows_a_thousandfold_is_unpacked_in_steps(
    service: Service, encoding: str, pack: Any
) -> None:
    n_lines = 60_000
    body = bytes(pack(b"\n" * (n_lines * 50) + LINE))
    assert len(body) < n_lines
    headers = {"Content-Encoding": encoding}
    answer = await service.post("/api/v1/import", data=body, headers=headers)
    assert (answer.status, answer.headers[STORED]) == (204, "2")


async def test_the_sender_is_told_of_samples_past_the_retention(
    start_service: StartService,
) -> None:
    store = InMemoryStore()
    service = await start_service(store)
    store.first_kept_ms = 1_500
    conflict = LINE.replace(b"[1,2]", b"[7,2]")
    for body, n_unseen, status in ((LINE, "1", 204), (conflict, None, 400)):
        answer = await service.post("/api/v1/import", data=body)
        unseen = answer.headers.get("X-Promcompat-Samples-Past-Retention")
        assert (answer.status, unseen) == (status, n_unseen)


async def test_good_lines_are_stored_beside_bad_ones(service: Service) -> None:
    conflict = LINE.replace(b"[1,2]", b"[1,7]")
    late = LINE.replace(b"2000", str(NOW_MS + 3_600_000).encode()).replace(b"1000", b"3000")
    answer = await service.post("/api/v1/import", data=LINE + b"junk\n" + late + conflict)
    text = await answer.text()
    assert (answer.status, answer.headers[STORED]) == (400, "4")
    assert text.startswith("3 samples or lines were not stored, 4 samples were:\n")
    assert "line 2 (junk): is not valid JSON" in text
    assert "duplicate sample for timestamp" in text
    assert "too far in the future" in text
    counters = service.telemetry.render().decode()
    assert 'promcompat_import_samples_stored_total{format="json"} 4.0' in counters
    assert 'promcompat_import_samples_refused_total{format="json"} 3.0' in counters


async def test_a_body_of_many_pieces_is_numbered_and_stored_throughout(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_bodies, "PIECE_BYTES", 100)
    lines = [LINE.replace(b'"a"', b'"%d"' % number) for number in range(40)]
    lines[30] = b"junk\n"
    answer = await service.post("/api/v1/import", data=b"".join(lines)[:-1])
    assert (answer.status, answer.headers[STORED]) == (400, "78")
    assert "line 31 (junk)" in await answer.text()
    assert len(await exported(service)) == 39


@pytest.mark.parametrize(
    ("encoding", "body", "status", "text"),
    [
        ("br", LINE, 415, "the encoding 'br' is not supported"),
        ("gzip", LINE, 400, "not valid gzip"),
        ("gzip", gzip.compress(LINE, mtime=0)[:-9], 400, "gzip body is truncated"),
        ("gzip", gzip.compress(b"", mtime=0) * 10_001, 400, "has more than 10000 members"),
        ("deflate", zlib.compress(LINE)[:-4], 400, "zlib body is truncated"),
        ("zstd", LINE, 400, "not valid zstd"),
        ("zstd", zstandard.compress(LINE)[:-4], 400, "zstd body is truncated"),
        ("snappy", LINE, 400, "snappy"),
    ],
)
async def test_bodies_that_cannot_be_read_are_refused(
    service: Service, encoding: str, body: bytes, status: int, text: str
) -> None:
    headers = {"Content-Encoding": encoding}
    answer = await service.post("/api/v1/import", data=body, headers=headers)
    assert answer.status == status
    assert text in await answer.text()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("zstd", zstandard.compress), ("snappy", snappy.compress)],
)
async def test_pieces_are_small_however_well_a_body_is_compressed(
    service: Service, monkeypatch: pytest.MonkeyPatch, encoding: str, pack: Any
) -> None:
    sizes: list[int] = []

    def read(lines: list[str], *_others: object) -> None:
        sizes.append(sum(map(len, lines)) + len(lines))

    monkeypatch.setattr(import_handlers, "read_json_lines", read)
    body = b"a\n" * (6 << 20)
    headers = {"Content-Encoding": encoding}
    answer = await service.post("/api/v1/import", data=bytes(pack(body)), headers=headers)
    assert answer.status == 204
    assert sum(sizes) == pytest.approx(len(body), abs=1)
    assert max(sizes) <= 2 * line_bodies.PIECE_BYTES


@pytest.mark.parametrize(
    ("path", "encoding"),
    [
        ("/api/v1/import", ""),
        ("/api/v1/import", "snappy"),
        ("/api/v1/import/prometheus", "gzip"),
        ("/write?db=a", ""),
        ("/api/v2/write", ""),
        ("/datadog/api/v1/series", ""),
    ],
)
async def test_samples_that_do_not_arrive_are_to_be_sent_again(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, path: str, encoding: str
) -> None:
    # Telegraf and others drop what is answered 4xx.
    monkeypatch.setattr(bodies, "_MAX_STALL_SECONDS", 0.1)
    service = await start_service()

    async def half() -> AsyncIterator[bytes]:
        yield b"\x1f\x8b\x08"
        await asyncio.sleep(60)

    headers = {"Content-Encoding": encoding}
    answer = await service.client.post(path, data=half(), headers=headers)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert "did not arrive in time; send the request again" in await answer.text()


@pytest.mark.parametrize(
    ("path", "media_type", "body", "text"),
    [
        (
            "/datadog/api/v2/series",
            "application/x-protobuf",
            b"\x0a\x00" * 250_001,
            "250000 series",
        ),
        ("/datadog/api/beta/sketches", "", b"\x0a\x00" * 250_001, "250000 series"),
        (
            "/datadog/api/v2/series",
            "application/x-protobuf",
            encode_field(1, b"\x22\x00" * 500_000),
            "a series has more than 524288 bytes",
        ),
        ("/datadog/api/v1/series", "", b'{"series":[' + b"{}," * 500_000 + b"{}]}", "1,000,000"),
        ("/datadog/api/v1/distribution_points", "", b"[" * 1_000_001, "1,000,000"),
        ("/api/v1/otlp/v1/metrics", "application/json", b"[" * 1_000_001, "1,000,000"),
    ],
)
async def test_bodies_that_stand_for_too_many_objects_are_refused(
    service: Service, path: str, media_type: str, body: bytes, text: str
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    answer = await service.post(path, data=BytesIO(body), headers=headers)
    assert answer.status in (400, 413)
    assert text in await answer.text()


async def test_a_protobuf_body_of_many_pieces_is_stored_throughout(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datadog_series, "_PIECE_BYTES", 100)
    series = [
        MetricSeries(
            metric=b"m%d" % number, points=[MetricPoint(value=1.0, timestamp=NOW_MS // 1000)]
        )
        for number in range(50)
    ]
    series[30].metric = b""
    answer = await service.post(
        "/datadog/api/v2/series",
        data=MetricPayload(series=series).SerializeToString(),
        headers={"Content-Type": "application/x-protobuf"},
    )
    assert (answer.status, answer.headers[STORED]) == (400, "49")
    assert "series 31" in await answer.text()


@pytest.mark.parametrize(("path", "status"), [("/write", 503), ("/api/v2/write", 429)])
async def test_what_comes_too_fast_is_to_be_sent_again(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, path: str, status: int
) -> None:
    # Telegraf drops what is answered 429 to version 1.
    monkeypatch.setattr(storing, "_PATIENCE_SECONDS", 0.0)
    service = await start_service(ingestion_rate=1, ingestion_burst_size=2)
    for number, expected in ((1, 204), (2, status)):
        body = f"a,n={number} x=1,y=2\n".encode()
        answer = await service.post(path, data=body)
        assert answer.status == expected
    assert int(answer.headers["Retry-After"]) >= 1


async def test_series_of_several_selectors_are_told_apart_in_a_thread(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.post("/api/v1/import", data=LINE)
    threads: list[threading.Thread] = []
    told_apart = export_handlers._without

    def noting(block: SampleBlock, earlier: MatcherSets) -> SampleBlock:
        threads.append(threading.current_thread())
        return told_apart(block, earlier)

    monkeypatch.setattr(export_handlers, "_without", noting)
    chosen = {"match[]": ["up", '{job="a"}'], "end": "1e10"}
    answer = await service.get("/api/v1/export", params=chosen)
    assert await answer.read() == LINE.replace(b"1,2", b"1.0,2.0")
    assert threads
    assert threading.main_thread() not in threads


async def test_lines_are_bounded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_bodies, "PIECE_BYTES", 100)
    monkeypatch.setattr(line_bodies, "MAX_LINE_BYTES", 1000)
    answer = await service.post("/api/v1/import", data=b" " * 70_000)
    assert (answer.status, await answer.text()) == (413, "a line is longer than 1000 bytes\n")


async def test_exposition_text_is_stored_with_the_labels_of_the_path(service: Service) -> None:
    body = "# TYPE a counter\na_total 1\nb 2 1700000000\n"
    path = "/api/v1/import/prometheus/metrics/job/a%2Fb%2520c/path@base64/L3Zhci90bXA"
    # Go's client of a Pushgateway pushes by PUT, and takes no success but 200 and 202.
    for method in ("PUT", "POST"):
        answer = await service.client.request(method, f"{path}?timestamp=5000", data=body)
        assert answer.status == 200
    labels = {"job": "a/b%20c", "path": "/var/tmp"}
    assert await exported(service) == [
        [{"__name__": "a_total", **labels}, [1.0], [5000]],
        [{"__name__": "b", **labels}, [2.0], [1_700_000_000_000]],
    ]
    metadata = await (await service.get("/api/v1/metadata")).json()
    assert metadata["data"]["a"][0]["type"] == "counter"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/api/v1/import/prometheus?extra_label=x", "expected extra_label=name=value, got 'x'"),
        ("/api/v1/import/prometheus?timestamp=now", 'parsing "now"'),
        ("/api/v1/import/prometheus/metrics/job/a/b", "'b' of the path has no value"),
        ("/api/v1/import/prometheus/metrics/job@base64/%21", "is not base64"),
        ("/api/v1/import/csv", "the parameter `format` is missing"),
        ("/api/v1/import/native", "native format is not supported"),
        ("/api/v1/export", "missing `match[]` arg"),
        ("/api/v1/export?match[]=a&format=xml", "unknown format 'xml'"),
        ("/api/v1/export?match[]={", "parse error"),
        ("/api/v1/export?match[]=a&start=1h1d", 'not a valid duration string: "1h1d"'),
        ("/api/v1/export?match[]=a&end=2023-13", 'cannot parse "2023-13-01T00:00:00Z"'),
        ("/api/v1/export/csv?match[]=a", "expected format="),
        ("/api/v1/export/native?match[]=a", "native format is not supported"),
    ],
)
async def test_bad_parameters_are_400(service: Service, path: str, text: str) -> None:
    answer = await service.post(path, data=b"")
    assert answer.status == 400
    assert text in await answer.text()


async def test_parquet_is_exported(service: Service, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    histogram = b'{"schema":0,"count":3,"sum":1.5,"positive_spans":[[0,1]],"positive_counts":[3]}'
    odd = b'{"metric":{"__name__":"odd"},"values":[null,"NaN",%s],"timestamps":[1,2,3]}' % histogram
    stored = await service.post("/api/v1/import", data=LINE + odd)
    assert stored.status == 204
    chosen = {"match[]": ["up", '{__name__=~"odd|up"}'], "format": "parquet"}
    answer = await service.get("/api/v1/export", params=chosen)
    assert (answer.status, answer.content_type) == (200, "application/vnd.apache.parquet")
    assert "Content-Encoding" not in answer.headers
    (tmp_path / "a.parquet").write_bytes(await answer.read())
    found = {}
    for batch in ParquetReader(tmp_path / "a.parquet").batches():
        cells = zip(batch.timestamps.tolist(), batch.values.tolist(), strict=True)
        for key, (time_ms, value) in zip(batch.unknown_keys, cells, strict=True):
            found[batch.labels[key], time_ms] = value
    up, odd_labels = make_labels("up", job="a"), make_labels("odd")
    assert [found.pop((up, time_ms)) for time_ms in (1000, 2000)] == [1, 2]
    cells = np.array([found.pop((odd_labels, time_ms)) for time_ms in (1, 2, 3)])
    assert not found
    assert is_stale(cells).tolist() == [True, False, False]
    assert is_histogram(cells).tolist() == [False, False, True]
    empty = await service.get("/api/v1/export", params={**chosen, "match[]": "none"})
    (tmp_path / "b.parquet").write_bytes(await empty.read())
    assert ParquetReader(tmp_path / "b.parquet").n_rows == 0


async def test_csv_is_imported_and_exported(service: Service) -> None:
    columns = "1:time:unix_s,2:label:job,3:metric:up"
    answer = await service.post(f"/api/v1/import/csv?format={columns}", data='1,"a,b",5\n2,c,6\n')
    assert answer.status == 204
    asked = {"match[]": "up", "format": "__timestamp__:rfc3339,job,__value__,__name__"}
    exported = await service.get("/api/v1/export/csv", params=asked)
    assert exported.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert await exported.text() == (
        "__timestamp__:rfc3339,job,__value__,__name__\n"
        '1970-01-01T00:00:01.000Z,"a,b",5,up\n'
        "1970-01-01T00:00:02.000Z,c,6,up\n"
    )


async def test_exports_have_every_sample_once(service: Service) -> None:
    series = {
        make_labels("a", x="1"): [(1000, 1.0), (2000, STALE_NAN), (3000, float("inf"))],
        make_labels("a", x="2"): [(2000, float("nan"))],
        make_labels("b.c"): [(1000, 4.0), (7_200_000, 5.0), (500_000_000, 6.0)],
    }
    await service.store.write_batch("default", make_batch(series))
    asked = [("match[]", "a"), ("match[]", '{x="1"}'), ("match", "{__name__=~'b.*'}")]
    answer = await service.get("/api/v1/export", params=[*asked, ("max_rows_per_line", "1")])
    found: dict[str, list[Any]] = {}
    for line in map(orjson.loads, (await answer.read()).splitlines()):
        assert len(line["values"]) == len(line["timestamps"]) == 1
        points = found.setdefault(line["metric"].get("x", ""), [])
        points.append((line["timestamps"][0], line["values"][0]))
    assert found == {
        "1": [(1000, 1.0), (2000, None), (3000, "Infinity")],
        "2": [(2000, "NaN")],
        "": [(1000, 4.0), (7_200_000, 5.0), (500_000_000, 6.0)],
    }
    text = await service.get('/api/v1/export?format=prometheus&match[]={x!="2"}&start=1&end=7000')
    assert set((await text.text()).splitlines()) == {
        'a{x="1"} +Inf 3000',
        'a{x="1"} 1 1000',
        '{"b.c"} 4 1000',
    }


@pytest.mark.parametrize(
    ("start", "start_ms"),
    [
        ("1700000000", 1_700_000_000_000),
        ("1700000000001", 1_700_000_000_001),
        ("1700000000001999", 1_700_000_000_001),
        ("1700000000001999999", 1_700_000_000_001),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13", 1_699_999_980_000),
        ("2023-11-14T23+01:00", 1_699_999_200_000),
        ("2023-11-14", 1_699_920_000_000),
        ("2023-11", 1_698_796_800_000),
        ("now", NOW_MS),
        ("now-1h30m", NOW_MS - 5_400_000),
        ("-1d", NOW_MS - 86_400_000),
        ("5m", NOW_MS - 300_000),
    ],
)
async def test_exports_take_the_times_of_victoriametrics(
    service: Service, start: str, start_ms: int
) -> None:
    points = [(start_ms - 1, 1.0), (start_ms, 2.0)]
    await service.store.write_batch("default", make_batch({make_labels("a"): points}))
    asked = {"match[]": "a", "start": start, "end": "2024-01"}
    answer = await service.get("/api/v1/export", params=asked)
    assert orjson.loads(await answer.read())["values"] == [2.0]


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/write?db=d&precision=s", "error"),
        ("/influx/api/v2/write?bucket=b&precision=s", "message"),
    ],
)
async def test_influx_senders_get_json(service: Service, path: str, key: str) -> None:
    good = await service.post(path, data='cpu,host=a usage=1,text="x" 5\n')
    assert (good.status, good.headers[STORED]) == (204, "1")
    partly = await service.post(path, data="cpu,host=a usage=2 6\ncpu\n")
    assert (partly.status, partly.content_type) == (400, "application/json")
    assert (await partly.json())[key].startswith("partial write: 1 samples or lines were not")
    wrong = await service.post(path.replace("=s", "=y"), data="cpu usage=1")
    assert (wrong.status, wrong.content_type) == (400, "application/json")
    assert "invalid precision 'y'" in (await wrong.json())[key]
    labels = {"__name__": "cpu_usage", "host": "a"} | ({"db": "d"} if "db=" in path else {})
    assert await exported(service) == [[labels, [1.0, 2.0], [5000, 6000]]]


async def test_influx_clients_find_a_server(service: Service) -> None:
    for prefix in ("", "/influx"):
        ping = await service.get(f"{prefix}/ping")
        assert (ping.status, ping.headers["X-Influxdb-Version"]) == (204, "1.8.0")
        health = await (await service.get(f"{prefix}/health")).json()
        assert health["status"] == "pass"
        created = await service.post(f"{prefix}/query", data={"q": "CREATE DATABASE x"})
        assert await created.json() == {"results": [{"statement_id": 0}]}


async def test_datadog_series_of_both_versions_are_stored(service: Service) -> None:
    v1 = {
        "series": [
            {
                "metric": "my app.requests-now",
                "points": [[5, 1], [6.5, 2.5]],
                "host": "h",
                "tags": ["env:prod:x", "bare", "host:other"],
                "type": "count",
            }
        ]
    }
    first = await service.post("/datadog/api/v1/series?api_key=k", json=v1)
    assert (first.status, await first.json()) == (202, {"status": "ok"})
    v2 = {
        "series": [
            {
                "metric": "load",
                "type": 3,
                "points": [{"timestamp": 5, "value": 0.5}],
                "resources": [{"type": "host", "name": "h"}],
            }
        ]
    }
    body = zlib.compress(orjson.dumps(v2))
    headers = {"Content-Encoding": "deflate"}
    second = await service.post("/api/v2/series", data=body, headers=headers)
    assert (second.status, await second.json()) == (202, {"errors": []})
    payload = MetricPayload(
        series=[
            MetricSeries(
                metric=b"disk",
                tags=[b"device:sda"],
                points=[MetricPoint(value=1.5, timestamp=5)],
                resources=[Resource(type=b"host", name=b"h")],
            )
        ]
    )
    third = await service.post(
        "/datadog/api/v2/series",
        data=zstandard.compress(payload.SerializeToString()),
        headers={"Content-Encoding": "zstd", "Content-Type": "application/x-protobuf"},
    )
    assert third.status == 202
    requests = {
        "__name__": "my_app.requests_now",
        "host": "h",
        "env": "prod:x",
        "bare": "no_label_value",
        "exported_host": "other",
    }
    assert sorted(await exported(service), key=str) == sorted(
        [
            [requests, [1.0, 2.5], [5000, 6500]],
            [{"__name__": "load", "host": "h"}, [0.5], [5000]],
            [{"__name__": "disk", "host": "h", "device": "sda"}, [1.5], [5000]],
        ],
        key=str,
    )


@pytest.mark.parametrize(
    ("version", "series", "text"),
    [
        (1, {}, "`metric` must be a text"),
        (1, 5, "expected an object"),
        (1, {"metric": "a"}, "has no list `points`"),
        (1, {"metric": "a", "points": [[1]]}, "must be [seconds, value]"),
        (1, {"metric": "a", "points": [["x", 1]]}, "is not a time in seconds and a number"),
        (1, {"metric": "a", "points": [[1, 1]], "tags": "x"}, "`tags` of 'a' must be a list"),
        (1, {"metric": "a", "points": [[1, 1]], "host": 5}, "is not a text"),
        (2, {"metric": "a", "points": [5]}, "each of `points` must be an object"),
        (2, {"metric": "a", "points": [], "resources": 5}, "`resources` must be a list"),
        (2, {"metric": "a", "points": [], "resources": [{"type": [1]}]}, "is not a text"),
    ],
)
async def test_bad_datadog_series_are_named(
    service: Service, version: int, series: Any, text: str
) -> None:
    point = [5, 1] if version == 1 else {"timestamp": 5, "value": 1}
    body = {"series": [{"metric": "ok", "points": [point]}, series]}
    answer = await service.post(f"/datadog/api/v{version}/series", json=body)
    assert (answer.status, answer.headers[STORED]) == (400, "1")
    errors = (await answer.json())["errors"]
    assert errors[1].startswith("series 2: ")
    assert text in errors[1]


async def test_a_datadog_point_after_all_times_is_a_fault_and_the_others_are_stored(
    service: Service,
) -> None:
    body = {"series": [{"metric": "a", "points": [[5, 1], [1e308, 2]]}]}
    answer = await service.post("/datadog/api/v1/series", json=body)
    assert (answer.status, answer.headers[STORED]) == (400, "1")
    reason = "out of bounds: timestamp is too far in the future"
    assert (await answer.json())["errors"][1:] == [reason]


async def test_datadog_distributions_become_histograms(service: Service) -> None:
    values = [0.0, 1.0, 1.0, 2.0, -4.0, 1e-12]
    series = {"metric": "took", "points": [[5, values]], "host": "h", "tags": ["env:x"]}
    body = {"series": [series]}
    first = await service.post("/datadog/api/v1/distribution_points", json=body)
    assert (first.status, await first.json()) == (202, {"status": "ok"})
    keys = {0: 2, KEY_OF_ONE: 2, KEY_OF_ONE + 44: 1, -KEY_OF_ONE - 89: 1}
    sketch = Sketch(
        metric=b"took",
        host=b"agent",
        tags=[b"env:x"],
        dogsketches=[Dogsketch(ts=5, sum=0.5, k=keys.keys(), n=keys.values())],
    )
    payload = SketchPayload(sketches=[sketch]).SerializeToString()
    second = await service.post(
        "/datadog/api/beta/sketches",
        data=zlib.compress(payload),
        headers={"Content-Encoding": "deflate", "Content-Type": "application/x-protobuf"},
    )
    assert (second.status, await second.read()) == (202, b"")
    sketched, sent = await exported(service, "took")
    assert sent[0] == {"__name__": "took", "host": "h", "env": "x"}
    assert sketched[0] == {"__name__": "took", "host": "agent", "env": "x"}
    assert sent[1] == [
        {
            "schema": 5,
            "count": 6,
            "sum": sum(values),
            "zero_threshold": 1e-9,
            "zero_count": 2,
            "positive_spans": [[0, 1], [31, 1]],
            "positive_counts": [2, 1],
            "negative_spans": [[64, 1]],
            "negative_counts": [1],
            "counter_reset_hint": "gauge",
        }
    ]
    # The sketch says a little less than 2 and more than -4, which are in the same buckets.
    assert sketched[1] == [{**sent[1][0], "sum": 0.5}]


@pytest.mark.parametrize(
    ("points", "text"),
    [([[5, 1]], "a list of numbers"), ([[5, ["x"]]], "a list of numbers"), (None, "no list `poi")],
)
async def test_bad_datadog_distributions_are_named(
    service: Service, points: Any, text: str
) -> None:
    body = {"series": [{"metric": "a", "points": points}, {"metric": "b", "points": [[5, [1]]]}]}
    answer = await service.post("/datadog/api/v1/distribution_points", json=body)
    assert (answer.status, answer.headers[STORED]) == (400, "1")
    assert text in (await answer.json())["errors"][1]


async def test_what_the_datadog_agent_sends_besides_is_accepted(service: Service) -> None:
    valid = await service.get("/datadog/api/v1/validate?api_key=x")
    assert (valid.status, await valid.json()) == (200, {"valid": True})
    for path in ("/api/v1/check_run", "/api/v1/metadata", "/api/v1/events", "/intake"):
        answer = await service.post(f"/datadog{path}", json={})
        assert (answer.status, await answer.json()) == (202, {"status": "ok"})
    unknown = await service.post("/datadog/api/v9/new", data=b"any")
    assert unknown.status == 202
    # Legacy agents end their paths with a slash, and an address with one makes two of it.
    points = {"series": [{"metric": "slashes", "points": [[1, 2]]}]}
    for path in ("/api/v1/series/", "//api/v1/series"):
        answer = await service.post(f"/datadog{path}", json=points)
        assert (answer.status, answer.headers[STORED]) == (202, "1")
    for body in (b"junk", b"{}"):
        answer = await service.post("/datadog/api/v1/series", data=body)
        assert answer.status == 400
        assert (await answer.json())["errors"]


async def test_each_tenant_has_its_own(start_service: StartService) -> None:
    service = await start_service(tenancy="header")

    async def send(path: str, body: bytes) -> ClientResponse:
        return await service.post(path, data=body, headers={"X-Scope-OrgID": "team"})

    for path, body in (
        ("/api/v1/import", LINE),
        ("/write", b"a b=1"),
        ("/datadog/api/v1/series", b'{"series":[]}'),
    ):
        assert (await send(path, body)).status in (202, 204)
        assert (await service.post(path, data=body)).status == 401
    answer = await send("/api/v1/export?match[]=up", b"")
    assert (await answer.read()).count(b"\n") == 1


DELIMITED = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)


def delimited(*families: MetricFamily) -> bytes:
    out = BytesIO()
    for family in families:
        serialize_length_prefixed(family, out)
    return out.getvalue()


def family_of(name: str, kind: int, *metrics: Metric) -> MetricFamily:
    return MetricFamily(name=name, type=kind, help="Help.", metric=metrics)


async def test_protobuf_of_go_clients_of_a_pushgateway(service: Service) -> None:
    label = LabelPair(name="job", value="lost").SerializeToString()
    classic = Histogram(
        sample_count=3, sample_sum=4.5, bucket=[Bucket(cumulative_count=2, upper_bound=1.0)]
    )
    native = Histogram(
        sample_count=3, sample_sum=4.5, schema=0, zero_threshold=0.001, zero_count=1,
        positive_span=[BucketSpan(offset=0, length=1).SerializeToString()], positive_delta=[2],
    )  # fmt: skip
    body = delimited(
        family_of("runs", 0, Metric(label=[label], counter=Counter(value=7), timestamp_ms=1_000)),
        family_of("took", 4, Metric(histogram=classic, timestamp_ms=1_000)),
        family_of("sizes", 4, Metric(histogram=native, timestamp_ms=1_000)),
    )
    path = "/api/v1/import/prometheus/metrics/job/batch/instance/a"
    headers = {"Content-Type": DELIMITED, "Content-Encoding": "gzip"}
    answer = await service.client.put(path, data=gzip.compress(body), headers=headers)
    assert (answer.status, answer.headers[STORED]) == (200, "6"), await answer.text()
    group = {"job": "batch", "instance": "a"}
    assert await exported(service) == [
        [{"__name__": name, **group, **more}, [value], [1000]]
        for name, more, value in (
            ("runs", {}, 7.0),
            ("sizes", {}, {
                "schema": 0, "count": 3, "sum": 4.5, "zero_threshold": 0.001, "zero_count": 1,
                "positive_spans": [[0, 1]], "positive_counts": [2],
            }),
            ("took_bucket", {"le": "+Inf"}, 3.0),
            ("took_bucket", {"le": "1.0"}, 2.0),
            ("took_count", {}, 3.0),
            ("took_sum", {}, 4.5),
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        (DELIMITED, b"\x05\x0a", "metric family 1"),
        (DELIMITED, delimited(family_of("", 0, Metric())), "invalid metric name"),
        (DELIMITED.replace("delimited", "text"), b"", "encoding=delimited"),
    ],
)
async def test_protobuf_that_cannot_be_read_is_refused_as_a_whole(
    service: Service, content_type: str, body: bytes, text: str
) -> None:
    good = delimited(family_of("up", 1, Metric(gauge=Value(value=1)))) if body else b""
    answer = await service.post(
        "/api/v1/import/prometheus", data=good + body, headers={"Content-Type": content_type}
    )
    expected = text.replace("family 1", "family 2")
    assert (answer.status, expected in await answer.text()) == (400, True)
    assert await exported(service) == []
