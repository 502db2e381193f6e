"""What is used comes back with time, and is each tenant's own."""

from promcompat.core.limits.token_buckets import TokenBuckets


def test_tokens_come_back_with_time_up_to_the_burst() -> None:
    now = [100.0]
    buckets = TokenBuckets(lambda _: (10, 50), lambda: now[0])
    assert buckets.of("a").tokens == 50
    buckets.of("a").tokens -= 80
    assert buckets.of("b").tokens == 50
    now[0] += 5
    assert buckets.of("a").tokens == 20
    now[0] += 3600
    assert buckets.of("a").tokens == 50


def test_each_tenant_has_its_rate_at_this_time() -> None:
    now, rates = [0.0], {"a": (1.0, 10.0), "b": (2.0, 20.0)}
    buckets = TokenBuckets(lambda tenant: rates[tenant], lambda: now[0])
    for tenant in rates:
        buckets.of(tenant).tokens = 0
    now[0] += 5
    assert (buckets.of("a").tokens, buckets.of("b").tokens) == (5, 10)
    rates["b"] = 1.0, 4.0
    assert buckets.of("b").tokens == 4


def test_tenants_that_asked_longest_ago_are_forgotten() -> None:
    buckets = TokenBuckets(lambda _: (1, 10), lambda: 0.0, max_tenants=2)
    for tenant in ("a", "b", "a", "c"):
        buckets.of(tenant).tokens -= 1
    assert [tenant for tenant, _ in buckets] == ["a", "c"]
    assert (buckets.of("a").tokens, buckets.of("b").tokens) == (8, 10)
