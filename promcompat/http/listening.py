"""The socket that the service listens on, and its address."""

import errno
import socket

from promcompat.core.errors import PromcompatError


class ListenError(PromcompatError):
    """The address cannot be used; the message says why."""


def bind_socket(host: str, port: int, *, share_port: bool = False) -> socket.socket:
    """A bound TCP socket that does not listen yet.

    `share_port` lets several processes of one user listen on the port (SO_REUSEPORT); it must be
    set in all of them. Raises ListenError.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as exc:
        raise ListenError(listen_fault(host, port, exc)) from exc
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as exc:
        bound.close()
        raise ListenError(listen_fault(host, port, exc)) from exc
    return bound


def listen_fault(host: str, port: int, exc: OSError | UnicodeError) -> str:
    """What to say when an address cannot be listened on."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"cannot listen on {place}: {_reason(exc)}"


def _reason(exc: OSError | UnicodeError) -> str:
    match exc:
        case socket.gaierror() | UnicodeError():
            return "its host name cannot be resolved"
        case OSError(errno=errno.EADDRINUSE):
            return "the port is already in use"
        case OSError(errno=errno.EADDRNOTAVAIL):
            return "this machine does not have this address; see ip address"
        case OSError(errno=errno.EACCES):
            return (
                "a port below 1024 needs root or CAP_NET_BIND_SERVICE; use a higher one, or a proxy"
            )
        case OSError(strerror=str(text)):
            return text
        case OSError(__cause__=OSError() as cause):
            # uvloop reports faults of UDP only there.
            return _reason(cause)
        case _:
            return str(exc)


def base_url(bound: socket.socket, *, is_tls: bool) -> str:
    """The address a person can open here; localhost for a socket on every interface."""
    return _url_of(bound, "127.0.0.1", is_tls)


def default_external_url(bound: socket.socket, *, is_tls: bool) -> str:
    """The address under which others reach the service; for every interface, the machine's name.

    Computed like Prometheus' default external URL.
    """
    return _url_of(bound, socket.gethostname(), is_tls)


def _url_of(bound: socket.socket, any_host: str, is_tls: bool) -> str:
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = any_host
    scheme = "https" if is_tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
