"""Why another server cannot be reached, in words for people."""

import os
import socket
import ssl
from typing import Final

_CAUSES: Final = ("os_error", "certificate_error", "reason")
"""Where aiohttp and urllib have the error of the system that theirs stands for."""


def connection_fault(error: Exception) -> str:
    """What is wrong, without the address, which the caller knows: `connection refused`.

    The texts of the libraries repeat the address in forms of their own.
    """
    causes = (getattr(error, name, None) for name in _CAUSES)
    cause = next((found for found in causes if isinstance(found, Exception)), error)
    match cause:
        case ssl.SSLError():
            return str(cause)
        case socket.gaierror(strerror=str(text)):
            return text.lower()
        # Only errors of the system have numbers of the system.
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
        case TimeoutError():
            return "no answer in time"
        case _:
            return str(cause) or type(cause).__name__
