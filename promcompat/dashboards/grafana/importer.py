"""A file of Grafana as a dashboard, with the list of what is not supported."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promcompat.core.errors import BadDataError
from promcompat.dashboards.grafana.layout import LaidOutRow, read_rows
from promcompat.dashboards.grafana.panels import PanelContext, read_panel
from promcompat.dashboards.grafana.queries import DataSources
from promcompat.dashboards.grafana.source import (
    Finding,
    Findings,
    Source,
    number_of,
    objects_of,
    shown,
)
from promcompat.dashboards.grafana.variables import PROMETHEUS, read_variables
from promcompat.dashboards.model import Dashboard, read_dashboard

Json = dict[str, Any]

_NEWEST_VERSION: Final = 42
_CONSTANTS_HIDDEN_VERSION: Final = 27
_TOOLTIPS: Final = {0: "own", 1: "crosshair", 2: "shared"}  # True is 1
_WEEK_STARTS: Final = {
    "monday": "monday",
    "saturday": "saturday",
    "sunday": "sunday",
    "browser": "",
}
_MAX_GIVEN_ID: Final = 1 << 30
_INPUT: Final = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A dashboard, the uid that its file gives it (or none), and what it lacks."""

    dashboard: Dashboard
    uid: str
    findings: Sequence[Finding]

    @property
    def lost(self) -> Sequence[Finding]:
        """What cannot be shown."""
        return [finding for finding in self.findings if finding.is_lost]


def import_grafana(document: object, inputs: Mapping[str, str] | None = None) -> Imported:
    """Convert the JSON of a dashboard of Grafana, up to schema version 42, of any older one.

    `inputs` are values for the names in `__inputs`. Raises BadDataError for what is no dashboard.
    """
    bare = _bare(document)
    if "__inputs" in bare:
        bare = _filled(bare, inputs or {})
    findings = Findings()
    source = Source(bare, "", findings)
    converted = _document(source)
    source.finish()
    try:
        dashboard = read_dashboard(converted)
    except BadDataError as exc:
        raise BadDataError(f"the dashboard cannot be read: {exc}") from exc
    found = [one for one in findings.found if one.is_lost]
    found += [one for one in findings.found if not one.is_lost]
    return Imported(dashboard=dashboard, uid=source.text("uid"), findings=found)


def _bare(document: object) -> Json:
    """The dashboard itself, of an answer of Grafana's API too."""
    if not isinstance(document, dict):
        raise BadDataError("the file is no JSON object; expected a dashboard of Grafana")
    if str(document.get("apiVersion", "")).startswith("dashboard.grafana.app/"):
        if isinstance(document.get("spec"), dict) and "elements" in document["spec"]:
            raise BadDataError(
                "dashboards of schema v2 (spec.elements) are not supported; export the dashboard "
                "as classic JSON"
            )
        document = document.get("spec") or {}
    inner = document.get("dashboard")
    if isinstance(inner, dict) and "panels" not in document and "rows" not in document:
        document = inner
    if "panels" not in document and "rows" not in document and "title" not in document:
        keys = ", ".join(list(document)[:5]) or "none"
        raise BadDataError(
            f"the file is no dashboard: it has the keys {keys}; expected title and panels"
        )
    return document


def _filled(document: Json, inputs: Mapping[str, str]) -> Json:
    """The document with the values of its `__inputs`; there is one source of metrics."""
    values: dict[str, str] = {}
    for entry in objects_of(document.get("__inputs")):
        if isinstance(entry.get("name"), str):
            default = "promcompat" if entry.get("type") == "datasource" else entry.get("value")
            values[entry["name"]] = inputs.get(entry["name"], str(default or ""))

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return _INPUT.sub(lambda match: values.get(match[1], match[0]), value)
        if isinstance(value, list):
            return [fill(one) for one in value]
        if isinstance(value, dict):
            return {key: fill(one) for key, one in value.items()}
        return value

    filled: Json = fill({key: value for key, value in document.items() if key != "__inputs"})
    return filled


def _document(source: Source) -> Json:
    version = int(source.number("schemaVersion") or 0)
    if version > _NEWEST_VERSION:
        source.changed("schemaVersion", f"schema version {version}", "is newer than what is known")
    source.ignore(
        "__requires", "__elements", "gnetId", "id", "iteration", "version", "uid", "editable",
        "hideControls", "originalTitle", "sharedCrosshair", "annotate", "liveNow", "preload",
        "meta", "overwrite", "folderId", "message", "_comment", "theme",
        "style", "nav", "enable", "pulldowns", "failover", "panel_hints", "loader", "services",
        "isStarred", "slug", "created", "updated", "revision", "scopeMeta",
    )  # fmt: skip
    document: Json = {
        "title": source.text("title") or "Untitled",
        "description": source.text("description"),
        "tags": source.texts("tags"),
        "time": _time(source.child("time")),
        "refresh": _refresh(source),
        "timezone": _timezone(source),
        "week_start": source.choice("weekStart", _WEEK_STARTS, ""),
        "fiscal_year_start_month": _fiscal_year_start(source),
        "tooltip": source.choice("graphTooltip", _TOOLTIPS, "own"),
    }
    picker = source.child("timepicker")
    document["refresh_choices"] = picker.texts("refresh_intervals")
    document["hide_time_picker"] = picker.flag("hidden")
    document["now_delay"] = picker.text("nowDelay")
    picker.ignore(
        "time_options", "collapse", "enable", "notice", "now", "status", "type", "hidden",
    )  # fmt: skip
    templating = source.child("templating")
    templating.ignore("enable")
    types = _datasource_types(templating)
    document["variables"] = read_variables(
        templating, has_shown_constants=version < _CONSTANTS_HIDDEN_VERSION
    )
    context = PanelContext(version, DataSources(types), source.findings)
    document["annotations"] = _annotations(source.child("annotations"), context.sources)
    document["links"] = [_link(link) for link in source.children("links")]
    document["rows"] = _rows(source, context)
    return document


