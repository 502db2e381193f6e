"""A service of two workers that speaks TLS, scrapes, and reads its files again while it runs."""

import signal
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import orjson
import pytest

from conformance.processes import RunningProgram, find_free_port, running_promcompat
from promcompat.outgoing.client import client_context
from tests.support.programs.certificates import make_authority
from tests.support.waiting import wait_for

pytestmark = pytest.mark.e2e


def shown_by(port: int) -> str:
    """The certificate that a new connection gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
        context.wrap_socket(connection) as wrapped,
    ):
        return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True) or b"")


CONFIG = """
global: {{scrape_interval: 300ms}}
scrape_configs:
  - job_name: verified
    scheme: https
    tls_config: {{ca_file: tls.crt}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def ask(service: RunningProgram, path: str, **parameters: str) -> Any:
    url = f"{service.url}/api/v1/{path}?{urlencode(parameters)}"
    with urlopen(url, context=service.context) as response:
        assert response.headers["Strict-Transport-Security"] == "max-age=86400"
        return orjson.loads(response.read())["data"]


def test_every_worker_reads_its_files_again(plain_database_url: str, tmp_path: Path) -> None:
    old, new = make_authority(tmp_path, "old"), make_authority(tmp_path, "new")
    certificate, key, log = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "log"
    old.copy_to(certificate, key)
    port, config = find_free_port(), tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(port=port))
    with running_promcompat(
        plain_database_url,
        log,
        port=port,
        workers="2",
        scrape_self="true",
        scrape_config=str(config),
        hsts_max_age="1d",
        tls_cert_file=str(certificate),
        tls_key_file=str(key),
    ) as service:

        def is_scraped() -> bool:
            """Whether the target is up by certificates that are those of now."""
            targets = ask(service, "targets")["activeTargets"]
            found = {target["labels"]["job"]: target for target in targets}
            assert found.keys() == {"verified", "promcompat"}
            assert {target["scrapeUrl"] for target in targets} == {f"{service.url}/metrics"}
            return str(found["verified"]["health"]) == "up"

        # The banner comes after both workers are ready; one alone would show the new certificate.
        wait_for(
            lambda: f"listening   {service.url}" in log.read_text(),
            "a worker does not become ready",
        )
        wait_for(is_scraped, "the service cannot scrape itself")
        assert shown_by(port) == old.file.read_text()
        new.copy_to(certificate, key)
        # The kernel gives connections to both workers: twenty in a row are not of one of them.
        wait_for(
            lambda: all(shown_by(port) == new.file.read_text() for _ in range(20)),
            "a worker shows the old certificate",
        )
        service.process.send_signal(signal.SIGHUP)
        # The file has not changed, so that only the signal makes the worker that scrapes read it.
        wait_for(
            lambda: "scrape configuration loaded" in log.read_text(),
            "the signal does not reach the worker that scrapes",
        )
        trusting = client_context(new.file.read_text())
        renewed = replace(service, context=trusting)
        wait_for(
            lambda: bool(ask(renewed, "query", query='up{job="verified"} == 1')["result"]),
            "the service cannot scrape itself with the new certificate",
        )
