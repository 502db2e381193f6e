"""The ruler API of Mimir: what Grafana and mimirtool send, and what they get."""

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from promcompat.core.patterns import compiled
from tests.support.services.native_service import NativeClient, running_native_service

pytestmark = pytest.mark.integration

BASE = "/prometheus/config/v1/rules"
GROUP = """\
name: g
interval: 1m
query_offset: 10s
unknown: ignored
rules:
  - record: a:b
    expr: sum by (job) (up)
  - alert: Down
    expr: |
      up == 0
    for: 5m
    labels: {severity: page}
    annotations: {summary: "{{ $labels.job }} is down"}
"""
STORED: dict[str, Any] = {name: v for name, v in yaml.safe_load(GROUP).items() if name != "unknown"}
ACCEPTED = {"status": "success", "data": None, "errorType": "", "error": ""}


@pytest.fixture
async def native(plain_database_url: str) -> AsyncIterator[NativeClient]:
    async with running_native_service(plain_database_url) as client:
        yield client


async def ask(native: NativeClient, method: str, path: str, body: str = "") -> tuple[int, str, str]:
    """Status, content type and text of an answer."""
    response = await native.client.request(method, path, data=body or None)
    return response.status, response.content_type, await response.text()


async def test_a_body_that_cannot_be_taken_gets_the_status_of_why(native: NativeClient) -> None:
    body = io.BytesIO(b"#" * ((4 << 20) + 1))
    response = await native.client.post(f"{BASE}/team", data=body)
    assert (response.status, response.content_type) == (413, "text/plain")
    assert await response.text() == "the request body is larger than 4194304 bytes\n"


async def test_a_group_is_stored_read_replaced_and_deleted(native: NativeClient) -> None:
    assert await ask(native, "GET", BASE) == (200, "application/yaml", "{}\n")
    status, kind, text = await ask(native, "POST", f"{BASE}/team%2Fx", GROUP)
    assert (status, kind, yaml.safe_load(text)) == (202, "application/json", ACCEPTED)
    status, kind, text = await ask(native, "GET", f"{BASE}/team%2Fx/g")
    assert (status, kind, yaml.safe_load(text)) == (200, "application/yaml", STORED)
    earlier = GROUP.replace("query_offset", "evaluation_delay") + "source_tenants: []\n"
    assert (await ask(native, "POST", f"{BASE}/team%2Fx", earlier))[0] == 202
    for root in ("/config/v1/rules", "/api/prom/rules"):
        assert yaml.safe_load((await ask(native, "GET", root))[2]) == {"team/x": [STORED]}
    legacy = await ask(native, "GET", "/api/v1/rules/team%2Fx/g")
    assert yaml.safe_load(legacy[2]) == STORED
    (group,) = (await native.prometheus("rules"))["groups"]
    assert (group["file"], group["name"], group["interval"]) == ("team/x", "g", 60)
    assert [rule["type"] for rule in group["rules"]] == ["recording", "alerting"]
    changed = GROUP.replace("5m", "6m")
    ids = [rule["id"] for rule in (await native.get("/rules"))["rules"]]
    assert (await ask(native, "POST", f"{BASE}/team%2Fx", changed))[0] == 202
    rules = (await native.get("/rules"))["rules"]
    assert ([rule["id"] for rule in rules], rules[1]["for"]) == (ids, "6m")
    assert (await ask(native, "POST", f"{BASE}/other", GROUP))[0] == 202
    of_namespace = await ask(native, "GET", f"{BASE}/other")
    assert (of_namespace[0], yaml.safe_load(of_namespace[2])) == (200, {"other": [STORED]})
    assert (await ask(native, "DELETE", f"{BASE}/team%2Fx/g"))[0] == 202
    assert (await ask(native, "DELETE", f"{BASE}/other"))[0] == 202
    assert (await ask(native, "GET", BASE))[2] == "{}\n"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("GET", "/n/g", "", 404, "group does not exist"),
        ("DELETE", "/n/g", "", 404, "group does not exist"),
        ("DELETE", "/n", "", 404, "group namespace does not exist"),
        ("POST", "/n", "rules: [", 400, "unable to decode rule group"),
        ("POST", "/n", GROUP + "evaluation_delay: 5s", 400, "have different values"),
        ("POST", "/n", GROUP + "source_tenants: [a]", 400, "source_tenants is not supported"),
        ("POST", "/n", "rules: []", 400, "rule group name must not be empty"),
        ("POST", "/n", "name: x", 400, "invalid rules configuration: rule group 'x' has no rules"),
        ("POST", "/n", "{name: x, rules: [{record: a, expr: sum(}]}", 400, "could not parse"),
        ("POST", "/%00", GROUP, 400, "the name contains U+0000"),
    ],
)
async def test_errors_are_plain_text(
    native: NativeClient, method: str, path: str, body: str, status: int, text: str
) -> None:
    answer = await ask(native, method, BASE + path, body)
    assert answer[:2] == (status, "text/plain")
    assert text in answer[2]


