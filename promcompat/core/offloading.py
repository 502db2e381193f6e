"""Work on the event loop while it is short, and in a thread when it would delay other requests."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_INLINE_ITEMS: Final = 20
"""At 20 to 50 µs each, so many alerts take a millisecond. A thread costs a tenth of that, and more
where it has to wait for the interpreter."""


async def in_thread_if(
    is_long: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function, in a thread if that takes long; returns its result."""
    if is_long:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


async def offload(n_items: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that works on `n_items` alerts, rules or targets; returns its result."""
    return await in_thread_if(n_items > _INLINE_ITEMS, function, *args, **kwargs)
