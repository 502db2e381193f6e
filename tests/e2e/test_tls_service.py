"""A service of two workers that speaks TLS, and gets a new certificate while it runs."""

import socket
import ssl
import time
from pathlib import Path
from urllib.request import urlopen

import orjson
import pytest

from conformance.processes import running_promcompat
from tests.certificates import make_authority

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


def test_every_worker_shows_a_new_certificate(plain_database_url: str, tmp_path: Path) -> None:
    old, new = make_authority(tmp_path, "old"), make_authority(tmp_path, "new")
    certificate, key, log = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "log"
    old.copy_to(certificate, key)
    with running_promcompat(
        plain_database_url,
        log,
        workers="2",
        scrape_self="true",
        hsts_max_age="1d",
        tls_cert_file=str(certificate),
        tls_key_file=str(key),
    ) as service:
        with urlopen(f"{service.url}/api/v1/targets", context=service.context) as response:
            assert response.headers["Strict-Transport-Security"] == "max-age=86400"
            (target,) = orjson.loads(response.read())["data"]["activeTargets"]
        assert target["scrapeUrl"] == f"{service.url}/metrics"
        port = int(service.url.rpartition(":")[2])
        assert shown_by(port) == old.file.read_text()
        new.copy_to(certificate, key)
        deadline = time.monotonic() + 60
        # The kernel gives connections to both workers: twenty in a row are not of one of them.
        while any(shown_by(port) != new.file.read_text() for _ in range(20)):
            assert time.monotonic() < deadline, "a worker shows the old certificate"
            time.sleep(0.1)
        # The banner comes after the workers are ready.
        assert f"listening   {service.url}" in log.read_text()
