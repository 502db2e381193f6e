"""The shared values: label sets order and hash as Prometheus', grids count their steps."""

import numpy as np
import pytest

from promcompat.core.model import STALE_NAN_BITS, EvalRange, Labels, is_stale


def test_labels_are_sorted_by_name_and_lose_empty_values() -> None:
    labels = Labels([("job", "a"), ("__name__", "up"), ("zone", "")])
    assert labels.pairs == (("__name__", "up"), ("job", "a"))


def test_equal_label_sets_hash_alike_whatever_the_order_given() -> None:
    labels, other = Labels([("a", "1"), ("b", "2")]), Labels([("b", "2"), ("a", "1")])
    assert labels == other
    assert len({labels, other}) == 1


def test_labels_compare_pair_by_pair_then_by_length() -> None:
    a, ab, b = Labels.of({"a": "1"}), Labels.of({"a": "1", "b": "1"}), Labels.of({"b": "0"})
    assert sorted([b, ab, a]) == [a, ab, b]


def test_label_order_is_byte_order_of_utf8() -> None:
    names = ["a", "é", "\U0001f600", "￿"]
    assert sorted(names) == sorted(names, key=lambda name: name.encode())


def test_derived_label_sets_keep_only_what_they_say() -> None:
    labels = Labels.of({"__name__": "up", "job": "a", "instance": "b"})
    assert labels.without_name() == Labels.of({"job": "a", "instance": "b"})
    assert labels.only(["job", "absent"]) == Labels.of({"job": "a"})
    assert labels.without(["job"]) == Labels.of({"__name__": "up", "instance": "b"})
    assert labels.with_label("job", "c").get("job") == "c"
    assert labels.with_label("job", "").get("job") == ""
    assert len(labels.with_label("job", "")) == 2


def test_the_stale_marker_is_told_from_other_nans_by_its_bits() -> None:
    bits = np.array([STALE_NAN_BITS, 0x7FF8000000000001, 0], np.uint64)
    assert is_stale(bits.view(np.float64)).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("grid", "times"),
    [
        (EvalRange.instant(5), [5]),
        (EvalRange(0, 30, 15), [0, 15, 30]),
        (EvalRange(0, 29, 15), [0, 15]),
        (EvalRange(-10, 10, 10), [-10, 0, 10]),
    ],
)
def test_an_eval_range_has_the_steps_from_start_to_end_inclusive(
    grid: EvalRange, times: list[int]
) -> None:
    assert grid.timestamps().tolist() == times
    assert grid.n_steps == len(times)
