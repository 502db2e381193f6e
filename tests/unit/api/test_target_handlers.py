"""The answers about targets are filtered as Prometheus filters them."""

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from promcompat.api import params, target_handlers
from promcompat.api.json_text import dump_json
from promcompat.core.matchers import LabelMatcher
from promcompat.scraping.target_documents import MetadataDocument, TargetsDocument, global_url
from promql.parsing.parser import parse_metric_selector
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import Service, running_service

ACTIVE = [{"scrapePool": "a", "labels": {"job": "a"}}, {"scrapePool": "b", "labels": {}}]
DROPPED = [{"scrapePool": "b", "discoveredLabels": {}}]
TARGETS = TargetsDocument(ACTIVE, DROPPED, {"a": 0, "b": 1}, ["a", "b"])
METADATA = MetadataDocument(
    [("m", "gauge", "Help.", ""), ("n", "counter", "", "s")],
    [({"job": "a"}, [0, 1]), ({"job": "b"}, [0])],
)


class Scraping:
    """Tells documents as another process has published them."""

    fault = "not loaded"

    async def targets(self) -> TargetsDocument:
        return TargetsDocument.decode(TARGETS.encode())

    async def metadata(self) -> MetadataDocument:
        return MetadataDocument.decode(METADATA.encode())


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with running_service(InMemoryStore(), scraping=Scraping()) as running:
        yield running


@pytest.mark.parametrize(
    ("query", "active", "dropped", "counts"),
    [
        ({}, ACTIVE, DROPPED, {"a": 0, "b": 1}),
        ({"state": "any", "scrapePool": "a"}, ACTIVE[:1], [], {"a": 0, "b": 1}),
        ({"state": "Active"}, ACTIVE, [], None),
        ({"state": "dropped"}, [], DROPPED, {"a": 0, "b": 1}),
        ({"state": "other"}, [], [], None),
    ],
)
async def test_targets_are_chosen_by_state_and_pool(
    service: Service, query: dict[str, str], active: Any, dropped: Any, counts: Any
) -> None:
    status, answer = await service.ask("targets", **query)
    assert (status, answer["warnings"]) == (200, ["not loaded"])
    data = {"activeTargets": active, "droppedTargets": dropped, "droppedTargetCounts": counts}
    assert answer["data"] == data


M = {"target": {"job": "a"}, "metric": "m", "type": "gauge", "help": "Help.", "unit": ""}
N = {"target": {"job": "a"}, "metric": "n", "type": "counter", "help": "", "unit": "s"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [M, N, M | {"target": {"job": "b"}}]),
        ({"match_target": '{job="a"}'}, [M, N]),
        ({"match_target": '{job=~"b|c"}', "limit": "-1"}, [M | {"target": {"job": "b"}}]),
        ({"metric": "n"}, [{name: value for name, value in N.items() if name != "metric"}]),
        # As in Prometheus, all that a target says, and of no further one once that is enough.
        ({"limit": "1"}, [M, N]),
        ({"limit": "0"}, []),
    ],
)
async def test_metadata_is_chosen_by_target_and_metric(
    service: Service, query: dict[str, str], expected: Any
) -> None:
    status, answer = await service.ask("targets/metadata", **query)
    assert (status, answer["data"]) == (200, expected)
    for found, wanted in zip(answer["data"], expected, strict=True):
        assert list(found) == list(wanted)
    status, answer = await service.ask("targets/metadata", match_target="{")
    assert (status, answer["errorType"]) == (400, "bad_data")
    assert answer["error"].startswith('invalid parameter "match_target": 1:2: parse error: ')


async def test_the_metadata_of_many_targets_is_listed_in_a_thread(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def noted(value: object) -> bytes:
        threads.append(threading.current_thread())
        return dump_json(value)

    monkeypatch.setattr(target_handlers, "dump_json", noted)
    status, _ = await service.ask("targets/metadata")
    assert (status, len(threads)) == (200, 1)
    assert threading.main_thread() not in threads


async def test_a_selector_of_many_expressions_is_parsed_in_a_thread(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def noted(text: str, *options: Any) -> tuple[LabelMatcher, ...]:
        threads.append(threading.current_thread())
        return parse_metric_selector(text, *options)

    monkeypatch.setattr(params, "parse_metric_selector", noted)
    many = ",".join(f'a{n}=~"(foo|bar{n}){{1,100}}.*|"' for n in range(1_000))
    _, answer = await service.ask("targets/metadata", match_target=f"{{{many}}}")
    assert answer["data"] == [M, N, M | {"target": {"job": "b"}}]
    assert len(threads) == 1
    assert threading.main_thread() not in threads


async def test_targets_are_matched_within_the_time_of_a_query() -> None:
    many = ",".join(f'a{n}=~"x{n}.*|"' for n in range(5_000))
    async with running_service(
        InMemoryStore(), scraping=Scraping(), query_timeout="1ms"
    ) as running:
        status, answer = await running.ask("targets/metadata", match_target=f"{{{many}}}")
    assert (status, answer["errorType"]) == (503, "timeout")


async def test_pools_are_named_and_only_the_default_tenant_has_targets() -> None:
    async with running_service(InMemoryStore(), scraping=Scraping(), tenancy="header") as running:
        for tenant, pools in (("default", ["a", "b"]), ("other", [])):
            headers = {"X-Scope-OrgID": tenant}
            response = await running.get("/api/v1/scrape_pools", headers=headers)
            assert (await response.json())["data"] == {"scrapePools": pools}
            response = await running.get("/api/v1/targets/metadata", headers=headers)
            assert bool((await response.json())["data"]) == bool(pools)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9201/metrics", "https://name:9201/metrics"),
        ("http://localhost:80/m?a=b", "http://name:80/m?a=b"),
        ("http://[::1]/m", "http://name/m"),
        ("http://other:9201/m", "http://other:9201/m"),
    ],
)
def test_local_addresses_are_told_as_others_reach_them(url: str, expected: str) -> None:
    assert global_url(url, "https://name:9201") == expected
