"""Work on the event loop while it is short, and in a thread when it would delay other requests."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_INLINE_ITEMS: Final = 20
"""At 20 to 50 µs each, so many alerts take a millisecond. A thread costs a tenth of that, and more
where it has to wait for the interpreter."""


async def offload(n_items: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that works on `n_items` alerts, rules or series; returns its result."""
    if n_items <= _INLINE_ITEMS:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)
