"""Authorities and certificates for tests of TLS, made by the program openssl."""

import os
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from promcompat.outgoing.client import client_context

_NAMES = "IP:127.0.0.1,DNS:localhost"
_NEW_KEY = ("-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    file: Path
    key: Path

    def trusting(self, shown: "Certificate | None" = None) -> ssl.SSLContext:
        """The context of a client that trusts this authority, and shows a certificate."""
        context = client_context(self.file.read_text())
        if shown is not None:
            context.load_cert_chain(shown.file, shown.key)
        return context

    def copy_to(self, file: Path, key: Path) -> None:
        """Take the place of other files at once, as tools that renew certificates do."""
        for source, target in ((self.file, file), (self.key, key)):
            fresh = target.with_name(f"{target.name}.fresh")
            shutil.copy(source, fresh)
            os.replace(fresh, target)


def make_authority(folder: Path, name: str) -> Certificate:
    """An authority that signs itself; it is a certificate of this machine, too."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        *("req", "-x509", *_NEW_KEY, "-days", "2", "-subj", f"/CN={name}"),
        *("-addext", f"subjectAltName={_NAMES}", "-keyout", made.key, "-out", made.file),
    )
    return made


def make_certificate(
    folder: Path, name: str, authority: Certificate, names: str = _NAMES
) -> Certificate:
    """A certificate for these names, signed by the authority."""
    made, request = Certificate(folder / f"{name}.pem", folder / f"{name}.key"), folder / "request"
    _openssl(
        *("req", *_NEW_KEY, "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"),
        *("-keyout", made.key, "-out", request),
    )
    _openssl(
        *("x509", "-req", "-in", request, "-days", "2", "-copy_extensions", "copyall"),
        *("-CA", authority.file, "-CAkey", authority.key, "-CAcreateserial", "-out", made.file),
    )
    return made


def _openssl(*arguments: str | Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl to make a certificate with")
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True)
