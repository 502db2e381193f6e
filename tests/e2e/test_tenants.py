"""Two tenants of one service never see anything of each other."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conformance.processes import running_promcompat
from conformance.prometheus_api import PrometheusApi, format_seconds, open_session
from tests.support.factories import make_labels
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

NOW_MS = time.time_ns() // 1_000_000


@pytest.fixture
async def tenants(
    timescaledb_server: DatabaseServer, tmp_path: Path
) -> AsyncIterator[tuple[PrometheusApi, PrometheusApi, PrometheusApi]]:
    """Clients of the tenants red and blue, and one that names no tenant."""
    url = timescaledb_server.create_database()
    with running_promcompat(url, tmp_path / "log", tenancy="header") as service:
        async with open_session() as session:
            red = PrometheusApi(session, service.url, {"X-Scope-OrgID": "red"})
            blue = PrometheusApi(session, service.url, {"X-Scope-OrgID": "blue"})
            yield red, blue, PrometheusApi(session, service.url)


async def ask_everything(api: PrometheusApi) -> dict[str, object]:
    """All that a tenant can see."""
    now = format_seconds(NOW_MS)
    start, end = format_seconds(NOW_MS - 60_000), now
    everything = '{__name__=~".+"}'
    answers = {
        "query": await api.query(everything, now),
        "query_range": await api.query_range(everything, start, end, "15"),
        "count": await api.query(f"count({everything})", now),
        "series": await api.get("series", [("match[]", everything)]),
        "labels": await api.get("labels"),
        "names": await api.get("label/__name__/values"),
        "values": await api.get("label/owner/values"),
        "metadata": await api.get("metadata"),
        "status": await api.get("status/tsdb"),
    }
    assert all(answer.is_success for answer in answers.values()), answers
    return {name: answer.data for name, answer in answers.items()}


async def test_tenants_see_only_their_own(
    tenants: tuple[PrometheusApi, PrometheusApi, PrometheusApi],
) -> None:
    red, blue, _ = tenants
    shared_name = make_labels("shared", job="x")
    await red.write(
        {shared_name: [(NOW_MS, 1.0)], make_labels("of_red", owner="red"): [(NOW_MS, 1)]}
    )
    nothing = await ask_everything(blue)
    assert "red" not in repr(nothing)
    assert nothing["series"] == nothing["labels"] == nothing["names"] == []

    # The same series with another value at the same time is no conflict.
    await blue.write(
        {shared_name: [(NOW_MS, 2.0)], make_labels("of_blue", owner="blue"): [(NOW_MS, 1)]}
    )
    of_red, of_blue = await ask_everything(red), await ask_everything(blue)
    assert "blue" not in repr(of_red)
    assert "red" not in repr({name: of_blue[name] for name in of_blue if name != "names"}).replace(
        "shared", ""
    )
    assert of_red["names"] == ["of_red", "shared"]
    assert of_blue["names"] == ["of_blue", "shared"]
    assert of_red["values"] == ["red"]
    now = format_seconds(NOW_MS)
    values = [(await api.query("shared", now)).data["result"][0]["value"][1] for api in (red, blue)]
    assert values == ["1", "2"]


async def test_request_without_a_tenant_is_refused(
    tenants: tuple[PrometheusApi, PrometheusApi, PrometheusApi],
) -> None:
    _, _, nobody = tenants
    for path in ("query?query=up", "labels", "series?match[]=up", "label/job/values", "metadata"):
        async with nobody.session.get(f"{nobody.url}/api/v1/{path}") as response:
            assert response.status == 401, path
