"""No query parameter makes the service fail, whatever its value."""

from aiohttp import ClientResponse
from yarl import URL

from tests.support.factories import make_batch, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.services.hostile_requests import (
    HostileRequest,
    expression_requests,
    parameter_requests,
    repeated_requests,
)
from tests.support.services.http_service import NOW_MS, Service, running_service

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def send(service: Service, request: HostileRequest) -> ClientResponse:
    path = f"/api/v1/{request.path}"
    if request.is_form:
        return await service.post(path, data=request.parameters.encode(), headers=FORM)
    return await service.get(URL(f"{path}?{request.parameters}", encoded=True))


async def filled() -> InMemoryStore:
    store = InMemoryStore()
    series = {make_labels("up", job=f"j{job}"): [(NOW_MS, 1.0)] for job in range(5)}
    await store.write_batch("default", make_batch(series))
    return store


async def test_no_value_of_a_parameter_is_a_failure() -> None:
    failures = []
    async with running_service(await filled(), query_timeout="20s") as service:
        for request in parameter_requests():
            response = await send(service, request)
            body = await response.text()
            # What runs into the timeout that the request itself asks for is no failure.
            is_timeout = response.status == 503 and "timed out" in body
            if response.status >= 500 and not is_timeout:
                failures.append(f"{response.status} {request}: {body[:200]}")
            if response.status == 400:
                assert '"status":"error"' in body, str(request)
    assert failures == []


async def test_no_expression_is_a_failure() -> None:
    failures = []
    async with running_service(await filled(), query_timeout="20s") as service:
        for name, request in expression_requests(300):
            response = await send(service, request)
            body = await response.text()
            is_limit = response.status == 503 and "timed out" in body
            if response.status >= 500 and not is_limit:
                failures.append(f"{response.status} {name}: {body[:200]}")
    assert failures == []


async def test_repeated_parameters_are_no_failure() -> None:
    async with running_service(await filled()) as service:
        for request in repeated_requests():
            response = await send(service, request)
            assert response.status in (200, 400), f"{request}: {await response.text()}"


async def test_label_names_of_any_bytes_are_answered() -> None:
    names = ["%ff", "%00", "a%2Fb", "%ed%a0%80", "U__", "U___", "U__d800_", "a" * 5_000, "%25", "."]
    async with running_service(await filled()) as service:
        for name in names:
            response = await service.get(URL(f"/api/v1/label/{name}/values", encoded=True))
            assert response.status in (200, 301, 400, 404), name
