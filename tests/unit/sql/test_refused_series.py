"""Series that a limit refused are remembered for a while."""

from promcompat.core.tenant_limits import TenantLimits
from sql.series.refused_series import RefusedSeries

LIMITS = TenantLimits(max_global_series_per_user=1)


def test_a_refusal_is_remembered_until_the_limits_change_or_a_minute_has_passed() -> None:
    now = 100.0
    refused = RefusedSeries(lambda: now)
    refused.add("a", LIMITS, {b"1": "x", b"2": "y"})
    assert refused.find("a", LIMITS, [b"1", b"2", b"3"]) == {b"1": "x", b"2": "y"}
    assert refused.find("b", LIMITS, [b"1"]) == {}
    assert [hash(key) in refused.hashes("a", LIMITS) for key in (b"1", b"3")] == [True, False]
    assert not refused.hashes("b", LIMITS)
    now += 31
    refused.add("a", LIMITS, {b"3": "x"})
    assert refused.find("a", LIMITS, [b"1", b"3"]) == {b"1": "x", b"3": "x"}
    now += 31
    assert refused.find("a", LIMITS, [b"1", b"3"]) == {b"3": "x"}
    raised = TenantLimits(max_global_series_per_user=9)
    assert refused.find("a", raised, [b"3"]) == {}
    refused.add("a", raised, {b"4": "x"})
    refused.forget()
    assert refused.find("a", raised, [b"4"]) == {}
