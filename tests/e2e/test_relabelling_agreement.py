"""The same relabelling rules in a real Prometheus: targets get the same labels."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.processes import find_free_port, running_prometheus
from promcompat.core.model import Labels
from promcompat.core.relabelling import parse_relabel_rules, relabel
from tests.e2e.test_alertmanager import call

pytestmark = pytest.mark.e2e

LABELS = {"a": "Foo bar", "b": "baz", "c": "Foo bar", "é": "ü", "empty": "", "n1_x": "1", "n2": "2",
          "g": "ß İ ΑΣ ΣΑ ᾳ ﬁ"}  # fmt: skip
CASES: list[list[dict[str, Any]]] = [
    [{"source_labels": ["a", "b"], "target_label": "d", "separator": "-"}],
    [{"source_labels": ["a"], "regex": "F(o+) (?P<r>.*)", "target_label": "d_$1",
      "replacement": "${r}x$$y$1z${1}"}],
    [{"source_labels": ["a"], "regex": "oo", "target_label": "d"}],
    [{"source_labels": ["missing"], "target_label": "d", "replacement": "set"}],
    [{"target_label": "a", "replacement": ""}],
    [{"source_labels": ["missing"], "target_label": "b"}],
    [{"source_labels": ["a"], "regex": "(x)?.*", "target_label": "$1", "replacement": "y"}],
    [{"source_labels": ["b"], "regex": "b..", "action": "keep"}],
    [{"source_labels": ["b"], "regex": "b.", "action": "keep"}],
    [{"source_labels": ["b"], "regex": "b..", "action": "drop"}],
    [{"source_labels": ["missing"], "regex": "", "action": "DROP"}],
    [{"source_labels": ["a"], "target_label": "c", "action": "keepequal"}],
    [{"source_labels": ["a"], "target_label": "b", "action": "keepequal"}],
    [{"source_labels": ["a"], "target_label": "c", "action": "dropequal"}],
    [{"source_labels": ["a", "é"], "target_label": "h", "action": "hashmod", "modulus": 97}],
    [{"regex": "n(.)(_x)?", "action": "labelmap", "replacement": "m$1"}],
    [{"regex": "n.*", "action": "labeldrop"}],
    [{"regex": "a|b|job|instance|__.*", "action": "labelkeep"}],
    [{"source_labels": ["a"], "target_label": "l", "action": "lowercase"},
     {"source_labels": ["é"], "target_label": "u", "action": "uppercase"},
     {"source_labels": ["l", "u"], "target_label": "lu"}],
    [{"source_labels": ["g"], "target_label": "l", "action": "lowercase"},
     {"source_labels": ["g"], "target_label": "u", "action": "uppercase"}],
]  # fmt: skip


def test_targets_have_the_labels_that_the_rules_give_them(
    prometheus_binary: Path, tmp_path: Path
) -> None:
    jobs = [
        {
            "job_name": f"j{number}",
            "scrape_interval": "1h",
            "static_configs": [{"targets": ["127.0.0.1:1"], "labels": LABELS}],
            "relabel_configs": rules,
        }
        for number, rules in enumerate(CASES)
    ]
    config = yaml.safe_dump({"scrape_configs": jobs}, allow_unicode=True)
    with running_prometheus(
        prometheus_binary, tmp_path / "p", config=config, port=find_free_port()
    ) as prometheus:
        theirs = targets(prometheus.url)
    for number, rules in enumerate(CASES):
        job, address = f"j{number}", "127.0.0.1:1"
        given = Labels.of({**LABELS, "job": job, "instance": address})
        found = relabel(given, parse_relabel_rules(yaml.safe_dump(rules)))
        ours = None if found is None else found.as_dict()
        assert ours == theirs.get(job), rules


def targets(url: str) -> dict[str, dict[str, str]]:
    """The labels of the active target of each job, once Prometheus has seen all of them."""
    deadline = time.monotonic() + 60
    while True:
        found = call(f"{url}/api/v1/targets")["data"]
        if len(found["activeTargets"]) + len(found["droppedTargets"]) == len(CASES):
            return {item["scrapePool"]: item["labels"] for item in found["activeTargets"]}
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
