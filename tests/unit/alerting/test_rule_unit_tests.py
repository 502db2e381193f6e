"""promtool's unit tests of rules: the same outcome and the same words as promtool."""

import subprocess
from pathlib import Path

import pytest

from promcompat.alerting.rule_files.series_notation import parse_series_labels, parse_series_values
from promcompat.alerting.rule_files.unit_tests import report_of, run_test_file
from promcompat.core.errors import BadDataError

RULES = """\
groups:
- name: g
  interval: 30s
  labels: {gl: x}
  rules:
  - record: job:m:sum
    expr: sum by (job) (m)
  - alert: High
    expr: job:m:sum > 5
    for: 2m
    keep_firing_for: 1m
    labels: {severity: "{{ $externalLabels.cluster }}"}
    annotations: {summary: "{{ $labels.job }} {{ $value }} {{ $externalURL }}", none: "", more: x}
- name: h
  rules:
  - alert: Gone
    expr: absent(m{job="z"})
    labels: {job: ""}
"""
FAULTY_RULES = """\
groups:
- name: g
  rules:
  - record: x
    expr: m
    labels: {job: z}
  - record: y
    expr: m
    labels: {job: z}
"""
TESTS = """\
rule_files: [r.yml]
evaluation_interval: 1m
group_eval_order: [h, g]
fuzzy_compare: true
tests:
- name: good
  interval: 1m
  external_labels: {cluster: c1}
  external_url: http://x
  input_series:
  - series: 'm{job="a", i="1"}'
    values: '1+1x10'
  - series: 'm{job="a", i="2"}'
    values: '0 _ stale 3x3 _x2 NaN'
  alert_rule_test:
  - eval_time: 10m
    alertname: High
    exp_alerts:
    - exp_labels: {job: a, severity: c1, gl: x}
      exp_annotations: {summary: "a 11 http://x", more: x, none: ""}
  - eval_time: 1m30s
    alertname: High
  - eval_time: 0s
    alertname: Gone
    exp_alerts: [{exp_labels: {}}]
  promql_expr_test:
  - expr: job:m:sum
    eval_time: 4m
    exp_samples: [{labels: 'job:m:sum{job="a",gl="x"}', value: 8}]
  - expr: 1 + 1
    eval_time: 1m
    exp_samples: [{value: 2}]
  - expr: ALERTS
    eval_time: 5m
    exp_samples:
    - labels: 'ALERTS{alertname="High",alertstate="pending",gl="x",job="a",severity="c1"}'
      value: 1
    - {labels: 'ALERTS{alertname="Gone",alertstate="firing"}', value: 1}
- name: bad
  input_series:
  - {series: 'm{job="a"}', values: '10x10'}
  alert_rule_test:
  - eval_time: 5m
    alertname: High
    exp_alerts:
    - exp_labels: {job: b}
    - exp_labels: {job: a}
      exp_annotations: {x: y}
  - eval_time: 4m
    alertname: High
  promql_expr_test:
  - expr: job:m:sum
    eval_time: 4m
    exp_samples: [{labels: 'job:m:sum{job="a"}', value: 8}]
  - expr: nothing
    eval_time: 4m
    exp_samples: [{labels: 'x', value: .5}]
  - expr: job:m:sum
    eval_time: 4m
  - expr: sum(
    eval_time: 4m
  - expr: m[5m]
    eval_time: 4m
  - expr: m
    eval_time: 4m
    exp_samples: [{labels: 'x{', value: .5}]
"""
NOTATION = """\
rule_files: []
tests:
- interval: 15s
  input_series:
  - {series: 'm{job="a"}', values: '1.5-0.5x3 1e3x1 -1 +Inf -inf 0x5 _x2 7 stale'}
  promql_expr_test:
  - {expr: m, eval_time: 0s}
  - {expr: m, eval_time: 15s}
  - {expr: m, eval_time: 30s}
  - {expr: m, eval_time: 45s}
  - {expr: m, eval_time: 60s}
  - {expr: m, eval_time: 75s}
  - {expr: m, eval_time: 90s}
  - {expr: m, eval_time: 105s}
  - {expr: m, eval_time: 120s}
  - {expr: m, eval_time: 135s}
  - {expr: m, eval_time: 150s}
  - {expr: m, eval_time: 165s}
  - {expr: m, eval_time: 180s}
  - {expr: m, eval_time: 195s}
  - {expr: m, eval_time: 210s}
  - {expr: m, eval_time: 225s}
  - {expr: m, eval_time: 240s}
  - {expr: m, eval_time: 255s}
  - {expr: m, eval_time: 270s}
  - {expr: m, eval_time: 285s}
  - {expr: "m offset -1m", eval_time: 30s}
  - {expr: "count_over_time(m[2m:])", eval_time: 2m, exp_samples: [{labels: '{job="a"}', value: 2}]}
  - {expr: "0.1 + 0.2", eval_time: 0s, exp_samples: [{value: 0.3}]}
"""
FAULTY = """\
rule_files: [faulty.yml]
tests:
- name: the rules fail
  input_series:
  - {series: 'm{job="a"}', values: '10x10'}
  - {series: 'm{job="b"}', values: '10x10'}
  promql_expr_test:
  - {expr: m, eval_time: 4m}
"""
HISTOGRAMS = """\
rule_files: [h.yml]
evaluation_interval: 1m
fuzzy_compare: true
tests:
- name: sums
  input_series:
  - series: 'h{i="1"}'
    values: >-
      {{schema:1 sum:3.5 count:6 z_bucket:1 z_bucket_w:0.001 offset:-2 buckets:[1 0 4]}}+{{schema:1
      sum:1 count:2 buckets:[0 2]}}x5
  - series: 'h{i="2"}'
    values: >-
      {{schema:0 sum:-1 count:3 n_buckets:[1 2]}}x3 _ stale 7
      {{schema:-53 count:3 sum:2 custom_values:[1 2.5] buckets:[1 2] counter_reset_hint:gauge}}
  - {series: down, values: '{{count:8 sum:8 buckets:[8]}}-{{count:1 sum:1 buckets:[1]}}x4'}
  - series: hints
    values: >-
      1 {{count:2 buckets:[2]}}x1 {{count:3 buckets:[3] counter_reset_hint:reset}}
      {{schema:1 count:3 buckets:[3]}} {{schema:1 count:4 buckets:[3 1]}}
      {{schema:1 count:5 buckets:[0 5]}} {{schema:1 count:6 buckets:[0 6] counter_reset_hint:gauge}}
  alert_rule_test:
  - {eval_time: 5m, alertname: Slow}
  promql_expr_test:
  - expr: r:h
    eval_time: 2m
    exp_samples: [{labels: 'r:h', histogram: '{{schema:1 count:1 sum:1}}'}]
  - expr: h
    eval_time: 0
    exp_samples:
    - labels: 'h{i="1"}'
      histogram: >-
        {{schema:1 sum:3.5 count:6 z_bucket:1 z_bucket_w:0.001 offset:-2 buckets:[1 0 4 0]}}
    - {labels: 'h{i="2"}', histogram: '{{sum:-1 count:3 n_buckets:[1 2]}}'}
  - {expr: h, eval_time: 1m, exp_samples: [{labels: 'h{i="1"}', value: 1}]}
  - {expr: h, eval_time: 3m, exp_samples: [{labels: 'h{i="1"}', histogram: '{{count:1}} 3'}]}
  - {expr: h, eval_time: 4m, exp_samples: [{labels: 'h{i="1"}', histogram: '3'}]}
  - {expr: h, eval_time: 5m, exp_samples: [{labels: h, histogram: '{{count:1}}', value: 3}]}
  - {expr: h, eval_time: 6m}
  - {expr: h, eval_time: 7m}
  - {expr: down, eval_time: 3m}
  - {expr: 'sum(h{i="1"}) * 2', eval_time: 3m}
  - {expr: 'rate(h{i="1"}[2m])', eval_time: 3m}
  - {expr: '-h{i="2"}', eval_time: 7m}
  - expr: histogram_count(h)
    eval_time: 2m
    exp_samples: [{labels: '{i="2"}', value: 3}, {labels: '{i="1"}', value: 10}]
  - {expr: hints, eval_time: 1m}
  - {expr: hints, eval_time: 2m}
  - {expr: hints, eval_time: 3m}
  - {expr: hints, eval_time: 4m}
  - {expr: hints, eval_time: 5m}
  - {expr: hints, eval_time: 6m}
  - {expr: hints, eval_time: 7m}
- name: not valid
  input_series:
  - {series: h, values: '1 {{schema:1 sum:3.5 count:6 buckets:[1 -1 4]}}'}
  promql_expr_test:
  - {expr: h, eval_time: 1m}
"""
HISTOGRAM_RULES = """\
groups:
- name: g
  rules:
  - {record: 'r:h', expr: 'sum(h)'}
  - {alert: Slow, expr: 'h{i="1"}', annotations: {
      v: '{{ $value }} {{ printf "%v" $value }} {{ range query "r:h" }}{{ . | value }}{{ end }}',
      w: '{{ $value | humanize }}', x: '{{ eq $value 3.0 }}'}}
"""
UNKNOWN = "rule_files: []\nfoo: 3\ntests: [{name: x, bar: 1}]\n"
MISSING = "tests: [{name: x, alert_rule_test: [{eval_time: 1m}]}]\n"


