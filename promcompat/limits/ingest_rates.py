"""How fast tenants may write: a token bucket for each tenant of a process."""

import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from promcompat.core.errors import BadDataError, RateLimitedError
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.limits.token_buckets import TokenBuckets

_LONGEST_SECONDS: Final = 60
"""Prometheus waits as long as it is told, so it must not be told more."""
_JITTER: Final = 0.5


class IngestRates:
    """Admits the samples of requests, at the rate that their tenant may write.

    A tenant writes `ingestion_rate` samples a second on average, and `ingestion_burst_size` at
    once. Every process has the whole rate, so that a sender with one connection gets it, and takes
    off what the others report: all of them together admit the rate, and for a second as many bursts
    as there are processes.
    """

    def __init__(
        self,
        limits: Limits,
        now_seconds: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._limits = limits
        self._jitter = jitter
        self._buckets = TokenBuckets(self._rate_of, now_seconds)
        self._reported: Mapping[UUID, Mapping[str, int]] = {}

    def request(self, tenant: str) -> "RequestAllowance":
        """What one request may take, piece by piece."""
        return RequestAllowance(self, tenant)

    def check(self, tenant: str, n_items: int = 1) -> None:
        """Raises RateLimitedError while the tenant may not write so many: before they are decoded.

        More than a burst may have is left to `take`, as some may turn out not to be valid.
        """
        limits = self._limits.of(tenant)
        rate, n_needed = limits.ingestion_rate, n_items
        if n_items > limits.ingestion_burst_size:
            n_needed = 1
        if rate and (bucket := self._buckets.of(tenant)).tokens < n_needed:
            raise self._too_fast(tenant, n_items, (n_needed - bucket.tokens) / rate)

    def room(self, tenant: str) -> int:
        """How many items `check` accepts now."""
        limits = self._limits.of(tenant)
        rate, burst = limits.ingestion_rate, limits.ingestion_burst_size
        if not rate or (tokens := self._buckets.of(tenant).tokens) >= burst:
            return sys.maxsize
        return math.floor(tokens)

    def take(self, tenant: str, n_items: int, n_before: int = 0) -> None:
        """Take so many items of a request, of which `n_before` have been admitted before.

        Raises BadDataError when the request has more than a burst may have, and RateLimitedError
        when the tenant wrote too much lately. The rest of a request that was begun is admitted, and
        owed: senders repeat whole requests, which would never get through otherwise.
        """
        limits = self._limits.of(tenant)
        rate, burst = limits.ingestion_rate, limits.ingestion_burst_size
        if not rate or not n_items:
            return
        if n_before + n_items > burst:
            detail = f": it has {n_before + n_items} or more"
            raise BadDataError(self._limits.refuse(tenant, "ingestion_burst_size", detail, n_items))
        bucket = self._buckets.of(tenant)
        if not n_before and bucket.tokens < n_items:
            raise self._too_fast(tenant, n_items, (n_items - bucket.tokens) / rate)
        bucket.tokens -= n_items
        bucket.n_taken += n_items

    def report(self) -> dict[str, int]:
        """What this process has admitted, of each tenant that has a rate and wrote something."""
        return {tenant: bucket.n_taken for tenant, bucket in self._buckets if bucket.n_taken}

    def learn(self, reports: Mapping[UUID, Mapping[str, int]]) -> None:
        """Take off what other processes have admitted since they reported the last time.

        The first report of a process says nothing about when that was. No tenant owes more than it
        may write in `_LONGEST_SECONDS`.
        """
        known = self._reported
        for process, admitted in reports.items():
            for tenant, number in admitted.items():
                before = known.get(process, {}).get(tenant, number if process not in known else 0)
                # Most tenants of most processes have written nothing since.
                if number > before and (rate := self._limits.of(tenant).ingestion_rate):
                    bucket = self._buckets.of(tenant)
                    left = bucket.tokens - (number - before)
                    bucket.tokens = max(left, -float(rate * _LONGEST_SECONDS))
        self._reported = reports

    @contextmanager
    def admitted(self, tenant: str, n_items: int, n_before: int = 0) -> Iterator[None]:
        """Take items for a block that stores them; see `given_back_unless_stored`.

        Raises as `take`.
        """
        self.take(tenant, n_items, n_before)
        with self.given_back_unless_stored(tenant, lambda: n_items):
            yield

    @contextmanager
    def given_back_unless_stored(self, tenant: str, n_taken: Callable[[], int]) -> Iterator[None]:
        """Give items back when the block ends with an error after which senders repeat the write.

        That is any but BadDataError, after which the valid ones are stored. Otherwise those who
        repeat a write while it fails would become too fast, and senders drop what is too fast.
        """
        try:
            yield
        except BadDataError:
            raise
        except BaseException:
            self.give_back(tenant, n_taken())
            raise

    def give_back(self, tenant: str, n_items: int) -> None:
        """Items that were taken have not been stored."""
        bucket, burst = self._buckets.of(tenant), self._limits.of(tenant).ingestion_burst_size
        bucket.n_taken = max(0, bucket.n_taken - n_items)
        bucket.tokens = min(bucket.tokens + n_items, float(burst))

    def portion(self, tenant: str, n_items: int) -> int:
        """How many of so many items can be taken at once."""
        limits = self._limits.of(tenant)
        return min(n_items, limits.ingestion_burst_size) if limits.ingestion_rate else n_items

    def wait_seconds(self, tenant: str, n_items: int) -> float:
        """How long it takes until so many items, at most a portion, can be taken."""
        rate = self._limits.of(tenant).ingestion_rate
        if not rate:
            return 0.0
        return max(0.0, (n_items - self._buckets.of(tenant).tokens) / rate)

    def _rate_of(self, tenant: str) -> tuple[float, float]:
        limits = self._limits.of(tenant)
        return limits.ingestion_rate, float(limits.ingestion_burst_size)

    def _too_fast(self, tenant: str, n_items: int, wait_seconds: float) -> RateLimitedError:
        """The error, with the time until the bucket has enough, and up to a half more.

        A wait that would be too long is cut before the half is added: many senders that were told
        the same would all come back at the same time.
        """
        seconds = min(wait_seconds, _LONGEST_SECONDS / (1 + _JITTER))
        seconds *= 1 + _JITTER * self._jitter()
        detail = f" with a maximum burst of {self._limits.of(tenant).ingestion_burst_size}"
        return RateLimitedError(
            self._limits.refuse(tenant, "ingestion_rate", detail, n_items),
            min(_LONGEST_SECONDS, max(1, math.ceil(seconds))),
        )


class RequestAllowance:
    """Takes the pieces of one request."""

    __slots__ = ("_n_taken", "_rates", "_tenant")

    def __init__(self, rates: IngestRates, tenant: str) -> None:
        self._rates = rates
        self._tenant = tenant
        self._n_taken = 0

    @contextmanager
    def admitted(self, n_items: int) -> Iterator[None]:
        """Take the items of the next piece. See `IngestRates.admitted`."""
        with self._rates.admitted(self._tenant, n_items, self._n_taken):
            self._n_taken += n_items
            yield
