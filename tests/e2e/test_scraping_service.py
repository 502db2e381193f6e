"""The service scrapes by the file of its setting, and `promcompat scrape` sends to it."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import orjson
import pytest

from conformance.processes import RunningProgram, find_free_port, running_promcompat
from tests.support.programs.servers import DatabaseServer
from tests.support.waiting import wait_for

pytestmark = pytest.mark.e2e

CONFIG = """
global: {{scrape_interval: 500ms, external_labels: {{cluster: eu}}}}
scrape_configs:
  - {{job_name: {job}, static_configs: [{{targets: ["{address}"]}}]}}
"""


def ask(service: RunningProgram, path: str, **parameters: str) -> Any:
    with urlopen(f"{service.url}/api/v1/{path}?{urlencode(parameters)}") as answer:
        return orjson.loads(answer.read())["data"]


def test_it_scrapes_and_is_sent_to_by_the_command(
    timescaledb_server: DatabaseServer, tmp_path: Path
) -> None:
    own, config, port = tmp_path / "own.yml", tmp_path / "prometheus.yml", find_free_port()
    address = f"127.0.0.1:{port}"
    own.write_text(CONFIG.format(job="promcompat", address=address))
    config.write_text(CONFIG.format(job="command", address=address))
    settings = {"scrape_self": "true", "scrape_config": str(own)}
    url = timescaledb_server.create_database()
    with running_promcompat(url, tmp_path / "log", port=port, **settings) as service:
        command = [sys.executable, "-m", "promcompat", "scrape", str(config)]
        command += ["--remote-write", f"{service.url}/api/v1/write"]
        with (tmp_path / "command").open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        sent = '{job="command",cluster="eu",__name__=~"up|promcompat_http_requests_in_flight"}'
        wait_for(lambda: len(ask(service, "query", query=sent)["result"]) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        check_own_target(service, address)


def check_own_target(service: RunningProgram, address: str) -> None:
    """The job of the file, which stands for the service's own, is told, and its series stored."""
    wait_for(lambda: ask(service, "targets")["activeTargets"])
    wait_for(lambda: ask(service, "targets")["activeTargets"][0]["health"] == "up")
    (target,) = ask(service, "targets")["activeTargets"]
    assert target["labels"] == {"instance": address, "job": "promcompat"}
    assert ask(service, "scrape_pools") == {"scrapePools": ["promcompat"]}
    wait_for(lambda: ask(service, "query", query='up{job="promcompat"}')["result"])
    (described,) = ask(service, "targets/metadata", metric="promcompat_http_requests_in_flight")
    assert described["type"] == "gauge"
    (result,) = ask(service, "query", query='up{job="promcompat"}')["result"]
    assert result["value"][1] == "1"
