"""Importing what a command needs only once it runs."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage within the block, which only imports modules.

    They make a million objects and no garbage. Looking through them for it, again and again, took a
    quarter of the time that the modules of `promcompat serve` take to import. What they have made
    stays, so later collections do not look at it either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
