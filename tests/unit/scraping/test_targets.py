"""Targets have the labels, addresses and moments that Prometheus gives them."""

from dataclasses import replace

import pytest

from promcompat.core.model import EMPTY_LABELS, Labels
from promcompat.core.relabelling import parse_relabel_rules
from promcompat.scraping.configuration import JobConfig, TargetGroup
from promcompat.scraping.targets import DiscoveredTargets, LabelMerge, targets_of

JOB = JobConfig(name="j", interval_ms=15_000)


def found(job: JobConfig = JOB, rules: str = "[]", **labels: str) -> DiscoveredTargets:
    group = TargetGroup([{"__address__": "h:1"}], labels, "g")
    return targets_of(replace(job, relabel_rules=parse_relabel_rules(rules)), [group])


def test_a_target_has_its_jobs_parameters_and_discovered_labels() -> None:
    job = replace(JOB, params={"a": ("1", "2"), "b": ("x y",)}, metrics_path="/m?")
    (target,) = found(job, __param_a="z", __meta_x="y", env="e", empty="").active
    assert target.labels.as_dict() == {"env": "e", "instance": "h:1", "job": "j"}
    assert target.url == "http://h:1/m%3F?a=z&a=2&b=x+y"
    assert target.discovered.as_dict() == {
        "__address__": "h:1", "__meta_x": "y", "__metrics_path__": "/m?", "__param_a": "z",
        "__param_b": "x y", "__scheme__": "http", "__scrape_interval__": "15s",
        "__scrape_timeout__": "10s", "env": "e", "job": "j",
    }  # fmt: skip


def test_relabelling_sets_address_interval_and_path() -> None:
    rules = """
    - {target_label: __scheme__, replacement: https}
    - {target_label: __address__, replacement: other}
    - {target_label: __metrics_path__, replacement: p}
    - {target_label: __scrape_interval__, replacement: 20s}
    - {target_label: instance, replacement: i}
    """
    (target,) = found(rules=rules).active
    assert (target.url, target.interval_ms) == ("https://other/p", 20_000)
    assert target.labels.get("instance") == "i"


@pytest.mark.parametrize(
    ("label", "value", "fault"),
    [
        ("__address__", "", "no address"),
        ("__address__", "a/b", "is not a valid hostname"),
        ("__scrape_interval__", "0", "scrape interval cannot be 0"),
        ("__scrape_timeout__", "16s", "cannot be greater than scrape interval"),
        ("__scrape_timeout__", "x", "error parsing scrape timeout"),
    ],
)
def test_targets_that_cannot_be_scraped_are_reported(label: str, value: str, fault: str) -> None:
    result = found(rules=f'[{{target_label: {label}, replacement: "{value}"}}]')
    assert (result.active, result.dropped) == ([], [])
    assert fault in result.faults[0]


def test_dropped_targets_are_kept_apart_and_equal_ones_are_one() -> None:
    dropped = found(rules="[{action: drop, source_labels: [env], regex: e}]", env="e")
    assert (dropped.active, len(dropped.dropped)) == ([], 1)
    groups = [TargetGroup([{"__address__": "h:1"}, {"__address__": "h:1"}])] * 2
    assert len(targets_of(JOB, groups).active) == 1


@pytest.mark.parametrize(
    ("honors", "expected"),
    [
        (False, {"job": "j", "exported_exported_job": "a", "exported_job": "b", "instance": "h:1"}),
        (True, {"job": "a", "exported_job": "b"}),
    ],
)
def test_exposed_labels_join_those_of_the_target(honors: bool, expected: dict[str, str]) -> None:
    (target,) = found(replace(JOB, honor_labels=honors)).active
    merge = LabelMerge(target, EMPTY_LABELS)
    exposed = {"__name__": "m", "job": "a", "exported_job": "b", "instance": ""}
    merged = merge.of_sample(exposed)
    assert merged is not None
    assert merged.without_name().as_dict() == expected


def test_external_labels_give_way_to_those_of_the_series() -> None:
    (target,) = found().active
    merge = LabelMerge(target, Labels.of({"job": "x", "cluster": "eu"}))
    assert merge.of_report("up").as_dict() == {
        "__name__": "up", "cluster": "eu", "instance": "h:1", "job": "j",
    }  # fmt: skip


def test_a_target_keeps_its_moment_in_every_interval() -> None:
    (target,) = found().active
    moments = {round((now + target.offset_seconds(now, 7)) % 15, 3) for now in (0.0, 3.25, 1e9)}
    assert len(moments) == 1
    assert 0 <= target.offset_seconds(5.0, 7) < 15
    assert target.offset_seconds(5.0, 7) != target.offset_seconds(5.0, 8)
