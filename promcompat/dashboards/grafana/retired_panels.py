"""The retired panel types `singlestat`, `table` of before 2020 and `heatmap` of before 2022."""

from typing import Any, Final

from promcompat.dashboards.grafana.source import Source, number_of, objects_of

Json = dict[str, Any]

_REDUCERS: Final = {
    "current": "lastNotNull",
    "avg": "mean",
    "min": "min",
    "max": "max",
    "total": "sum",
    "first": "firstNotNull",
    "delta": "delta",
    "diff": "diff",
    "range": "range",
    "name": "lastNotNull",
    "last_time": "lastNotNull",
}
_SINGLESTAT_COLORS: Final = ("#299c46", "rgba(237, 129, 40, 0.89)", "#d44a3a")


def modern_singlestat(old: Source) -> Json:
    """The panel as `stat`, or as `gauge` if it shows one."""
    gauge = old.child("gauge")
    is_gauge = gauge.flag("show")
    value_name = old.text("valueName", "avg")
    defaults: Json = {"unit": old.text("format"), "mappings": _value_maps(old)}
    decimals = old.number("decimals")
    if decimals is not None:
        defaults["decimals"] = decimals
    if old.text("nullText"):
        defaults["noValue"] = old.text("nullText")
    if is_gauge:
        defaults |= {"min": gauge.number("minValue"), "max": gauge.number("maxValue")}
    thresholds = _steps(old)
    if thresholds:
        defaults["thresholds"] = {"mode": "absolute", "steps": thresholds}
    column = old.text("tableColumn")
    reduce: Json = {
        "calcs": [_REDUCERS.get(value_name, "mean")],
        "fields": f"/^{column}$/" if column else "",
        "values": False,
    }
    options: Json = {"reduceOptions": reduce, "orientation": "horizontal"}
    if is_gauge:
        options["showThresholdLabels"] = gauge.flag("thresholdLabels")
        options["showThresholdMarkers"] = gauge.flag("thresholdMarkers", True)
    else:
        options |= _stat_options(old, value_name)
    return _finished_singlestat(old, gauge, defaults, options, is_gauge=is_gauge)


def _stat_options(old: Source, value_name: str) -> Json:
    sparkline = old.child("sparkline")
    sparkline.ignore("full", "lineColor", "fillColor", "ymin", "ymax")
    color = "none"
    if old.flag("colorBackground"):
        color = "background"
    elif old.flag("colorValue"):
        color = "value"
    return {
        "graphMode": "area" if sparkline.flag("show") else "none",
        "colorMode": color,
        "textMode": "name" if value_name == "name" else "auto",
    }


def _finished_singlestat(
    old: Source, gauge: Source, defaults: Json, options: Json, *, is_gauge: bool
) -> Json:
    for key in ("prefix", "postfix"):
        if old.text(key):
            old.lost(key, f"the {key} {old.text(key)!r}", "Grafana drops it too; use a unit")
    gauge.ignore("minValue", "maxValue", "thresholdLabels", "thresholdMarkers")
    if not is_gauge:
        # A panel that Grafana wrote again has the new options too, which count.
        written = Source(old.take("options"), old.path, old.findings)
        options |= {key: value for key, value in written.items() if key != "fieldOptions"}
    written_fields = old.take("fieldConfig")
    fields = {"defaults": defaults, "overrides": []}
    if isinstance(written_fields, dict) and written_fields.get("defaults"):
        fields = {
            "defaults": {**defaults, **written_fields["defaults"]},
            "overrides": written_fields.get("overrides") or [],
        }
    old.ignore(
        "colorBackground", "colorValue", "colorPostfix", "colorPrefix", "colors", "gauge",
        "mappingType", "mappingTypes", "nullPointMode", "postfixFontSize", "prefixFontSize",
        "rangeMaps", "sparkline", "thresholds", "valueFontSize", "valueMaps", "editable", "error",
        "options", "renderer",
    )  # fmt: skip
    return {
        **dict(old.items()),
        "type": "gauge" if is_gauge else "stat",
        "fieldConfig": fields,
        "options": options,
    }