def _time(time: Source) -> Json:
    found = {"start": time.text("from") or "now-6h", "end": time.text("to") or "now"}
    time.ignore("now", "raw")
    return found


def _refresh(source: Source) -> str:
    found = source.take("refresh", "")
    return found if isinstance(found, str) else ""


def _fiscal_year_start(source: Source) -> int:
    month = int(source.number("fiscalYearStartMonth") or 0) % 12
    if month:
        source.lost("fiscalYearStartMonth", "time ranges of fiscal quarters and years")
    return month


def _timezone(source: Source) -> str:
    found = source.text("timezone").strip()
    return "utc" if found.lower() == "utc" else "browser" if found in ("", "default") else found


def _datasource_types(templating: Source) -> Mapping[str, str]:
    return {
        str(entry.get("name")): str(entry.get("query") or "prometheus")
        for entry in objects_of(templating.take("list"))
        if entry.get("type") == "datasource"
    }


def _annotations(source: Source, sources: DataSources) -> list[Json]:
    source.ignore("enable")
    found = []
    for entry in source.children("list"):
        annotation = _annotation(entry, sources)
        if annotation is not None:
            found.append(annotation)
    return found


def _annotation(entry: Source, sources: DataSources) -> Json | None:
    name = entry.text("name")
    kind = sources.type_of(entry.take("datasource"))
    target = entry.child("target")
    expr = entry.text("expr") or target.text("expr")
    entry.ignore(
        "type", "limit", "matchAny", "showIn", "snapshotData", "tags", "builtIn", "iconColor",
        "showLine", "lineColor", "textField", "tagsField", "titleField", "iconSize", "rawQuery",
        "query", "$$hashKey", "mappings", "useValueForTime", "step", "tagKeys", "textFormat",
        "titleFormat", "filter", "enable", "hide", "placement",
    )  # fmt: skip
    target.ignore(
        "refId", "limit", "matchAny", "tags", "type", "fromAnnotations", "range", "instant",
        "queryType", "editorMode", "legendFormat", "interval", "step", "iconColor", "exemplar",
        "format", "intervalFactor", "datasource", "name", "enable",
    )  # fmt: skip
    if not expr:
        if not entry.take("builtIn") and entry.flag("enable", True):
            entry.findings.lost(entry.path, f"the annotation {name}", "only metrics can be asked")
        return None
    if kind not in PROMETHEUS | {""}:
        what = f"the annotation {name} for {kind}"
        entry.findings.lost(entry.path, what, "only metrics can be asked")
        return None
    panels = entry.child("filter")
    panels.ignore("exclude")
    ids = [known for one in panels.entries("ids") if (known := _id_of(one))]
    return {
        "name": name,
        "enabled": entry.flag("enable", True),
        "hidden": entry.flag("hide"),
        "color": entry.text("iconColor", "red"),
        "expr": expr,
        "step": entry.text("step") or target.text("step") or "60s",
        "title": entry.text("titleFormat"),
        "text": entry.text("textFormat"),
        "tags": [tag.strip() for tag in entry.text("tagKeys").split(",") if tag.strip()],
        "value_is_time": bool(entry.take("useValueForTime")),
        **({"panels": ids, "exclude_panels": panels.flag("exclude")} if ids else {}),
    }


def _link(link: Source) -> Json:
    link.ignore("icon", "$$hashKey", "dash", "dashboard", "dashUri", "params", "placement")
    kind = link.choice("type", {"dashboards": "dashboards", "link": "url"}, "url")
    return {
        "kind": kind,
        "title": link.text("title"),
        "tooltip": link.text("tooltip"),
        "url": link.text("url"),
        "tags": link.texts("tags"),
        "as_dropdown": link.flag("asDropdown"),
        "keep_time": link.flag("keepTime"),
        "include_variables": link.flag("includeVars"),
        "new_tab": link.flag("targetBlank"),
    }


def _rows(source: Source, context: PanelContext) -> list[Json]:
    rows = read_rows(source)
    ids = _PanelIds(rows)
    found = []
    for row in rows:
        panels = [
            read_panel(panel.source, panel.grid, ids.next_for(panel.source), context)
            for panel in row.panels
        ]
        entry: Json = {"title": row.title, "collapsed": row.collapsed, "panels": panels}
        if row.repeat:
            entry["repeat"] = row.repeat
        if row.title is None:
            entry.pop("title")
        found.append(entry)
    return found


class _PanelIds:
    """Ids as in the file, and free ones for panels that have none of their own."""

    def __init__(self, rows: Sequence[LaidOutRow]) -> None:
        given = [_id_of(one.source.take("id")) for row in rows for one in row.panels]
        self._used: set[int] = set()
        self._next = max(given, default=0) + 1

    def next_for(self, panel: Source) -> int:
        """The id of a panel."""
        found = _id_of(panel.take("id"))
        if not found or found in self._used:
            found, self._next = self._next, self._next + 1
        self._used.add(found)
        return found


def _id_of(value: object) -> int:
    """The id of a panel; 0 for none, and for one that leaves no room above it."""
    number = number_of(value)
    return int(number) if number is not None and 1 <= number < _MAX_GIVEN_ID else 0


def describe(finding: Finding) -> str:
    """A finding as one line."""
    panel = f" in panel {shown(finding.panel)!r}" if finding.panel else ""
    return f"{finding.path or 'dashboard'}{panel}: {finding.what}: {finding.reason}"
