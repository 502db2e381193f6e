"""Checks rule files and reports on them as `promtool check rules` does."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from promcompat.alerting.rule_files.rule_document import (
    RuleDocument,
    RuleFileError,
    duplicate_rules,
    parse_rule_file,
)
from promcompat.core.texts.file_faults import reading_fault


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found in one file: `lines` for people, and whether Prometheus would load it."""

    lines: Sequence[str]
    is_loadable: bool


def check_file(path: Path) -> CheckReport:
    """Check one file, whether or not it can be read."""
    head = f"Checking {path}"
    try:
        groups = parse_rule_file(path.read_text(encoding="utf-8"))
    except RuleFileError as exc:
        faults = [f"{path}: {fault}" for fault in exc.faults]
        return CheckReport([head, "  FAILED:", *faults], is_loadable=False)
    except (OSError, UnicodeDecodeError) as exc:
        return CheckReport([head, "  FAILED:", f"{path}: {reading_fault(exc)}"], is_loadable=False)
    if repeated := duplicate_rules(groups):
        # Only promtool's lint minds them; Prometheus loads the file.
        return CheckReport([head, "  FAILED:", *_lint_lines(repeated)], is_loadable=True)
    n_rules = sum(len(group.rules) for group in groups)
    return CheckReport([head, f"  SUCCESS: {n_rules} rules found", ""], is_loadable=True)


def _lint_lines(repeated: Sequence[RuleDocument]) -> list[str]:
    lines = [f"lint error {len(repeated)} duplicate rule(s) found."]
    for rule in repeated:
        lines += [f"Metric: {rule.name}", "Label(s):"]
        lines += [f"\t{name}: {text}" for name, text in sorted(rule.labels.items())]
    return [*lines, "Might cause inconsistency while recording expressions", ""]