def _steps(old: Source) -> list[Json]:
    """The steps of `thresholds: "a,b"` with `colors`, of which the first is the base."""
    values = [number_of(text.strip()) for text in old.text("thresholds").split(",")]
    known = [value for value in values if value is not None]
    if not known:
        return []
    colors = old.texts("colors") or list(_SINGLESTAT_COLORS)
    steps: list[Json] = [{"value": None, "color": colors[0]}]
    for position, value in enumerate(known, 1):
        steps.append({"value": value, "color": colors[min(position, len(colors) - 1)]})
    return steps


def _value_maps(old: Source) -> list[Json]:
    if old.number("mappingType") == 2:
        return [
            {"type": 2, "from": entry.get("from"), "to": entry.get("to"), "text": entry.get("text")}
            for entry in objects_of(old.take("rangeMaps"))
        ]
    return [
        {"type": 1, "value": entry.get("value"), "text": entry.get("text")}
        for entry in objects_of(old.take("valueMaps"))
    ]


_TABLE_TRANSFORMATIONS: Final[dict[str, Json | None]] = {
    "timeseries_to_rows": {"id": "seriesToRows", "options": {}},
    "timeseries_to_columns": {"id": "joinByField", "options": {"byField": "Time"}},
    "table": {"id": "merge", "options": {}},
}


def modern_table(old: Source) -> Json:
    """The table of before 2020: `styles` become defaults and overrides."""
    defaults: Json = {"custom": {}}
    overrides: list[Json] = []
    for style in old.children("styles"):
        pattern = style.text("pattern")
        settings = _style(style)
        if pattern == "/.*/":
            for key, value in settings.items():
                name = key.removeprefix("custom.")
                (defaults["custom"] if name != key else defaults)[name] = value
            continue
        is_pattern = len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/")
        properties = [{"id": key, "value": value} for key, value in settings.items()]
        matcher = {"id": "byRegexp" if is_pattern else "byName", "options": pattern}
        overrides.append({"matcher": matcher, "properties": properties})
    sort = old.child("sort")
    sort.ignore("col", "desc")
    if sort.take("col") is not None:
        old.changed("sort", "rows sorted by the number of a column", "click the column's title")
    transformations = old.entries("transformations")
    if not transformations:
        transformations = _table_transformations(old)
    old.ignore(
        "columns", "fontSize", "pageSize", "scroll", "showHeader", "filterNull", "options",
        "fieldConfig", "editable", "error", "transform",
    )  # fmt: skip
    return {
        **dict(old.items()),
        "transformations": transformations,
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": {"showHeader": True},
    }


def _table_transformations(old: Source) -> list[Json]:
    kind = old.text("transform")
    if kind == "timeseries_aggregations":
        columns = []
        for column in old.children("columns"):
            column.ignore("text")
            columns.append(column.text("value"))
        reducers = ["count" if name == "count" else _REDUCERS.get(name, "mean") for name in columns]
        return [{"id": "reduce", "options": {"reducers": reducers, "includeTimeField": False}}]
    found = _TABLE_TRANSFORMATIONS.get(kind)
    if kind and found is None:
        old.lost("transform", f"the transformation {kind}")
    return [] if found is None else [found]


def _style(style: Source) -> Json:
    """The properties of a style, by the names that overrides have."""
    settings: Json = {}
    if style.text("alias"):
        settings["displayName"] = style.text("alias")
    settings |= {**_style_format(style), **_style_link(style)}
    if style.text("align") not in ("", "auto"):
        settings["custom.align"] = style.text("align")
    colored = {"cell": "color-background", "row": "color-background", "value": "color-text"}
    mode = colored.get(style.text("colorMode"))
    if mode:
        settings["custom.displayMode"] = mode
        settings["thresholds"] = {"mode": "absolute", "steps": _style_steps(style)}
    style.ignore(
        "colorMode", "colors", "thresholds", "dateFormat", "decimals", "unit", "$$hashKey",
        "mappingType", "preserveFormat", "sanitize", "linkTargetBlank", "linkTooltip", "linkUrl",
        "valueMaps", "rangeMaps", "align", "link",
    )  # fmt: skip
    if style.number("mappingType") in (1, 2):
        maps = _value_maps(style)
        if maps:
            settings["mappings"] = maps
    return settings