async def test_a_group_is_replaced_only_after_its_evaluation(native: NativeClient) -> None:
    """Both lock rules one after the other: at the same time each could wait for the other."""
    assert (await ask(native, "POST", f"{BASE}/n", GROUP))[0] == 202
    async with native.alerts.evaluating("default", "n", "g") as session:
        assert session is not None
        replacing = asyncio.create_task(ask(native, "POST", f"{BASE}/n", GROUP.replace("5m", "7m")))
        done, _ = await asyncio.wait([replacing], timeout=0.5)
        assert not done
    assert (await replacing)[0] == 202


async def test_texts_of_any_length_are_stored_and_shown_or_refused(native: NativeClient) -> None:
    random = Random(1)

    def text(n_bytes: int) -> str:
        return "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=n_bytes))

    for n_bytes in (1_000, 3_000, 10_000):
        for namespace, group, name, label in (
            (text(n_bytes), "g", "A", "l"),
            ("long group", text(n_bytes), "A", "l"),
            ("long name", "g", text(n_bytes), "l"),
            ("long label", "g", "A", text(n_bytes)),
            ("long expression", "g", "A", "l" + " " * 50 * n_bytes),
        ):
            rule = {"alert": name, "expr": "up > 0" + label[1:], "labels": {"l": label.strip()}}
            if namespace != "long expression":
                rule["expr"] = "up > 0"
            document = {"name": group, "interval": "500ms", "limit": 2_000_000, "rules": [rule]}
            body = yaml.safe_dump(document)
            status, _, answer = await ask(native, "POST", f"{BASE}/{namespace}", body)
            assert status in (202, 400), answer
            listed = await native.client.get("/api/v1/metrics/rules")
            assert listed.status == 200, await listed.text()


async def test_groups_that_are_sent_at_once_are_all_accepted(native: NativeClient) -> None:
    bodies = [GROUP.replace("1m", f"{minutes}m") for minutes in range(1, 9)]
    asked = [ask(native, "POST", f"{BASE}/a", body) for body in bodies]
    deleted = [ask(native, "DELETE", f"{BASE}/a/g") for _ in range(2)]
    answers = await asyncio.gather(*asked, *deleted)
    assert [status for status, _, _ in answers[:8]] == [202] * 8
    assert {status for status, _, _ in answers[8:]} <= {202, 404}


async def test_a_filter_of_many_expressions_compiles_none_for_each_rule(
    native: NativeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if they take more memory together than compiled expressions are kept in."""
    labels = "labels: {team: aaab}"
    rules = "".join(f"  - {{record: r{number}, expr: a, {labels}}}\n" for number in range(5))
    status, _, text = await ask(native, "POST", f"{BASE}/n", f"name: g\nrules:\n{rules}")
    assert status == 202, text
    compilations: Counter[str] = Counter()
    compile_text = compiled._compile

    def counted(text: str) -> compiled.Pattern:
        compilations[text] += 1
        return compile_text(text)

    monkeypatch.setattr(compiled, "_compile", counted)
    patterns = [f"(a{{0,500}}){{0,2}}c{number}" for number in range(12)]
    wanted = [f'match[]={quote(f"""{{team=~"{text}"}}""")}' for text in [*patterns, "a+b"]]
    status, _, text = await ask(native, "GET", f"/api/v1/rules?{'&'.join(wanted)}")
    assert (status, [f"r{number}" in text for number in range(5)]) == (200, [True] * 5)
    assert set(compilations) == {*patterns, "a+b"}
    # By the parser, by the look for selectors that match everything, and for all rules together.
    assert max(compilations.values()) <= 3
