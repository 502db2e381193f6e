"""Native histograms from a remote-write request to each answer that has samples."""

import snappy

from promcompat.remote_read.remote_read_pb2 import QueryResult, ReadResponse
from promcompat.remote_write.histograms import decode_histograms
from promcompat.remote_write.remote_pb2 import TimeSeries
from tests.support.factories import encode_field, encode_labels
from tests.support.formats.remote_read import encode_read_request
from tests.support.formats.remote_write import (
    WireHistogram,
    columns_of,
    encode_request,
    encode_sample,
    same_histograms,
)
from tests.support.services.http_service import NOW_MS, Service

EXPONENTIAL = (("__name__", "e"), ("job", "a"))
CUSTOM = (("__name__", "c"), ("job", "a"))
FIRST = WireHistogram(
    NOW_MS - 15_000,
    count=3,
    sum=2.5,
    zero_threshold=0.25,
    zero_count=1,
    positive_spans=((0, 1), (1, 1)),
    positive=(1, 1),
)
SECOND = FIRST.but(timestamp_ms=NOW_MS, count=6, positive=(4, 1), is_float=True)
LISTED = WireHistogram(
    NOW_MS,
    schema=-53,
    count=6,
    sum=1.5,
    positive_spans=((0, 3),),
    positive=(1, 2, 3),
    custom_values=(0.5, 1.0),
)
BUCKETS = [[3, "-0.25", "0.25", "1"], [0, "0.5", "1", "4"], [0, "2", "4", "1"]]


async def fill(service: Service) -> None:
    """Two histograms and a float between them, and one with custom buckets."""
    exponential = encode_labels(EXPONENTIAL) + encode_sample(NOW_MS - 5_000, 7.0)
    exponential += b"".join(encode_field(4, one.encode()) for one in (FIRST, SECOND))
    custom = encode_labels(CUSTOM) + encode_field(4, LISTED.encode())
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    answer = await service.post(
        "/api/v1/write", data=encode_request([exponential, custom]), headers=headers
    )
    assert answer.status == 204, await answer.text()


async def test_queries_answer_histograms(service: Service) -> None:
    await fill(service)
    _, answer = await service.ask("query", query="e", time=str(NOW_MS / 1000))
    (item,) = answer["data"]["result"]
    assert item["metric"] == dict(EXPONENTIAL)
    assert item["histogram"] == [NOW_MS / 1000, {"count": "6", "sum": "2.5", "buckets": BUCKETS}]
    _, answer = await service.ask("query", query="e[1m]", time=str(NOW_MS / 1000))
    (item,) = answer["data"]["result"]
    assert item["values"] == [[NOW_MS / 1000 - 5, "7"]]
    first, second = item["histograms"]
    assert first[1]["count"] == "3"
    assert second == [NOW_MS / 1000, {"count": "6", "sum": "2.5", "buckets": BUCKETS}]
    grid = {"start": str(NOW_MS / 1000 - 10), "end": str(NOW_MS / 1000), "step": "5"}
    _, answer = await service.ask("query_range", query="e", **grid)
    (item,) = answer["data"]["result"]
    assert item["values"] == [[NOW_MS / 1000 - 5, "7"]]
    assert [point[0] for point in item["histograms"]] == [NOW_MS / 1000 - 10, NOW_MS / 1000]


async def test_remote_read_gives_the_histograms_as_they_were_written(service: Service) -> None:
    await fill(service)
    query = (NOW_MS - 60_000, NOW_MS, [("__name__", "=", "e")])
    answer = await service.post("/api/v1/read", data=encode_read_request([query], [0]))
    (result,) = ReadResponse.FromString(snappy.decompress(await answer.read())).results
    (wire,) = QueryResult.FromString(result).timeseries
    found = TimeSeries.FromString(wire)
    assert [sample.timestamp for sample in found.samples] == [NOW_MS - 5_000]
    read = decode_histograms(found.histograms)
    assert read.timestamps.tolist() == [FIRST.timestamp_ms, SECOND.timestamp_ms]
    assert same_histograms(read.histograms, columns_of([FIRST, SECOND]))


async def test_federation_has_custom_buckets_and_no_exponential_ones(service: Service) -> None:
    await fill(service)
    response = await service.client.get("/federate", params={"match[]": '{job="a"}'})
    assert await response.text() == (
        "# TYPE c histogram\n"
        f'c_bucket{{job="a",instance="",le="0.5"}} 1 {NOW_MS}\n'
        f'c_bucket{{job="a",instance="",le="1"}} 3 {NOW_MS}\n'
        f'c_bucket{{job="a",instance="",le="+Inf"}} 6 {NOW_MS}\n'
        f'c_sum{{job="a",instance=""}} 1.5 {NOW_MS}\n'
        f'c_count{{job="a",instance=""}} 6 {NOW_MS}\n'
    )
