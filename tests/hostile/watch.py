"""`python -m tests.hostile.watch URL`: asks for `/-/healthy` all the time, prints how long it took.

A process of its own, so that what the test does with its own time is not measured. A line for each
answer: when it was asked for and how many seconds it took, both on the monotonic clock.
"""

import http.client
import sys
import time
from urllib.parse import urlsplit

_PAUSE_SECONDS = 0.01
_TIMEOUT_SECONDS = 30.0


def main(url: str) -> None:
    """Ask until killed, or until nobody reads any more."""
    address = urlsplit(url).netloc
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)
    while True:
        started = time.monotonic()
        try:
            connection.request("GET", "/-/healthy")
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            connection.close()  # Most often it was the idle one that made room for another.
        else:
            sys.stdout.write(f"{started} {time.monotonic() - started}\n")
            sys.stdout.flush()
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