def _style_format(style: Source) -> Json:
    match style.text("type", "number"):
        case "hidden":
            return {"custom.hidden": True}
        case "date":
            return {"unit": "time: " + style.text("dateFormat", "YYYY-MM-DD HH:mm:ss")}
        case "number":
            found = {"unit": style.text("unit") or None, "decimals": style.number("decimals")}
            return {key: value for key, value in found.items() if value is not None}
        case _:
            return {}


def _style_link(style: Source) -> Json:
    url = style.text("linkUrl")
    if not style.flag("link") or not url:
        return {}
    title = style.text("linkTooltip")
    link = {"title": title, "url": url, "targetBlank": style.flag("linkTargetBlank")}
    return {"links": [link]}


def _style_steps(style: Source) -> list[Json]:
    values = [number_of(text) for text in style.texts("thresholds")]
    colors = style.texts("colors") or ["green", "orange", "red"]
    steps: list[Json] = [{"value": None, "color": colors[0]}]
    known = [value for value in values if value is not None]
    for position, value in enumerate(known, 1):
        steps.append({"value": value, "color": colors[min(position, len(colors) - 1)]})
    return steps


def modern_heatmap(old: Source) -> Json:
    """The heatmap of before 2022, as its new options."""
    has_buckets = old.text("dataFormat", "timeseries") == "tsbuckets"
    color = old.child("color")
    mode = color.text("mode", "spectrum")
    options: Json = {
        "calculate": not has_buckets,
        "color": {
            "mode": "opacity" if mode == "opacity" else "scheme",
            "scheme": color.text("colorScheme", "interpolateOranges").removeprefix("interpolate"),
            "fill": color.text("cardColor", "dark-orange"),
            "scale": "linear" if color.text("colorScale") == "linear" else "exponential",
            "exponent": color.number("exponent") or 0.5,
        },
        "legend": {"show": old.child("legend").flag("show")},
        "rowsFrame": {
            "layout": {"upper": "ge", "lower": "le"}.get(old.text("yBucketBound"), "auto")
        },
    }
    for key in ("min", "max"):
        number = color.number(key)
        if number is not None:
            options["color"][key] = number
    if old.flag("hideZeroBuckets"):
        options["filterValues"] = {"le": 1e-9}
    _heatmap_axes(old, options, has_buckets=has_buckets)
    for name in ("cards", "tooltip"):
        part = old.child(name)
        part.ignore("cardPadding", "cardRound", "show", "showHistogram")
    old.ignore(
        "highlightCards", "reverseYBuckets", "xBucketNumber", "xBucketSize", "yBucketNumber",
        "yBucketSize", "heatmap", "editable", "error", "options", "fieldConfig",
    )  # fmt: skip
    return {**dict(old.items()), "options": options, "fieldConfig": {"defaults": {}}}


def _heatmap_axes(old: Source, options: Json, *, has_buckets: bool) -> None:
    old.child("xAxis").ignore("show")
    axis = old.child("yAxis")
    axis.ignore("show", "splitFactor")
    base = axis.number("logBase")
    options["yAxis"] = {
        "unit": axis.text("format", "short"),
        "decimals": axis.number("decimals"),
        "min": axis.number("min"),
        "max": axis.number("max"),
        "reverse": old.flag("reverseYBuckets"),
    }
    if has_buckets:
        return
    calculation: Json = {}
    for ours, number, size in (
        ("xBuckets", "xBucketNumber", "xBucketSize"),
        ("yBuckets", "yBucketNumber", "yBucketSize"),
    ):
        if old.take(size) not in (None, ""):
            calculation[ours] = {"mode": "size", "value": str(old.take(size))}
        elif old.take(number) is not None:
            calculation[ours] = {"mode": "count", "value": str(old.take(number))}
    if base in (2, 10):
        scale = {"type": "log", "log": base}
        calculation.setdefault("yBuckets", {})["scale"] = scale
    options["calculation"] = calculation
