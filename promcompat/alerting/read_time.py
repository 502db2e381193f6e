"""What the rules of a group share about the time at which the database was asked."""

import time
from typing import Final

_SHARED_SECONDS: Final = 1.0
"""How long the rules of a group share what the store asked the database for one of them."""


class ReadTime:
    """The time of `time.monotonic` before which everything stored is seen by the rules of a group.

    A rule sees what the rules before it wrote, so whoever writes renews it.
    """

    def __init__(self) -> None:
        self._asked_at = time.monotonic()

    def renew(self) -> None:
        """Let the next rule see what was just written."""
        self._asked_at = time.monotonic()

    @property
    def asked_at(self) -> float:
        """As `Query.asked_at`."""
        if time.monotonic() - self._asked_at > _SHARED_SECONDS:
            self.renew()
        return self._asked_at
