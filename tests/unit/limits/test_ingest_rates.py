"""The token buckets of tenants."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.errors import (
    BadDataError,
    OverloadedError,
    PromcompatError,
    QueryTimeoutError,
    RateLimitedError,
    WriteRejectedError,
)
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits
from promcompat.limits.ingest_rates import IngestRates, RequestAllowance


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def rates(rate: int, burst: int, clock: Clock) -> IngestRates:
    limits = Limits(SameLimits(TenantLimits(ingestion_rate=rate, ingestion_burst_size=burst)))
    return IngestRates(limits, clock, jitter=lambda: 1.0)


def take(request: RequestAllowance, n_items: int) -> None:
    with request.admitted(n_items):
        pass


@given(
    rate=st.integers(1, 100),
    burst=st.integers(1, 500),
    asks=st.lists(st.tuples(st.integers(1, 600), st.floats(0, 20)), max_size=40),
)
def test_no_more_is_admitted_than_the_burst_and_the_rate_since(
    rate: int, burst: int, asks: list[tuple[int, float]]
) -> None:
    clock, n_admitted = Clock(), 0
    limited = rates(rate, burst, clock)
    for n_items, pause in asks:
        try:
            limited.take("t", n_items)
        except (RateLimitedError, BadDataError):
            pass
        else:
            n_admitted += n_items
        assert n_admitted <= burst + rate * (clock.seconds - 100.0) + 1e-6
        clock.seconds += pause


@given(rate=st.integers(1, 100), burst=st.integers(1, 500), data=st.data())
def test_what_is_refused_for_the_rate_is_admitted_after_the_wait(
    rate: int, burst: int, data: st.DataObject
) -> None:
    clock = Clock()
    limited = rates(rate, burst, clock)
    limited.take("t", data.draw(st.integers(1, burst)))
    n_items = data.draw(st.integers(1, burst))
    refusal: RateLimitedError | None = None
    try:
        limited.take("t", n_items)
    except RateLimitedError as exc:
        refusal = exc
    if refusal is not None:
        assert 1 <= refusal.retry_after_seconds <= 60
        clock.seconds += burst / rate + 1e-6
        limited.take("t", n_items)


def test_the_rest_of_a_request_is_owed() -> None:
    clock = Clock()
    limited = rates(10, 100, clock)
    limited.take("t", 60)
    request = limited.request("t")
    take(request, 30)
    take(request, 60)
    with pytest.raises(RateLimitedError):
        limited.check("t")
    with pytest.raises(BadDataError, match="burst size limit of 100: it has 101 or more"):
        take(request, 11)
    clock.seconds += 6
    limited.check("t")
    limited.check("another")


@given(
    rate=st.integers(1, 100),
    burst=st.integers(1, 500),
    asks=st.lists(st.lists(st.integers(1, 300), min_size=3, max_size=3), max_size=40),
)
def test_processes_together_admit_the_rate(rate: int, burst: int, asks: list[list[int]]) -> None:
    clock, n_admitted = Clock(), 0
    processes = {uuid4(): rates(rate, burst, clock) for _ in range(3)}

    def exchange() -> None:
        for own, limited in processes.items():
            reports = {key: other.report() for key, other in processes.items() if key != own}
            limited.learn(reports)

    exchange()
    for asked in asks:
        for limited, n_items in zip(processes.values(), asked, strict=True):
            with suppress(RateLimitedError, BadDataError):
                limited.take("t", n_items)
                n_admitted += n_items
        exchange()
        assert n_admitted <= 3 * burst + rate * (clock.seconds - 100.0) + 1e-6
        clock.seconds += 1.0


@given(burst=st.integers(1, 500), used=st.integers(0, 500), n_items=st.integers(1, 600))
def test_what_is_refused_before_it_is_decoded_could_not_be_taken(
    burst: int, used: int, n_items: int
) -> None:
    limited = rates(10, burst, Clock())
    limited.take("t", min(used, burst))
    n_before = limited.room("t")
    is_refused = False
    try:
        limited.check("t", n_items)
    except RateLimitedError:
        is_refused = True
    if n_items <= burst:
        assert is_refused == (n_items > n_before)
    if is_refused:
        with pytest.raises((RateLimitedError, BadDataError)):
            limited.take("t", n_items)


def test_waits_that_are_cut_still_differ() -> None:
    limits = Limits(SameLimits(TenantLimits(ingestion_rate=1, ingestion_burst_size=1000)))
    waits = []
    for jitter in (0.0, 0.5, 1.0):
        limited = IngestRates(limits, Clock(), jitter=lambda given=jitter: given)
        limited.take("t", 1000)
        with pytest.raises(RateLimitedError) as caught:
            limited.take("t", 1000)
        waits.append(caught.value.retry_after_seconds)
    assert waits == [40, 50, 60]


@pytest.mark.parametrize(
    "error",
    [
        OverloadedError("full"),
        QueryTimeoutError("slow"),
        asyncio.CancelledError(),
        PromcompatError("a 500"),
        RuntimeError("a fault of the service"),
    ],
)
def test_what_could_not_be_stored_is_given_back(error: BaseException) -> None:
    limited = rates(10, 100, Clock())
    for _ in range(3):
        request = limited.request("t")
        with pytest.raises(type(error)), request.admitted(100):
            raise error
    with pytest.raises(WriteRejectedError), limited.admitted("t", 100):
        raise WriteRejectedError("stored in part")
    with pytest.raises(RateLimitedError):
        limited.check("t")


def test_without_a_rate_everything_is_admitted() -> None:
    limited = rates(0, 1, Clock())
    limited.take("t", 1_000_000)
    limited.check("t")
