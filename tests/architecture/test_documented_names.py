"""The docs have every setting, metric and table, and no other; commands are as they say."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Final

import pytest

from promcompat.configuration.settings import Settings
from promcompat.configuration.text import default_text, env_name, value_form
from promcompat.metrics import exemplar_service
from promcompat.processes.command_line import build_parser
from promcompat.telemetry.telemetry import Telemetry
from sql.samples.stores import block_steps, row_steps, store_steps
from sql.series import metadata, starts

_DOCS: Final = Path(__file__).parents[2] / "docs"
_SETTING: Final = re.compile(r"^\| `PROMCOMPAT_\w+` \|.*\|$", re.MULTILINE)
_LINK: Final = re.compile(r" \(\[[^]]*\]\([^)]*\)\)")
_METRIC: Final = re.compile(r"`(\w+)(?:\{[\w,]+\})?`")
_TABLE: Final = re.compile(
    r"\b(CREATE|DROP|ALTER)(?: UNLOGGED)? TABLE (?:IF (?:NOT )?EXISTS )?(\w+)(?: RENAME TO (\w+))?"
)
_PAGES: Final = (_DOCS.parent / "README.md", *sorted(_DOCS.rglob("*.md")))
_FENCED: Final = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND: Final = re.compile(r"^(?:\w+=\S+ )*(?:\S+/)?promcompat (.+)$", re.MULTILINE)


def _setting_rows() -> Iterator[str]:
    """The rows that the page of settings should have, but for their order and links."""
    for name, field in Settings.model_fields.items():
        default = default_text(name)
        shown = f"`{default}`" if default else "\N{EN DASH}"
        form = value_form(name).replace("|", r" \| ")
        yield f"| `{env_name(name)}` | {form} | {shown} | {field.description} |"


def test_the_page_of_settings_has_the_row_of_each_setting() -> None:
    text = (_DOCS / "settings.md").read_text(encoding="utf-8")
    documented = [_LINK.sub("", row) for row in _SETTING.findall(text)]
    assert sorted(documented) == sorted(_setting_rows())


def test_settings_that_the_docs_name_exist() -> None:
    known = set(map(env_name, Settings.model_fields))
    for page in _PAGES:
        named = re.findall(r"\bPROMCOMPAT_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))
        assert set(named) <= known, page.name


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(_DOCS.parent).as_posix())
def test_documented_commands_are_understood(page: Path) -> None:
    """The parser ends a test with SystemExit, and its text says what it does not know."""
    text, parser = page.read_text(encoding="utf-8"), build_parser()
    for block in _FENCED.findall(text):
        for arguments in _COMMAND.findall(block.replace("\\\n", " ")):
            options, others = parser.parse_known_args(shlex.split(arguments, comments=True))
            assert not others or options.command == "sql", arguments
    for name in set(re.findall(r"`promcompat ([a-z][a-z-]*)", text)):
        with pytest.raises(SystemExit, match=r"^0$"):
            parser.parse_args([name, "--help"])


def test_the_table_of_metrics_has_each_metric() -> None:
    text = (_DOCS / "operations/monitoring.md").read_text(encoding="utf-8")
    section = text.partition("\n## The service's own metrics\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    documented = [name for row in rows for name in _METRIC.findall(row)]
    published = [
        metric.name.removeprefix("promcompat_") + ("_total" if metric.type == "counter" else "")
        for metric in Telemetry().registry.collect()
        if metric.name.startswith("promcompat_")
    ]
    assert sorted(documented) == sorted(published)


def test_the_data_model_has_each_table() -> None:
    tables: set[str] = set()
    for migration in sorted((_DOCS.parent / "sql" / "migrations").glob("*.sql")):
        for action, name, new_name in _TABLE.findall(migration.read_text(encoding="utf-8")):
            if action == "DROP" or new_name:
                tables.discard(name)
            if action == "CREATE" or new_name:
                tables.add(new_name or name)
    text = (_DOCS / "data-model.md").read_text(encoding="utf-8")
    assert tables - set(re.findall(r"\w+", text)) == set()


def test_every_step_of_maintenance_has_a_row_and_a_counter_of_failures() -> None:
    steps = {
        field.default
        for module in (block_steps, row_steps, store_steps, exemplar_service, metadata, starts)
        for name, kind in vars(module).items()
        if name.endswith("Step") and is_dataclass(kind)
        for field in fields(kind)
        if field.name == "name"
    }
    text = (_DOCS / "operations/retention.md").read_text(encoding="utf-8")
    section = text.partition("\n## Maintenance\n")[2]
    counted = re.findall(r'maintenance_failures_total{task="(.*)"}', Telemetry().render().decode())
    assert set(re.findall(r"^\| `([\w ]+)` \|", section, re.MULTILINE)) >= steps
    assert set(counted) == steps
