"""Real programs reach a service by TLS and with tokens, and each may do only its work."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from conformance.processes import (
    RunningProgram,
    find_free_port,
    running_program,
    running_promcompat,
    running_prometheus,
    start_program,
)
from tests.support.programs.certificates import Certificate, make_authority
from tests.support.programs.components import find_program
from tests.support.programs.servers import DatabaseServer
from tests.support.waiting import wait_for

pytestmark = pytest.mark.e2e

PAGER_PASSWORD = "pager-password"
PAGER_HASH = "$2b$04$l/xVPDG0d8hXmQfMnrlb6OLi/YXJ40ufZig0VCj8ZEohZEaHIHNfC"


@dataclass(frozen=True, slots=True)
class Guarded:
    """A service, and the files that its clients need."""

    service: RunningProgram
    authority: Certificate
    folder: Path
    pager_port: int
    """Where the service expects an Alertmanager."""
    tokens: dict[str, str] = field(default_factory=dict)

    def token_file(self, role: str) -> Path:
        """A file with the token of a role; tokens have the names of their roles."""
        path = self.folder / f"{role}.token"
        if not path.exists():
            body = {"name": role, "roles": [role], "tenants": ["default"]}
            made = self.ask("admin", "/api/v1/metrics/tokens", body)
            self.tokens[role] = made["token"]
            path.write_text(f"{made['token']}\n")
        return path

    def ask(self, role: str | None, path: str, body: object = None, **headers: str) -> Any:
        """The JSON of an answer to the token of a role."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **headers}
        if role is not None:
            sent["Authorization"] = f"Bearer {self.tokens[role]}"
        request = Request(self.service.url + path, data=data, headers=sent)
        with urlopen(request, timeout=30, context=self.service.context) as response:
            return json.load(response)

    def value_of(self, expr: str) -> str | None:
        """The value of the only series of an instant query."""
        self.token_file("read")
        found = self.ask("read", f"/api/v1/query?{urlencode({'query': expr})}")["data"]["result"]
        return found[0]["value"][1] if found else None