@pytest.mark.e2e
@pytest.mark.parametrize(
    "text",
    [
        *(TESTS, TESTS.replace("fuzzy_compare: true", ""), NOTATION, FAULTY, UNKNOWN, MISSING),
        *(HISTOGRAMS, HISTOGRAMS.replace("fuzzy_compare: true", "")),
    ],
    ids=[
        *("tests", "not fuzzy", "notation", "faulty rules", "unknown fields", "no alert name"),
        *("histograms", "histograms, not fuzzy"),
    ],
)
def test_a_file_has_the_outcome_of_promtool(
    promtool_binary: Path, tmp_path: Path, text: str
) -> None:
    (tmp_path / "r.yml").write_text(RULES, encoding="utf-8")
    (tmp_path / "h.yml").write_text(HISTOGRAM_RULES, encoding="utf-8")
    (tmp_path / "faulty.yml").write_text(FAULTY_RULES, encoding="utf-8")
    file = tmp_path / "tests.yml"
    file.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [promtool_binary, "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    failures = run_test_file(file, pytest.fail)
    theirs = [line for line in (done.stderr + done.stdout).splitlines() if line]
    assert [line for line in "\n".join(report_of({"": failures})).splitlines() if line] == theirs
    assert bool(failures) is (done.returncode == 1)


def test_a_test_may_start_at_any_time(tmp_path: Path) -> None:
    """A field of later versions of promtool."""
    file = tmp_path / "tests.yml"
    for start in ("1577836800", "2020-01-01T00:00:00Z", "2020-01-01T01:00:00+01:00"):
        file.write_text(
            f"tests: [{{start_timestamp: '{start}', interval: 15s, input_series: "
            "[{series: m, values: 1 2 3 4 5 6}], promql_expr_test: [{expr: timestamp(m), "
            "eval_time: 1m, exp_samples: [{value: 1577836860}]}]}]",
            encoding="utf-8",
        )
        assert run_test_file(file, pytest.fail) == []


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        "1+x3",
        "1x",
        "{{number:1}}",
        "{{count:1}",
        "{{count:1}}y",
        "1e9x999999999",
        "{{count:1}}+{{count:1}}x100000",
        "{{count:1}}x50000 {{count:1}}x50000",
    ],
)
def test_values_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(BadDataError):
        parse_series_values(text)


def test_a_series_has_labels_and_no_conditions() -> None:
    assert parse_series_labels('m{a="b"}').as_dict() == {"__name__": "m", "a": "b"}
    assert parse_series_labels("").as_dict() == {}
    with pytest.raises(BadDataError):
        parse_series_labels('m{a!="b"}')
