"""How the settings let others reach the service.

It imports little, because the parent of workers needs it.
"""

import ipaddress
import socket
from dataclasses import dataclass, field

from promcompat.configuration.settings import Settings
from promcompat.configuration.text import env_name
from promcompat.configuration.types import split_listen_address
from promcompat.http.listening import ListenError
from promcompat.http.tls import TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAddress:
    """Where a service is reached: by people at `external_url`, by itself at `own_url`.

    Its requests to itself have `own_secret`.
    """

    external_url: str
    own_url: str = ""
    own_secret: str = field(default="", repr=False)


def tls_files(settings: Settings) -> TlsFiles | None:
    """Where the certificates of the HTTP server are; None for plain HTTP."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return TlsFiles(
        certificate=settings.tls_cert_file,
        key=settings.tls_key_file,
        client_authorities=settings.tls_client_ca_file,
        client_auth=settings.tls_client_auth,
        min_version=settings.tls_min_version,
    )


def check_listening(settings: Settings, bound: socket.socket) -> None:
    """Raises ListenError where strangers could reach what asks nobody for a credential."""
    if settings.access == "off" and not _is_loopback(bound.getsockname()[0]):
        _check_open_access(settings)
    for name in ("graphite_listen", "statsd_listen"):
        listen = getattr(settings, name)
        if listen is not None and not settings.allow_unauthenticated:
            _check_line_listener(env_name(name), listen)


def _check_open_access(settings: Settings) -> None:
    reach = f"refusing to listen on {settings.listen}: other machines can reach it"
    if settings.tenancy == "header":
        raise ListenError(
            f"{reach}, and any of them could name any tenant; set PROMCOMPAT_ACCESS=tokens, or "
            "PROMCOMPAT_ACCESS=gateway if only a gateway reaches this address, which checks "
            "callers and sets the tenant itself"
        )
    if not settings.allow_unauthenticated:
        raise ListenError(
            f"{reach}, and access is off, so they could read and change everything; set "
            "PROMCOMPAT_ACCESS=tokens and make a token (promcompat token create), listen on "
            "127.0.0.1, or set PROMCOMPAT_ALLOW_UNAUTHENTICATED=true where only trusted machines "
            "reach it"
        )


def _check_line_listener(name: str, listen: str) -> None:
    host, port = split_listen_address(listen)
    try:
        found = socket.getaddrinfo(host, port, flags=socket.AI_PASSIVE)
    except OSError:
        return  # Listening will fail, and say why.
    if not all(_is_loopback(str(address[0])) for *_, address in found):
        raise ListenError(
            f"refusing to listen on {name} {listen}: other machines can reach it, and these "
            "protocols have no credentials; listen on 127.0.0.1, or set "
            "PROMCOMPAT_ALLOW_UNAUTHENTICATED=true where only trusted machines reach it"
        )


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
