"""Rule files: read as Prometheus reads them, and written so that they mean the same."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.alerting.rule_files.checking import check_file
from promcompat.alerting.rule_files.rule_conversion import document_of, rules_of
from promcompat.alerting.rule_files.rule_document import (
    GroupDocument,
    RuleDocument,
    RuleFileError,
    parse_namespaces,
    parse_rule_file,
)
from promcompat.alerting.rule_files.rule_writer import file_value, yaml_text
from promcompat.alerting.rule_groups import changes_between
from promcompat.core.texts import yaml_nodes

FILES = {
    "good": """
groups:
- name: g
  interval: 1m30s
  limit: 3
  query_offset: 10s
  labels: {team: x}
  rules:
  - record: a:b
    expr: sum(m)
  - alert: A
    expr: |
      # a comment
      m > 1
    for: 5m
    keep_firing_for: 0m
    labels: {severity: page}
    annotations: {s: "{{ $value }}"}
- name: h
  rules: []
""",
    "empty": "",
    "several faults": """
groups:
- name: g
  rules:
  - record: a:b
    expr: sum(m
  - alert: A
    record: b
    expr: m
  - expr: m
  - alert: B
  - record: "a{b}"
    expr: m
    for: 5m
    annotations: {a: b}
    keep_firing_for: 1m
  - alert: C
    expr: m
    labels: {__name__: x, "a-b": c, x: "{{ $foo }}"}
- name: g
  rules: []
- name: ""
  rules: []
""",
    "unknown fields": """
groups:
- name: g
  foo: 1
  rules:
  - record: a:b
    expr: sum(m)
    bar: 2
rules: 3
""",
    "duration": "groups: [{name: g, interval: abc}]",
    "syntax": "groups: [\n",
    "tab": "groups:\n\t- name: g\n",
    "a key twice": "groups:\n- name: g\n  rules:\n  - {record: a, expr: m, record: b}\n",
    "types": """
groups:
- name: 5
  limit: x
  rules:
  - {record: true, expr: 1.5, labels: {a: 1, b: null, c: 2024-01-01, d: 0x1F, e: yes}}
  - {alert: x, expr: , labels: {a: [1]}}
""",
    "any names": """
groups:
- name: w
  rules:
  - {record: a-b c, expr: m}
  - {alert: "é b", expr: "m[5m]"}
  - {alert: x, expr: m, annotations: {"a b": c}}
""",
    "limits": """
groups:
- {name: a, limit: -1, rules: [{record: a, expr: m}]}
- {name: b, limit: 9223372036854775807, rules: [{record: b, expr: m}]}
""",
    "a limit that is too large": "groups: [{name: a, limit: 9223372036854775808}]",
    "the same rule twice, and a second document": """
groups:
- name: g
  rules:
  - {record: a, expr: m, labels: {b: c}}
  - {record: a, expr: n, labels: {b: c}}
---
foo: bar
""",
}


def without_repetition(text: str) -> list[str]:
    """promtool reads a file twice and reports some faults twice."""
    return list(dict.fromkeys(line for line in text.splitlines() if line.strip()))


@pytest.mark.e2e
def test_a_file_is_checked_as_by_promtool(promtool_binary: Path, tmp_path: Path) -> None:
    for name, text in FILES.items():
        file = tmp_path / "rules.yml"
        file.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [promtool_binary, "check", "rules", str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        report = check_file(file)
        theirs = without_repetition(done.stdout + done.stderr)
        assert without_repetition("\n".join(report.lines)) == theirs, name
        assert report.is_loadable is (done.returncode == 0), name


def test_any_limit_can_be_stored() -> None:
    found = [rules_of("f", group)[0].max_alerts for group in parse_rule_file(FILES["limits"])]
    assert found == [0, 2**31 - 1]


def test_what_a_file_says_is_read_and_written() -> None:
    (g, h) = parse_rule_file(FILES["good"])
    assert (g.name, g.interval_ms, g.limit, g.query_offset_ms) == ("g", 90_000, 3, 10_000)
    assert (h.interval_ms, h.query_offset_ms, h.rules) == (None, None, [])
    record, alert = rules_of("file", g)
    assert (record.is_recording, record.labels, record.position) == (True, {"team": "x"}, 1)
    assert (alert.for_ms, alert.expr) == (300_000, "# a comment\nm > 1\n")
    assert alert.labels == {"team": "x", "severity": "page"}
    again = parse_rule_file(yaml_text(file_value([g])))
    assert rules_of("file", again[0]) == [record, alert]


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
names = texts.filter(bool)


@st.composite
def groups(draw: st.DrawFn) -> GroupDocument:
    """Groups without places that Prometheus would load, apart from names of templates."""
    literal = texts.filter(lambda text: "{{" not in text)
    labels = st.dictionaries(names.filter(lambda name: name != "__name__"), literal, max_size=3)
    durations = st.integers(0, 10**9)
    record = names.filter(lambda name: "{" not in name and "}" not in name)
    rule = st.builds(
        RuleDocument, record=record, alert=st.just(""), expr=st.just("m"), labels=labels
    )
    alert = st.builds(
        RuleDocument,
        record=st.just(""),
        alert=names,
        expr=st.just("m > 1\n"),
        for_ms=durations,
        keep_firing_for_ms=durations,
        labels=labels,
        annotations=st.dictionaries(names, literal, max_size=3),
    )
    return draw(
        st.builds(
            GroupDocument,
            name=names,
            rules=st.lists(rule | alert, min_size=1, max_size=4),
            interval_ms=st.none() | st.integers(1, 10**9),
            limit=st.integers(0, 9),
            query_offset_ms=st.none() | st.integers(1, 10**9),
        )
    )


@given(groups())
def test_a_group_that_is_written_is_read_as_the_same_rules(group: GroupDocument) -> None:
    (again,) = parse_rule_file(yaml_text(file_value([group])))
    assert rules_of("n", again) == rules_of("n", group)


@given(groups())
def test_a_group_survives_the_store(group: GroupDocument) -> None:
    stored = document_of(rules_of("n", group))
    assert rules_of("n", stored) == rules_of("n", group)
    known = [replace(rule, id=n, version=1) for n, rule in enumerate(rules_of("n", group), 1)]
    assert not changes_between(known, rules_of("n", stored))


def test_rules_with_the_same_name_and_labels_stay_the_same_rule() -> None:
    first, second = parse_rule_file(
        "groups: [{name: g, rules: [{record: a, expr: x}, {alert: b, expr: y}, "
        "{record: c, expr: z}]}, {name: h, rules: [{record: d, expr: x}, "
        "{record: a, expr: changed}, {alert: b, expr: y}]}]"
    )
    known = [replace(rule, id=n, version=n) for n, rule in enumerate(rules_of("f", first), 1)]
    change = changes_between(known, rules_of("f", replace(second, name="g")))
    assert [(rule.id, rule.version, rule.expr, rule.position) for _, rule in change.kept] == [
        (1, 1, "changed", 2), (2, 2, "y", 3),
    ]  # fmt: skip
    assert [(rule.name, rule.position) for rule in change.new] == [("d", 1)]
    assert [rule.id for rule in change.deleted] == [3]
    assert change.groups == [("f", "g")]


def test_files_of_mimirtool_have_documents_for_several_namespaces() -> None:
    text = "namespace: a\ngroups: [{name: g, rules: []}]\n---\ngroups: [{name: h, rules: []}]\n"
    assert [(file.namespace, file.groups[0].name) for file in parse_namespaces(text, "file")] == [
        ("a", "g"), ("file", "h"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\ngroups: *b",
        "[" * 100_000,
        'groups: [{name: "\\0", rules: []}]',
        "groups: [{name: g, rules: &r [" + "{record: a, expr: m}," * 120 + "]},"
        + "{name: g, rules: *r}," * 120 + "]",
    ],
    ids=["aliases", "depth", "NUL", "many values"],
)  # fmt: skip
def test_hostile_files_are_refused_soon(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_nodes, "_MAX_VALUES", 10_000)
    with pytest.raises(RuleFileError):
        parse_rule_file(text)
