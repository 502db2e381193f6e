"""The certificates of the HTTP server, read from files again when these change."""

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from promcompat.core.errors import PromcompatError
from promcompat.core.file_states import FileState, state_of
from promcompat.telemetry.serving import TlsMetrics

_LOGGER = logging.getLogger(__name__)
_VERIFICATION: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


class CertificateError(PromcompatError):
    """The certificate files cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where certificates are, and what clients have to show.

    `client_auth` and `min_version` are the words of Prometheus' web.yml.
    """

    certificate: Path
    key: Path
    client_authorities: Path | None = None
    client_auth: str = "NoClientCert"
    min_version: str = "TLS12"

    def states(self) -> tuple[FileState, ...]:
        """What changes when a file does. Raises OSError."""
        paths = filter(None, (self.certificate, self.key, self.client_authorities))
        return tuple(map(state_of, paths))

    def load(self) -> ssl.SSLContext:
        """A context of the files as they are now. Raises CertificateError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self.min_version]
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.certificate, self.key, _refuse_encrypted_key)
            if self.client_authorities is not None:
                context.load_verify_locations(self.client_authorities)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError.
            raise CertificateError(f"cannot use the TLS files {self._names}: {exc}") from exc
        context.verify_mode = _VERIFICATION[self.client_auth]
        if self.client_authorities is not None:
            # A resumed session is not verified again, even if its authority is no longer trusted.
            # The sessions that TLS 1.2 knows by an id, without a ticket, end with this context.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        return context

    @property
    def _names(self) -> str:
        paths = filter(None, (self.certificate, self.key, self.client_authorities))
        return ", ".join(map(str, paths))


def _refuse_encrypted_key() -> str:
    """Called for the password of a key; otherwise OpenSSL would ask on the terminal."""
    raise ValueError("the key is encrypted; write it without a password")


class _LatestContext(ssl.SSLContext):
    """Makes each connection with the context that was loaded last.

    A context in use is never changed: loading a pair that does not match into it would leave it
    without any. Nor is a handshake handed over to another context once it has begun: it would
    resume sessions of the first one, which were verified by the authorities of then.
    """

    latest: ssl.SSLContext

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """The TLS of a new connection, as event loops ask for it."""
        return self.latest.wrap_bio(*args, **kwargs)


class ServerTls:
    """What a listening socket needs to speak TLS with the certificates of files: its `context`."""

    def __init__(
        self, files: TlsFiles, metrics: TlsMetrics, now: Callable[[], float] = time.time
    ) -> None:
        """Raises CertificateError: a service does not start without its certificate."""
        self._files = files
        self._metrics = metrics
        self._now = now
        self._states: tuple[FileState, ...] = ()
        self.context = _LatestContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.latest = files.load()
        self.refresh()

    def refresh(self) -> bool:
        """Load the files if they changed, and say whether they did.

        Raises CertificateError when they cannot be used; the last good ones stay in use, and the
        next call tries again.
        """
        try:
            found = self._files.states()
            if found == self._states:
                return False
            self.context.latest = self._files.load()
        except (OSError, CertificateError) as exc:
            self._metrics.failed()
            if isinstance(exc, CertificateError):
                raise
            raise CertificateError(f"cannot read {exc.filename}: {exc.strerror}") from exc
        is_first = not self._states
        self._states = found
        self._metrics.loaded(self._now())
        if not is_first:
            _LOGGER.info("TLS certificate loaded", extra={"file": str(self._files.certificate)})
        return True