@pytest.fixture(scope="module")
def guarded(
    plain_postgres_server: DatabaseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("access")
    authority = make_authority(folder, "authority")
    url, pager = plain_postgres_server.create_database(), find_free_port()
    with running_promcompat(
        url,
        folder / "log",
        access="tokens",
        tls_cert_file=str(authority.file),
        tls_key_file=str(authority.key),
        alertmanager_urls=f"http://localhost:{pager}",
        outgoing_allow="localhost",
        secrets=json.dumps({"pager": {"file": str(folder / "pager"), "hosts": ["localhost"]}}),
        alertmanager_headers="Authorization=pager",
    ) as service:
        found = Guarded(service, authority, folder, pager)
        found.tokens["admin"] = first_token(url)
        yield found
    plain_postgres_server.drop_database(url)


def first_token(url: str) -> str:
    """What `promcompat token create` prints."""
    command = [sys.executable, "-m", "promcompat", "token", "--database-url", url]
    made = subprocess.run(
        [*command, "create", "first", "--role", "admin"],
        check=True,
        capture_output=True,
        text=True,
        env={name: text for name, text in os.environ.items() if "PROMCOMPAT_" not in name[:11]},
    )
    return made.stdout.strip()


def http_config(guarded: Guarded, role: str) -> str:
    """What Prometheus and promtool are told, in YAML."""
    return (
        f"authorization: {{credentials_file: '{guarded.token_file(role)}'}}\n"
        f"tls_config: {{ca_file: '{guarded.authority.file}'}}\n"
    )


def indented(text: str, spaces: int) -> str:
    return "".join(f"{' ' * spaces}{line}\n" for line in text.splitlines())


def test_prometheus_writes_and_scrapes(
    guarded: Guarded, prometheus_binary: Path, tmp_path: Path
) -> None:
    url = guarded.service.url
    config = (
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: service\n    scheme: https\n"
        f"    static_configs: [{{targets: ['{url.removeprefix('https://')}']}}]\n"
        f"{indented(http_config(guarded, 'read'), 4)}"
        "remote_write:\n"
        f"  - url: {url}/api/v1/write\n"
        "    queue_config: {batch_send_deadline: 1s}\n"
        f"{indented(http_config(guarded, 'write'), 4)}"
    )
    with running_prometheus(prometheus_binary, tmp_path / "p", config=config):
        assert wait_for(lambda: guarded.value_of('up{job="service"}')) == "1"


def test_vmagent_writes(guarded: Guarded, vmagent_binary: Path, tmp_path: Path) -> None:
    port = find_free_port()
    config = tmp_path / "scrape.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n"
        f"  - job_name: vmagent\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
    command = [
        vmagent_binary,
        f"-promscrape.config={config}",
        f"-remoteWrite.url={guarded.service.url}/api/v1/write",
        f"-remoteWrite.bearerTokenFile={guarded.token_file('write')}",
        f"-remoteWrite.tlsCAFile={guarded.authority.file}",
        f"-remoteWrite.tmpDataPath={tmp_path / 'queue'}",
        "-remoteWrite.flushInterval=1s",
        f"-httpListenAddr=127.0.0.1:{port}",
    ]
    with running_program(command, port, tmp_path / "log", "/health"):
        assert wait_for(lambda: guarded.value_of('up{job="vmagent"}')) == "1"


def promtool(binary: Path, config: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(binary), *arguments[:2], f"--http.config.file={config}", *arguments[2:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_promtool_asks_with_a_token(
    guarded: Guarded, promtool_binary: Path, tmp_path: Path
) -> None:
    readers, writers = tmp_path / "read.yml", tmp_path / "write.yml"
    readers.write_text(http_config(guarded, "read"))
    writers.write_text(http_config(guarded, "write"))
    asked = ("query", "instant", guarded.service.url, "1 + 1")
    assert promtool(promtool_binary, readers, *asked).stdout.startswith("scalar: 2")
    refused = promtool(promtool_binary, writers, *asked)
    assert refused.returncode != 0
    assert "403" in refused.stderr or "role read" in refused.stderr
    samples = tmp_path / "samples"
    samples.write_text("# TYPE pushed gauge\npushed 7\n")
    target = f"{guarded.service.url}/api/v1/write"
    pushed = promtool(promtool_binary, writers, "push", "metrics", target, str(samples))
    assert pushed.returncode == 0, pushed.stderr
    assert guarded.value_of("pushed") == "7"


def test_vmalert_evaluates_and_writes(guarded: Guarded, tmp_path: Path) -> None:
    port, rules = find_free_port(), tmp_path / "rules.yml"
    rules.write_text("groups: [{name: g, rules: [{record: by_vmalert, expr: vector(3)}]}]\n")
    command: list[str | Path] = [find_program("vmalert"), f"-rule={rules}"]
    for name, role in (("datasource", "read"), ("remoteWrite", "write")):
        command += [
            f"-{name}.url={guarded.service.url}",
            f"-{name}.bearerTokenFile={guarded.token_file(role)}",
            f"-{name}.tlsCAFile={guarded.authority.file}",
        ]
    command += ["-notifier.blackhole", "-evaluationInterval=1s", "-remoteWrite.flushInterval=1s"]
    command += [f"-httpListenAddr=127.0.0.1:{port}"]
    with running_program(command, port, tmp_path / "log", "/health"):
        assert wait_for(lambda: guarded.value_of("by_vmalert")) == "3"


def alerts_of(manager: RunningProgram, basic: str) -> list[Any]:
    request = Request(f"{manager.url}/api/v2/alerts", headers={"Authorization": basic})
    try:
        with urlopen(request, timeout=10) as response:
            found: list[Any] = json.load(response)
            return found
    except URLError:
        return []


def test_an_alertmanager_gets_alerts_with_a_secret_by_name(
    guarded: Guarded, alertmanager_binary: Path, tmp_path: Path
) -> None:
    (tmp_path / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{pager: '{PAGER_HASH}'}}\n")
    basic = "Basic " + base64.b64encode(f"pager:{PAGER_PASSWORD}".encode()).decode()
    (guarded.folder / "pager").write_text(basic)
    command: list[str | Path] = [
        *("/usr/bin/env", "-C", alertmanager_binary.parents[2], alertmanager_binary),
        f"--config.file={tmp_path / 'am.yml'}",
        f"--web.config.file={tmp_path / 'web.yml'}",
        f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{guarded.pager_port}",
        "--cluster.listen-address=",
    ]
    guarded.token_file("edit")
    rule = {"name": "Paged", "expr": "vector(1)", "severity": "critical", "interval": "1s"}
    manager = start_program(command, guarded.pager_port, tmp_path / "log")
    try:
        guarded.ask("edit", "/api/v1/metrics/rules", rule)
        (alert,) = wait_for(lambda: alerts_of(manager, basic))
    finally:
        manager.stop()
    assert alert["labels"]["alertname"] == "Paged"
    assert alert["generatorURL"].startswith("https://")
    shown = json.dumps(guarded.ask("admin", "/api/v1/status/flags"))
    assert "pager" in shown
    assert basic not in shown
    assert basic not in (guarded.folder / "log").read_text()


def test_grafana_asks_as_its_data_source_does(guarded: Guarded) -> None:
    guarded.token_file("read")
    password = f"anybody:{guarded.tokens['read']}".encode()
    headers = {
        "Authorization": f"Basic {base64.b64encode(password).decode()}",
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Grafana-User": "admin",
        "X-Grafana-Org-Id": "1",
        "User-Agent": "Grafana/12",
    }
    posted = {"query": "1+1", "start": "0", "end": "60", "step": "15"}
    for path, form in (
        ("/api/v1/query_range", posted),
        ("/api/v1/query", {"query": "1+1", "time": "0"}),
        ("/api/v1/labels", {"start": "0", "end": "60"}),
        ("/api/v1/label/__name__/values?start=0&end=60", None),
        ("/api/v1/metadata", None),
        ("/api/v1/rules", None),
        ("/api/v1/status/buildinfo", None),
        ("/api/v1/query_exemplars?query=up&start=0&end=60", None),
    ):
        data = None if form is None else urlencode(form).encode()
        request = Request(guarded.service.url + path, data=data, headers=headers)
        with urlopen(request, timeout=30, context=guarded.service.context) as response:
            assert json.load(response)["status"] == "success"
    with pytest.raises(HTTPError) as refused:
        guarded.ask(None, "/api/v1/query?query=1")
    with refused.value as answer:
        assert answer.code == 401
