"""Which retention class a metric has, and when it changes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.draining.class_moves import OF_TENANT, ClassChange, changes_between
from sql.samples.tables.retention_classes import (
    DEFAULT_CLASS,
    FOREVER,
    NO_CLASSES,
    TenantClasses,
    class_for,
    days_of_class,
)
from sql.samples.tables.slots import FAR_SLOT, class_of_slot, day_of_slot, slot_of, slots_between

days = st.one_of(st.just(FOREVER), st.integers(1, 4_000))
DAY_MS = 86_400_000


@given(days, days)
def test_a_class_keeps_samples_as_long_as_its_metrics(kept: int, default: int) -> None:
    on_disk = days_of_class(class_for(kept, default), default)
    assert on_disk == FOREVER or kept != FOREVER
    assert on_disk == FOREVER or on_disk >= kept


@given(days, days)
def test_no_class_with_a_shorter_time_would_do(kept: int, default: int) -> None:
    on_disk = days_of_class(class_for(kept, default), default)
    for other in range(6):
        of_other = days_of_class(other, default)
        is_enough = of_other == FOREVER or (kept != FOREVER and of_other >= kept)
        if is_enough and of_other != FOREVER:
            assert on_disk != FOREVER
            assert on_disk <= of_other


@given(days)
def test_what_is_kept_as_long_as_the_service_keeps_samples_has_the_default_class(
    default: int,
) -> None:
    assert class_for(default, default) == DEFAULT_CLASS


@given(st.integers(-719_162, 2_932_896), st.integers(0, 7))
def test_a_slot_says_its_day_and_class(day: int, retention_class: int) -> None:
    slot = slot_of(day, retention_class)
    assert (day_of_slot(slot), class_of_slot(slot)) == (day, retention_class)
    assert slot > FAR_SLOT
    first, last = slots_between(day * DAY_MS, (day + 1) * DAY_MS - 1)
    assert first <= slot <= last
    assert (day_of_slot(first), day_of_slot(last)) == (day, day)


def test_the_slots_of_all_times_fit_a_column() -> None:
    first, last = slots_between(-(1 << 62), 1 << 62)
    assert FAR_SLOT < first < last < 2**31


def test_samples_are_divided_by_the_class_of_their_series() -> None:
    samples = SeriesSamples(
        np.array([1, 2, 3]), np.array([0, 2, 3, 5]), np.arange(5), np.arange(5.0)
    )
    assert [one for one, _ in NO_CLASSES.by_class(samples)] == [DEFAULT_CLASS]
    classes = TenantClasses(4, np.array([2, 9]), np.array([1, 2]))
    found = {one: some.timestamps.tolist() for one, some in classes.by_class(samples)}
    assert found == {1: [2], 4: [0, 1, 3, 4]}


class TestChanges:
    """A key is a tenant and a metric; the empty metric stands for all others of the tenant."""

    TENANT, METRIC = (1, OF_TENANT), (1, "m")

    def test_nothing_changes_where_everything_fits(self) -> None:
        assert list(changes_between({}, {}, set())) == []
        assert list(changes_between({self.METRIC: 2}, {self.METRIC: 2}, set())) == []

    def test_a_metric_gets_a_class_of_its_own_before_its_tenant_changes(self) -> None:
        found = list(changes_between({self.TENANT: 4, self.METRIC: 0}, {}, set()))
        assert found == [
            ClassChange(self.METRIC, 0, is_moved=False),
            ClassChange(self.TENANT, 4, is_moved=True),
        ]

    def test_a_metric_without_a_retention_goes_to_its_tenant(self) -> None:
        assigned = {self.TENANT: 4, self.METRIC: 1}
        found = list(changes_between({self.TENANT: 4}, assigned, set()))
        assert found == [ClassChange(self.METRIC, 4, is_moved=True)]
        assigned[self.METRIC] = 4
        found = list(changes_between({self.TENANT: 4}, assigned, set()))
        assert found == [ClassChange(self.METRIC, None, is_moved=False)]

    def test_what_is_being_moved_waits(self) -> None:
        wanted, assigned = {self.TENANT: 4, self.METRIC: 1}, {self.TENANT: 2, self.METRIC: 3}
        assert list(changes_between(wanted, assigned, {self.METRIC})) == [
            ClassChange(self.TENANT, 4, is_moved=True)
        ]
        assert list(changes_between(wanted, assigned, {self.TENANT})) == []
