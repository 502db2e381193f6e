"""One panel of Grafana as one of promcompat."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from promcompat.dashboards.field_model import MAX_TEXT
from promcompat.dashboards.grafana.fields import link_of, read_defaults, read_overrides
from promcompat.dashboards.grafana.left_over import LEFT_OVER, OPTION_NAMES
from promcompat.dashboards.grafana.options import OPTIONS_OF
from promcompat.dashboards.grafana.queries import DataSources, read_queries
from promcompat.dashboards.grafana.retired_graph import modern_graph
from promcompat.dashboards.grafana.retired_panels import (
    modern_heatmap,
    modern_singlestat,
    modern_table,
)
from promcompat.dashboards.grafana.source import Findings, Source
from promcompat.dashboards.grafana.transformations import read_transformations
from promcompat.dashboards.model import Panel, place_of, reason_of

Json = dict[str, Any]

_SAME_TYPES: Final = {"grafana-piechart-panel": "piechart", "table-old": "table", "": "text"}
_WITHOUT_QUERIES: Final = frozenset({"text", "dashlist", "alertlist"})
_OLD_TABLE_VERSION: Final = 24
_RANGES_OF_UNITS: Final = {"percent": 100, "percentunit": 1}


@dataclass(frozen=True, slots=True)
class PanelContext:
    """What the panels of a file share."""

    schema_version: int
    sources: DataSources
    findings: Findings


def read_panel(laid_out: Source, grid: Json, panel_id: int, context: PanelContext) -> Json:
    """The panel; one of an unknown type becomes a text that says so."""
    findings = context.findings
    findings.panel = laid_out.text("title")
    # The layout has read some keys already, and a conversion passes on what it does not read.
    old = laid_out.handed_over()
    try:
        source = _modern(old, context)
        panel = _panel(source, grid, panel_id, context)
        source.finish()
        old.finish()
        return _valid(panel, source)
    finally:
        findings.panel = ""


def _modern(old: Source, context: PanelContext) -> Source:
    """The panel with the keys of today."""
    kind = old.text("type")
    convert: Callable[[Source], Json] | None = None
    match kind:
        case "graph":
            convert = modern_graph
        case "singlestat" | "grafana-singlestat-panel":
            convert = modern_singlestat
        case "table" | "table-old":
            is_old = "styles" in old or "columns" in old
            if kind == "table-old" or (is_old and context.schema_version < _OLD_TABLE_VERSION):
                convert = modern_table
        case "heatmap":
            if "dataFormat" in old and "options" not in old:
                convert = modern_heatmap
        case _:
            pass
    if convert is None:
        return old
    modern = convert(old)
    modern.setdefault("type", _SAME_TYPES.get(kind, kind))
    return Source(modern, old.path, context.findings)


def _panel(source: Source, grid: Json, panel_id: int, context: PanelContext) -> Json:
    kind = source.text("type")
    kind = _SAME_TYPES.get(kind, kind)
    if kind not in OPTIONS_OF:
        return _placeholder(source, kind, grid, panel_id)
    panel = _common(source, kind, grid, panel_id)
    queries, panel_source = read_queries(source, context.sources)
    if kind not in _WITHOUT_QUERIES:
        panel["queries"] = queries
        if panel_source is not None:
            panel["panel_source"] = panel_source
    options = _options(source, kind)
    panel["options"] = OPTIONS_OF[kind](options)
    options.ignore(*OPTION_NAMES)
    config = source.child("fieldConfig")
    panel["fields"] = read_defaults(config.child("defaults"))
    overrides = read_overrides(config)
    if overrides:
        panel["overrides"] = overrides
    transformations = read_transformations(source, context.schema_version)
    if transformations:
        panel["transformations"] = transformations
    _complete(panel, source, kind)
    source.ignore(*LEFT_OVER)
    return panel


def _common(source: Source, kind: str, grid: Json, panel_id: int) -> Json:
    panel: Json = {"id": panel_id, "type": kind, "title": source.text("title"), "grid": grid}
    for key, name in (
        ("description", "description"),
        ("interval", "min_interval"),
        ("timeFrom", "time_from"),
        ("timeShift", "time_shift"),
    ):
        if source.text(key):
            panel[name] = source.text(key)
    for key, name in (("transparent", "transparent"), ("hideTimeOverride", "hide_time")):
        if source.flag(key):
            panel[name] = True
    points = source.number("maxDataPoints")
    if points is not None and points >= 1:
        panel["max_data_points"] = min(int(points), 11_000)
    repeat = _repeat(source)
    if repeat:
        panel["repeat"] = repeat
    found = [_panel_link(link, source) for link in source.entries("links")]
    if any(found):
        panel["links"] = [link for link in found if link]
    for key, what in (("alert", "an alert of the panel"), ("libraryPanel", "a library panel")):
        if key in source:
            source.lost(key, what, "is not supported; alerts are rules here")
    source.ignore(
        "id", "pluginVersion", "cacheTimeout", "queryCachingTTL", "span", "height", "editable",
        "error", "isNew", "scopedVars", "gridPos", "$$hashKey", "tableColumn", "datasource",
        "minSpan", "maxPerRow", "repeatDirection", "repeatPanelId", "repeatIteration", "repeat",
        "hideTimeOverride", "reverseYBuckets", "_autofilled", "pluginId", "__fixed",
    )  # fmt: skip
    return panel


def _repeat(source: Source) -> Json | None:
    name = source.text("repeat")
    if not name:
        return None
    direction = "vertical" if source.text("repeatDirection") == "v" else "horizontal"
    most = source.number("maxPerRow")
    least_span = source.number("minSpan")
    if most is None and least_span:
        # The largest divisor of 24 that leaves each panel its least width.
        most = max(n for n in (1, 2, 3, 4, 6, 8, 12, 24) if n <= max(24 / least_span, 1))
    limit = min(max(int(most or 4), 1), 24)
    return {"variable": name, "direction": direction, "max_per_row": limit}


def _panel_link(link: object, source: Source) -> Json | None:
    """A link of today, or the older kind that names a dashboard."""
    if isinstance(link, dict) and not link.get("url"):
        address = link.get("dashUri") or link.get("dashboard")
        if address:
            link = {**link, "url": f"/d/{address}"}
    return link_of(link, source.findings, source.place("links"))


def _options(source: Source, kind: str) -> Source:
    """The options; older panels of some types have theirs in the panel itself."""
    moved: Mapping[str, str] = _MOVED_OPTIONS.get(kind, {})
    given = source.take("options", {})
    options: Json = dict(given) if isinstance(given, dict) else {}
    for key, name in moved.items():
        value = source.take(key)
        if value is not None and name:
            options.setdefault(name, value)
    field_options = options.pop("fieldOptions", None)
    if isinstance(field_options, dict):
        reduce = {key: field_options[key] for key in ("calcs", "values") if key in field_options}
        options.setdefault("reduceOptions", reduce)
    found = Source(options, source.place("options"), source.findings)
    # Read here, reported with the panel.
    source.adopt(found)
    return found


_MOVED_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "text": {"mode": "mode", "content": "content"},
    "dashlist": {
        "tags": "tags",
        "query": "query",
        "limit": "maxItems",
        "starred": "showStarred",
        "recent": "showRecentlyViewed",
        "search": "showSearch",
        "headings": "showHeadings",
        "folderId": "",
    },
    "alertlist": {
        "limit": "maxItems",
        "nameFilter": "alertName",
        "sortOrder": "sortOrder",
        "show": "",
        "onlyAlertsOnDashboard": "",
        "stateFilter": "",
        "dashboardTags": "",
        "dashboardFilter": "",
        "folderId": "",
    },
    "piechart": {"pieType": "pieType"},
}


def _complete(panel: Json, source: Source, kind: str) -> None:
    """The ends that Grafana adds to panels of before version 8."""
    version = source.text("pluginVersion")
    is_old = not version or version.split(".")[0] in ("5", "6", "7")
    highest = _RANGES_OF_UNITS.get(panel["fields"].get("unit", ""))
    if is_old and highest is not None and kind in ("stat", "gauge", "bargauge"):
        panel["fields"].setdefault("min", 0)
        panel["fields"].setdefault("max", highest)


def _placeholder(source: Source, kind: str, grid: Json, panel_id: int) -> Json:
    source.lost("type", f"a panel of type {kind}", "is not supported; a text stands for it")
    panel = _common(source, "text", grid, panel_id)
    source.ignore(*[key for key, _ in source.items()])
    text = f"A panel of the type `{kind}` was here, which is not supported."
    return {**panel, "options": {"text": {"mode": "markdown", "content": text}}}


def _valid(panel: Json, source: Source) -> Json:
    """The panel without the values that no panel can have, which are reported."""
    for _ in range(20):
        try:
            Panel.model_validate(panel)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            what = f"{place_of(first)} {reason_of(first)}"
            source.findings.panel = str(panel.get("title") or "")
            source.findings.lost(source.path, what, "is not valid")
            _remove(panel, first["loc"])
        else:
            return panel
    content = "The panel could not be read."
    return {
        "id": panel["id"],
        "type": "text",
        "title": str(panel.get("title") or "")[:MAX_TEXT],
        "grid": panel["grid"],
        "options": {"text": {"mode": "markdown", "content": content}},
    }


def _remove(document: Any, place: tuple[int | str, ...]) -> None:
    """Remove what is at a place, or else the closest thing around it."""
    parents = [document]
    for part in place[:-1]:
        try:
            parents.append(parents[-1][part])
        except (KeyError, IndexError, TypeError):
            break
    for depth in range(len(parents) - 1, -1, -1):
        parent, part = parents[depth], place[depth]
        if isinstance(parent, dict) and part in parent:
            del parent[part]
            return
        if isinstance(parent, list) and isinstance(part, int) and part < len(parent):
            del parent[part]
            return
