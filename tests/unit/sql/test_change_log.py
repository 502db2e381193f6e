"""What a cache learns of changes: never less than there were."""

from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.ports import ALL_TIME
from sql.caching.change_log import ChangeLog, ChangeLogState

MINUTE = 60_000
HOUR = 60 * MINUTE
TENANT = 1


def covers(ranges: list[tuple[int, int]], time_ms: int) -> bool:
    return any(first <= time_ms <= last for first, last in ranges)


def changed(log: ChangeLog, first_ms: int, last_ms: int, tenant_id: int = TENANT) -> int:
    """Note a change; returns the version before it."""
    before = log.version
    log.advance()
    log.add(tenant_id, first_ms, last_ms)
    return before


def test_a_change_is_seen_by_earlier_versions_only() -> None:
    log = ChangeLog()
    before = changed(log, 10 * HOUR, 10 * HOUR + 5)
    [(first_ms, last_ms)] = log.since(TENANT, before)
    assert first_ms <= 10 * HOUR < 10 * HOUR + 5 <= last_ms
    assert last_ms - first_ms < MINUTE
    assert log.since(TENANT, log.version) == []


def test_a_change_is_of_one_tenant() -> None:
    log = ChangeLog()
    before = changed(log, 0, 1)
    assert log.since(TENANT + 1, before) == []


def test_what_was_forgotten_makes_everything_stale() -> None:
    log = ChangeLog()
    before = log.version
    log.forget()
    assert log.since(TENANT, before) == [ALL_TIME]
    assert log.since(TENANT, log.version) == []


def test_old_changes_are_forgotten_when_there_are_too_many() -> None:
    log = ChangeLog()
    first = changed(log, 0, 1)
    for number in range(1, 20_000):
        changed(log, number * HOUR, number * HOUR)
    late = log.version
    before_last = changed(log, 5 * HOUR, 5 * HOUR)
    assert log.since(TENANT, first) == [ALL_TIME]
    assert len(log.since(TENANT, before_last)) == 1
    assert covers(log.since(TENANT, late), 5 * HOUR)


def test_bounds_of_everything_are_a_change_of_everything() -> None:
    log = ChangeLog()
    before = changed(log, -(1 << 63), (1 << 63) - 1)
    ranges = log.since(TENANT, before)
    assert covers(ranges, ALL_TIME[0])
    assert covers(ranges, ALL_TIME[1])


TIMES = st.one_of(st.integers(-3 * HOUR, 3 * HOUR), st.integers(*ALL_TIME))


@given(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=20), st.data())
def test_no_change_is_missed(changes: list[tuple[int, int]], data: st.DataObject) -> None:
    log = ChangeLog()
    versions = []
    bounds = [(min(pair), max(pair)) for pair in changes]
    for first_ms, last_ms in bounds:
        versions.append(changed(log, first_ms, last_ms))
    index = data.draw(st.integers(0, len(versions) - 1))
    ranges = log.since(TENANT, versions[index])
    assert ranges == sorted(ranges)
    for first_ms, last_ms in bounds[index:]:
        assert covers(ranges, first_ms)
        assert covers(ranges, last_ms)


def test_answers_about_another_tenant_of_the_name_are_stale() -> None:
    """One that is gone, or was made anew, after the database stepped back."""
    log = ChangeLog()
    states = [ChangeLogState(log, tenant_id, log.version) for tenant_id in (None, TENANT, 2)]
    for state in states:
        for earlier in states:
            expected = [] if state is earlier else [ALL_TIME]
            assert list(state.changed_since(earlier)) == expected
