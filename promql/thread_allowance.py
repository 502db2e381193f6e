"""How much each tenant may evaluate in threads of this process while others have queries.

What is evaluated in a process of low priority waits there behind the long queries of others. A
tenant that asks little must not, and costs the event loop little: to send samples to a process and
its answer back takes this one 0.3 to 0.8 of the time of evaluating them.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

CELLS_A_SECOND: Final = 4_000_000
"""A tenth of a core, where a cell takes 20 to 50 ns."""
MOST_CELLS: Final = 5 * CELLS_A_SECOND
"""What a tenant that asked nothing for some seconds may evaluate at once."""
_MAX_TENANTS: Final = 10_000


class ThreadAllowance:
    """A token bucket for each tenant; the tokens are cells of the grid of steps."""

    def __init__(self, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._now_seconds = now_seconds
        self._left = OrderedDict[str, tuple[float, float]]()
        """Tokens that were left, and when; by when they were taken last."""

    def take(self, tenant: str, n_cells: float) -> bool:
        """Whether the tenant may evaluate so much in a thread now, which then counts."""
        now = self._now_seconds()
        left, at = self._left.get(tenant, (MOST_CELLS, now))
        left = min(MOST_CELLS, left + (now - at) * CELLS_A_SECOND)
        if n_cells > left:
            return False
        self._left[tenant] = left - n_cells, now
        self._left.move_to_end(tenant)
        if len(self._left) > _MAX_TENANTS:
            self._left.popitem(last=False)
        return True
