"""Series that a limit refused are remembered for a while."""

import numpy as np

from promcompat.core.limits.tenant_limits import TenantLimits
from promcompat.core.model import FIRST_REFUSED, UNKNOWN_SERIES
from promcompat.core.series_table import KnownSeries, PendingKeys, SeriesTableBuilder
from sql.series.refused_series import RefusedSeries, refused_rows

LIMITS = TenantLimits(max_global_series_per_user=1)
OF_USER, OF_METRIC = "max_global_series_per_user", "max_global_series_per_metric"


def test_a_refusal_is_remembered_until_the_limits_change_or_a_minute_has_passed() -> None:
    now = 100.0
    refused = RefusedSeries(lambda: now)
    refused.add("a", LIMITS, {b"1": OF_USER, b"2": OF_METRIC})
    assert refused.find("a", LIMITS, [b"1", b"2", b"3"]) == {b"1": OF_USER, b"2": OF_METRIC}
    assert refused.find("b", LIMITS, [b"1"]) == {}
    now += 31
    refused.add("a", LIMITS, {b"3": OF_USER})
    assert refused.find("a", LIMITS, [b"1", b"3"]) == {b"1": OF_USER, b"3": OF_USER}
    now += 31
    assert refused.find("a", LIMITS, [b"1", b"3"]) == {b"3": OF_USER}
    raised = TenantLimits(max_global_series_per_user=9)
    assert refused.find("a", raised, [b"3"]) == {}
    refused.add("a", raised, {b"4": OF_USER})
    assert refused.find("a", raised, [b"4"]) == {b"4": OF_USER}
    now += 1000
    assert refused.find("a", raised, [b"4"]) == {}
    refused.add("a", raised, {b"4": OF_USER})
    refused.forget()
    assert refused.find("a", raised, [b"4"]) == {}


def test_decoders_find_what_was_refused_by_the_bytes_of_the_labels() -> None:
    refused = RefusedSeries()
    refused.add("b", LIMITS, {b"abc": OF_USER})
    refused.add("a", LIMITS, {b"abc": OF_METRIC, b"de": OF_USER})
    parts = refused.of("a", LIMITS)
    known = KnownSeries(SeriesTableBuilder(1 << 10).table, 7, PendingKeys({b"x": 5}), 0, parts)
    by_user, by_metric = FIRST_REFUSED, FIRST_REFUSED - 1
    expected = [by_metric, 5, UNKNOWN_SERIES, by_user]
    assert known.find([b"abc", b"x", b"ab", b"de"]).tolist() == expected
    message = np.frombuffer(b"..abc.de", np.uint8)
    found = known.find_refused(message, np.array([[2, 5], [2, 4], [6, 8]]))
    assert found.tolist() == [by_metric, UNKNOWN_SERIES, by_user]
    ids = np.array([3, by_user, by_metric, by_user, UNKNOWN_SERIES])
    assert refused_rows(ids) == {OF_USER: 2, OF_METRIC: 1}
