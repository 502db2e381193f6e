"""A token bucket for each tenant: how much it may use of something that comes back with time."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_MAX_TENANTS: Final = 10_000


@dataclass(slots=True)
class TokenBucket:
    """The tokens that are left; below 0 they are owed. Its users take them off.

    `n_taken` is for users that count what they took.
    """

    tokens: float
    filled_at_seconds: float
    n_taken: int = 0


class TokenBuckets:
    """The buckets of the tenants that used something last. For one event loop."""

    def __init__(
        self,
        rate_of: Callable[[str], tuple[float, float]],
        now_seconds: Callable[[], float],
        max_tenants: int = _MAX_TENANTS,
    ) -> None:
        """`rate_of` tells how many tokens a tenant gets a second, and how many it has at most."""
        self._rate_of = rate_of
        self._now_seconds = now_seconds
        self._max_tenants = max_tenants
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        """By when they were used last."""

    def of(self, tenant: str) -> TokenBucket:
        """The bucket of a tenant, filled up to now; a new one is full."""
        rate, burst = self._rate_of(tenant)
        now, bucket = self._now_seconds(), self._buckets.get(tenant)
        if bucket is None:
            if len(self._buckets) >= self._max_tenants:
                self._buckets.popitem(last=False)
            bucket = self._buckets[tenant] = TokenBucket(burst, now)
        self._buckets.move_to_end(tenant)
        grown = bucket.tokens + (now - bucket.filled_at_seconds) * rate
        bucket.tokens, bucket.filled_at_seconds = min(grown, burst), now
        return bucket

    def __iter__(self) -> Iterator[tuple[str, TokenBucket]]:
        """The tenants and their buckets, as they were used last."""
        return iter(self._buckets.items())
