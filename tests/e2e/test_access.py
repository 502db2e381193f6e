"""A service of two workers with restricted access: both know the same tokens."""

from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from conformance.processes import RunningProgram, running_promcompat
from promcompat.__main__ import main
from tests.support.programs.servers import DatabaseServer
from tests.support.waiting import wait_for, wait_for_text

pytestmark = pytest.mark.e2e

_N_CONNECTIONS = 20
"""The kernel gives connections to both workers: so many in a row are not all of one of them."""


@pytest.fixture
def url(timescaledb_server: DatabaseServer) -> str:
    return timescaledb_server.create_database()


@pytest.fixture
def service(url: str, tmp_path: Path) -> Iterator[RunningProgram]:
    with running_promcompat(url, tmp_path / "log", workers="2", access="tokens") as program:
        yield program


def statuses(service: RunningProgram, token: str) -> set[int]:
    """The answers to requests with a token, each on a connection of its own."""

    def ask() -> int:
        request = Request(f"{service.url}/api/v1/query?query=1")
        request.add_header("Authorization", f"Bearer {token}")
        try:
            with urlopen(request, timeout=30) as response:
                return int(response.status)
        except HTTPError as error:
            with error:
                return error.code

    return {ask() for _ in range(_N_CONNECTIONS)}


def test_tokens_count_in_every_worker(
    service: RunningProgram, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["token", "--database-url", url]
    assert main([*command, "create", "grafana", "--role", "read"]) == 0
    token = capsys.readouterr().out.strip()
    assert statuses(service, token) == {200}
    assert main([*command, "revoke", "grafana"]) == 0
    wait_for(lambda: statuses(service, token) == {401})
    assert token not in wait_for_text(service.log, "promcompat token create")
