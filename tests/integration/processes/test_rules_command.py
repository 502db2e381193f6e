"""`promcompat rules load`, `export` and `backfill` as a person runs them."""

from pathlib import Path

import pytest
import yaml

from promcompat.__main__ import main

pytestmark = pytest.mark.integration

RULES = """\
groups:
  - name: g
    interval: 30s
    rules:
      - {record: seven, expr: vector(7)}
      - {alert: Down, expr: up == 0, for: 5m}
"""


def test_rules_are_loaded_exported_and_backfilled(
    plain_database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        """What a command prints, on the stream for its exit code."""
        assert main(["rules", *arguments, "--database-url", plain_database_url]) == code
        return capsys.readouterr()[code]

    file, broken, exported = (tmp_path / name for name in ("team.yml", "broken.yml", "again.yml"))
    file.write_text(RULES)
    broken.write_text(RULES.replace("vector(7)", "sum("))
    refusal = run("load", str(file), str(broken), code=1)
    assert 'broken.yml: 5:31: group "g", rule 1' in refusal
    assert run("export") == ""
    assert run("load", str(file)) == "team: 2 rules, loaded\n"
    assert run("load", "--namespace", "other", str(file)) == "other: 2 rules, loaded\n"
    document = run("export", "--namespace", "team")
    assert yaml.safe_load(document) == {"namespace": "team", **yaml.safe_load(RULES)}
    assert [found["namespace"] for found in yaml.safe_load_all(run("export"))] == ["other", "team"]
    exported.write_text(document)
    assert run("load", str(exported)) == "team: 2 rules, nothing has changed\n"

    backfill = ["backfill", "--start", "2024-01-01T00:00:00Z", "--end", "1704067499"]
    assert "may record the same series" in run(*backfill, code=1)
    file.write_text("groups: []")
    assert run("load", "--namespace", "other", str(file)) == "other: 0 rules, loaded\n"
    outcomes = (["--dry-run"], "would write", 0), ([], "wrote", 0), ([], "wrote", 10)
    for options, verb, n_replaced in outcomes:
        line = run(*backfill, *options)
        assert line == f"team g seven: 10 evaluations {verb} 10 samples in place of {n_replaced}\n"
    assert "cannot be backfilled" in run("backfill", "--start", "5", "--end", "1", code=1)
    assert "no recording rule" in run(*backfill, "--rule", "Down", code=1)
