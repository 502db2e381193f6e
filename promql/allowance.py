"""A token bucket for each tenant: how much it may use of something that comes back with time."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_MAX_TENANTS: Final = 10_000


@dataclass(slots=True)
class Allowance:
    """`a_second` comes back each second, up to `most`, which is also the most a tenant can owe.

    The tenants that used something last are remembered, 10,000 of them. For one event loop.
    """

    a_second: float
    most: float
    now_seconds: Callable[[], float] = time.monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    """What was left of each tenant's, and when (`now_seconds`), by when it was last used."""

    def left(self, tenant: str) -> float:
        """What the tenant may use now; negative if it owes something."""
        left, at = self._left.get(tenant, (self.most, 0.0))
        return min(self.most, left + (self.now_seconds() - at) * self.a_second)

    def use(self, tenant: str, amount: float) -> None:
        """Subtract an amount, even if that much is not left."""
        self._left[tenant] = max(-self.most, self.left(tenant) - amount), self.now_seconds()
        self._left.move_to_end(tenant)
        if len(self._left) > _MAX_TENANTS:
            self._left.popitem(last=False)

    def take(self, tenant: str, amount: float) -> bool:
        """Use an amount if that much is left; returns whether it was."""
        is_left = amount <= self.left(tenant)
        if is_left:
            self.use(tenant, amount)
        return is_left
