"""The nginx configuration of deploy/nginx, as it is: TLS, passwords, and tenants by user."""

import base64
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import orjson
import pytest

from conformance.processes import find_free_port, running_promcompat
from promcompat.outgoing.client import client_context
from tests.support.formats.remote_write import encode_request, encode_series
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx" / "promcompat.conf"
HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
MAIN = """
daemon off;
{user}
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/promcompat.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """nginx in front of a service."""

    url: str
    context: ssl.SSLContext

    def ask(
        self, path: str, user: str = "", data: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """The status and body of the answer; `user` is `name:password`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if user:
            sent["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        request = Request(self.url + path, data=data, headers=sent)
        try:
            with urlopen(request, timeout=30, context=self.context) as response:
                return response.status, response.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()


def make_certificate(folder: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(folder / "metrics.key"), "-out", str(folder / "metrics.pem")),
        ],
        check=True,
        capture_output=True,
    )


def adapted(folder: Path, port: int, upstream: str) -> str:
    """The configuration with the addresses and files of the test in place of its own."""
    text = CONFIGURATION.read_text()
    for old, new in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server 127.0.0.1:9201": f"server {upstream}",
        "/etc/ssl/certs/metrics.pem": f"{folder}/metrics.pem",
        "/etc/ssl/private/metrics.key": f"{folder}/metrics.key",
        "/etc/nginx/promcompat.users": f"{folder}/users",
    }.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def proxy(
    plain_postgres_server: DatabaseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    command = require_component("nginx")
    folder, port = tmp_path_factory.mktemp("nginx"), find_free_port()
    make_certificate(folder)
    (folder / "users").write_text(
        "team-a:{PLAIN}secret-a\nteam-b:{PLAIN}secret-b\nguest:{PLAIN}secret-g\n"
    )
    user = "user root;" if folder.owner() == "root" else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
    database_url = plain_postgres_server.create_database()
    with running_promcompat(database_url, folder / "log", tenancy="header") as service:
        upstream = service.url.removeprefix("http://")
        (folder / "promcompat.conf").write_text(adapted(folder, port, upstream))
        arguments = ["-c", str(folder / "nginx.conf"), "-e", str(folder / "errors")]
        process = subprocess.Popen([*command, *arguments])
        try:
            context = client_context((folder / "metrics.pem").read_text())
            running = Proxy(f"https://127.0.0.1:{port}", context)
            wait_until_listening(running, process, folder / "errors")
            yield running
        finally:
            process.terminate()
            process.wait()


def wait_until_listening(proxy: Proxy, process: "subprocess.Popen[bytes]", errors: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, errors.read_text()
        assert time.monotonic() < deadline, errors.read_text()
        try:
            proxy.ask("/-/ready")
        except URLError:
            time.sleep(0.05)
        else:
            return


def headers() -> dict[str, str]:
    """Those of remote write, as arguments."""
    return {name.replace("-", "_"): value for name, value in HEADERS.items()}


def write(proxy: Proxy, user: str, name: str, **others: str) -> int:
    series = encode_series((("__name__", name),), (time.time_ns() // 1_000_000, 1.0))
    return proxy.ask("/api/v1/write", user, encode_request([series]), **headers(), **others)[0]


def names(proxy: Proxy, user: str, **headers: str) -> list[str]:
    status, body = proxy.ask("/api/v1/label/__name__/values", user, **headers)
    assert status == 200
    found: list[str] = orjson.loads(body)["data"]
    return found


def test_only_users_with_their_password_get_in(proxy: Proxy) -> None:
    assert proxy.ask("/api/v1/labels")[0] == 401
    assert proxy.ask("/api/v1/labels", "team-a:guessed")[0] == 401
    assert write(proxy, "", "m") == 401
    assert proxy.ask("/api/v1/labels", "team-a:secret-a")[0] == 200


def test_the_tenant_is_the_users_whatever_a_client_sends(proxy: Proxy) -> None:
    assert write(proxy, "team-a:secret-a", "of_a", X_Scope_OrgID="team-b") == 204
    assert write(proxy, "team-b:secret-b", "of_b") == 204
    assert names(proxy, "team-a:secret-a", X_Scope_OrgID="team-b") == ["of_a"]
    assert names(proxy, "team-b:secret-b") == ["of_b"]


def test_user_without_a_tenant_gets_nothing(proxy: Proxy) -> None:
    status, body = proxy.ask("/api/v1/labels", "guest:secret-g", X_Scope_OrgID="team-a")
    assert (status, body) == (401, b"no org id\n")


def test_bodies_up_to_the_limit_of_the_service_pass(proxy: Proxy) -> None:
    for n_bytes, status in ((31 << 20, 400), (33 << 20, 413)):
        answer = proxy.ask("/api/v1/write", "team-a:secret-a", bytes(n_bytes), **headers())
        assert answer[0] == status


def test_readiness_is_for_everybody_and_what_concerns_all_tenants_for_nobody(
    proxy: Proxy,
) -> None:
    assert proxy.ask("/-/ready")[0] == 200
    for path in ("/metrics", "/prometheus/metrics", "/api/v1/status/config"):
        assert proxy.ask(path, "team-a:secret-a")[0] == 403
