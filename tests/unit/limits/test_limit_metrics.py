"""What limits refuse, as metrics."""

import math

import pytest
from prometheus_client import CollectorRegistry

from promcompat.telemetry import limits
from promcompat.telemetry.limits import LimitMetrics


@pytest.mark.parametrize(
    ("is_shared", "gone"), [(False, None), (True, pytest.approx(math.nan, nan_ok=True))]
)
def test_overrides_that_are_gone_are_not_shown(is_shared: bool, gone: object) -> None:
    registry = CollectorRegistry()
    metrics = LimitMetrics(registry, is_shared=is_shared)

    def shown(tenant: str) -> float | None:
        labels = {"limit_name": "weight", "tenant": tenant}
        return registry.get_sample_value("promcompat_limits_overrides", labels)

    metrics.show({"a": {"weight": 2}, "b": {"weight": 3}}, file_is_good=True)
    assert (shown("a"), shown("b")) == (2, 3)
    metrics.show({"b": {"weight": 4}}, file_is_good=False)
    assert (shown("a"), shown("b")) == (gone, 4)
    assert registry.get_sample_value("promcompat_limits_file_last_reload_successful") == 0


def test_the_number_of_tenants_is_bounded() -> None:
    registry = CollectorRegistry()
    metrics = LimitMetrics(registry, is_shared=False)
    most = limits._MAX_TENANTS
    for number in range(most + 5):
        metrics.count(str(number), "max_rules")
    labels = {"tenant": "(others)", "reason": "max_rules"}
    assert registry.get_sample_value("promcompat_refused_requests_total", labels) == 5
