"""How long tests play, as long as one has time: `TEST_LENGTH=20 pytest tests/properties`."""

import os

LENGTH = int(os.environ.get("TEST_LENGTH", "1"))
"""A multiple of what `make test` takes."""


def examples(n: int) -> int:
    """How many examples, of so many in `make test`."""
    return n * LENGTH


def stride(n: int) -> int:
    """At every how many-th statement something is killed, of every `n`-th in `make test`."""
    return max(1, n // LENGTH)
