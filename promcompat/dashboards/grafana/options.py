"""The options of Grafana's panels, by the type of the panel."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from promcompat.dashboards.grafana.source import Source, known, number_of, same

Json = dict[str, Any]


_SORTS: Final = same("none", "asc", "desc")
_ORIENTATIONS: Final = same("auto", "horizontal", "vertical")


def _legend(options: Source) -> Json:
    legend = options.child("legend")
    mode = legend.choice("displayMode", same("list", "table", "hidden"), "list")
    if legend.flag("asTable"):
        mode = "table"
    if not legend.flag("showLegend", True) or mode == "hidden":
        mode = "hidden"
    found: Json = {
        "mode": mode,
        "placement": legend.choice("placement", same("bottom", "right"), "bottom"),
        "calcs": legend.texts("calcs"),
    }
    values = [value for value in legend.texts("values") if value in ("value", "percent")]
    if values:
        found["values"] = values
    if legend.text("sortBy"):
        found |= {"sort_by": legend.text("sortBy"), "sort_desc": legend.flag("sortDesc")}
    width = legend.number("width")
    if width:
        found["width"] = width
    legend.ignore("isVisible", "sortDesc", "values", "overflow", "enableFacetedFilter", "limit")
    return {"legend": found}


def _tooltip(options: Source) -> Json:
    tooltip = options.child("tooltip")
    mode = tooltip.choice("mode", {**same("single", "multi", "none"), "all": "multi"}, "single")
    found: Json = {"mode": mode, "sort": tooltip.choice("sort", _SORTS, "none")}
    if tooltip.flag("hideZeros"):
        found["hide_zeros"] = True
    tooltip.ignore("maxHeight", "maxWidth", "yHistogram", "showColorScale", "xHistogram")
    return {"tooltip": found}


def _reduce(options: Source) -> Json:
    """`calcs` that are empty stand for `last`."""
    source = options.child("reduceOptions")
    is_given = source.take("calcs") is not None
    calcs = source.texts("calcs") or ["last" if is_given else "lastNotNull"]
    found: Json = {
        "calcs": calcs,
        "fields": source.text("fields"),
        "values": source.flag("values"),
    }
    limit = source.number("limit")
    if limit is not None and limit >= 1:
        found["limit"] = int(limit)
    source.ignore("defaults", "overrides", "thresholds", "mappings")
    return {"reduce": found}


def _text_size(options: Source) -> Json:
    size = options.child("text")
    found = known({"title": size.number("titleSize"), "value": size.number("valueSize")})
    size.ignore("percentSize")
    return {"text_size": found} if found else {}


def timeseries_options(options: Source) -> Json:
    """Of graphs."""
    options.ignore("graph", "alertThreshold", "dataLinks", "timezone", "annotations", "timeCompare")
    options.ignore_if("orientation", "auto", "horizontal")
    return {**_legend(options), **_tooltip(options)}


def _stat_options(options: Source) -> Json:
    found = known(
        {
            **_reduce(options),
            "orientation": options.choice("orientation", _ORIENTATIONS, "auto"),
            "color_mode": options.choice(
                "colorMode", same("none", "value", "background", "background_solid"), "value"
            ),
            "graph_mode": options.choice("graphMode", same("none", "area"), "area"),
            "text_mode": options.choice(
                "textMode", same("auto", "value", "value_and_name", "name", "none"), "auto"
            ),
            "justify": options.choice("justifyMode", same("auto", "center"), "auto"),
            **_text_size(options),
        }
    )
    if options.flag("showPercentChange"):
        found["percent_change"] = True
    options.ignore_if("percentChangeColorMode", "standard")
    if not options.flag("showPercentChange"):
        options.ignore("percentChangeColorMode")
    options.ignore("wideLayout", "fieldOptions", "sparkline", "displayMode")
    return found


def _gauge_options(options: Source) -> Json:
    options.ignore(
        "minVizHeight", "minVizWidth", "sizing", "fieldOptions", "legend", "shape", "barShape",
        "barWidthFactor", "effects", "endpointMarker", "segmentCount", "segmentSpacing",
        "sparkline", "neutral", "textMode",
    )  # fmt: skip
    return {
        **_reduce(options),
        "orientation": options.choice("orientation", _ORIENTATIONS, "auto"),
        "threshold_labels": options.flag("showThresholdLabels"),
        "threshold_markers": options.flag("showThresholdMarkers", True),
        **_text_size(options),
    }


def _bargauge_options(options: Source) -> Json:
    options.ignore(
        "minVizHeight", "minVizWidth", "maxVizHeight", "sizing", "namePlacement", "fieldOptions"
    )
    options.child("legend").ignore("calcs", "displayMode", "placement", "showLegend")
    return {
        **_reduce(options),
        "orientation": options.choice("orientation", _ORIENTATIONS, "auto"),
        "bar_mode": options.choice("displayMode", same("basic", "gradient", "lcd"), "gradient"),
        "show_unfilled": options.flag("showUnfilled", True),
        "value_mode": options.choice("valueMode", same("color", "text", "hidden"), "color"),
        **_text_size(options),
    }


def _pie_options(options: Source) -> Json:
    labels = options.texts("displayLabels")
    return {
        **_reduce(options),
        **_legend(options),
        **_tooltip(options),
        "pie": options.choice("pieType", same("pie", "donut"), "pie"),
        "pie_labels": [text for text in labels if text in ("name", "value", "percent")],
        "pie_sort": options.choice("sort", _SORTS, "desc"),
    }


def _table_options(options: Source) -> Json:
    found: Json = {"show_header": options.flag("showHeader", True)}
    columns = [
        {"name": column.text("displayName"), "desc": column.flag("desc")}
        for column in options.children("sortBy")
    ]
    if columns:
        found["sort_by"] = columns
    frame = options.number("frameIndex")
    if frame:
        found["frame"] = int(frame)
    height = options.choice("cellHeight", same("sm", "md", "lg"))
    if height:
        found["cell_height"] = height
    footer = options.child("footer")
    found |= _table_footer(footer)
    if options.flag("enablePagination"):
        found["pagination"] = True
    options.ignore("showTypeIcons", "frozenColumns", "disableKeyboardEvents", "maxRowHeight")
    return found


def _table_footer(footer: Source) -> Json:
    found: Json = {}
    if footer.flag("enablePagination"):
        found["pagination"] = True
    calcs = footer.texts("reducer")
    if footer.flag("show") and calcs:
        fields = footer.texts("fields")
        found["footer"] = {"calcs": calcs, **({"fields": fields} if fields else {})}
    footer.ignore("fields", "countRows", "reducer")
    return found


def _buckets(source: Source) -> Json | None:
    found: Json = {}
    mode, value = source.text("mode"), source.text("value")
    number = number_of(value)
    if value and mode == "count" and number:
        found["count"] = int(number)
    elif value and number is not None:
        found["size"] = number
    elif value:
        found["size_text"] = value
    scale = source.child("scale")
    if scale.text("type") == "log":
        found["log"] = scale.choice("log", {2: 2, 10: 10, "2": 2, "10": 10}, 10)
    scale.ignore("log", "linearThreshold")
    return found or None


def _heatmap_options(options: Source) -> Json:
    calculation = options.child("calculation")
    color, axis = options.child("color"), options.child("yAxis")
    rows, cells = options.child("rowsFrame"), options.child("cellValues")
    names = {"auto": "auto", "unknown": "middle", "le": "upper", "ge": "lower"}
    heatmap = known(
        {
            "calculate": options.flag("calculate"),
            "x_buckets": _buckets(calculation.child("xBuckets")),
            "y_buckets": _buckets(calculation.child("yBuckets")),
            "color": _heatmap_color(color),
            "y_axis": _heatmap_axis(axis),
            "hide_up_to": options.child("filterValues").number("le"),
            "names_are": rows.choice("layout", names, "auto"),
            "cell_unit": cells.text("unit") or None,
            "cell_decimals": _decimals(cells),
            "cell_gap": options.number("cellGap"),
            "show_legend": options.child("legend").flag("show", True),
        }
    )
    rows.ignore("value")
    options.child("exemplars").ignore("color")
    options.child("tooltip").ignore(
        "show", "yHistogram", "mode", "showColorScale", "maxHeight", "sort"
    )
    options.ignore(
        "cellRadius", "cellSize", "showValue", "dataFormat", "cards", "highlightCards", "xAxis",
        "xBucketNumber", "xBucketSize", "yBucketBound", "yBucketNumber", "yBucketSize",
        "hideZeroBuckets", "reverseYBuckets", "selectionMode", "annotations",
    )  # fmt: skip
    return {"heatmap": heatmap}


def _decimals(source: Source) -> int | None:
    number = source.number("decimals")
    return None if number is None else max(int(number), 0)


def _heatmap_color(color: Source) -> Json:
    steps = color.number("steps")
    exponent = color.number("exponent")
    return known(
        {
            "mode": color.choice("mode", same("scheme", "opacity"), "scheme"),
            "scheme": color.text("scheme", "Oranges"),
            "fill": color.text("fill", "dark-orange"),
            "scale": color.choice("scale", same("exponential", "linear"), "exponential"),
            "exponent": exponent if exponent else 0.5,
            "steps": 64 if steps is None else min(max(int(steps), 2), 128),
            "reverse": color.flag("reverse"),
            "min": color.number("min"),
            "max": color.number("max"),
        }
    )


def _heatmap_axis(axis: Source) -> Json:
    axis.ignore("axisWidth", "axisBorderShow", "axisGridShow", "axisCenteredZero", "axisColorMode")
    axis.child("scaleDistribution").ignore("type", "log")
    placement = axis.choice(
        "axisPlacement", {"left": "left", "auto": "left", "right": "right", "hidden": "hidden"}
    )
    return known(
        {
            "unit": axis.text("unit") or None,
            "decimals": _decimals(axis),
            "min": axis.number("min"),
            "max": axis.number("max"),
            "label": axis.text("axisLabel") or None,
            "placement": placement,
            "reverse": axis.flag("reverse") or None,
        }
    )


def _histogram_options(options: Source) -> Json:
    found: Json = {**_legend(options), **_tooltip(options)}
    count = options.number("bucketCount")
    found |= known(
        {
            "bucket_count": int(count) if count else None,
            "bucket_size": options.number("bucketSize"),
            "bucket_offset": options.number("bucketOffset"),
            "combine": options.flag("combine"),
        }
    )
    return found


def _status_options(options: Source) -> Json:
    found = {
        **_legend(options),
        **_tooltip(options),
        "show_value": options.choice("showValue", same("auto", "always", "never"), "auto"),
        "merge_values": options.flag("mergeValues", True),
        "align_value": options.choice("alignValue", same("left", "center", "right"), "left"),
    }
    for key, name in (("rowHeight", "row_height"), ("colWidth", "column_width")):
        number = options.number(key)
        if number is not None and 0 < number <= 1:
            found[name] = number
    options.ignore("perPage", "pageSize", "alignValue")
    return found


def _text_options(options: Source) -> Json:
    modes = {**same("markdown", "html", "code"), "text": "code"}
    mode = options.choice("mode", modes, "markdown")
    options.child("code").ignore("language", "showLineNumbers", "showMiniMap")
    return {"text": {"mode": mode, "content": options.text("content")}}


def _dashboard_list(options: Source) -> Json:
    options.ignore(
        "showHeadings", "keepTime", "includeVars", "folderId", "folderUID", "showFolderNames"
    )
    options.ignore_if("showSearch", True)
    if options.flag("showStarred"):
        options.changed("showStarred", "starred dashboards", "dashboards are not starred here")
    if options.flag("showRecentlyViewed"):
        options.changed("showRecentlyViewed", "recent dashboards", "visits are not recorded here")
    count = options.number("maxItems")
    found: Json = {"tags": options.texts("tags"), "search": options.text("query")}
    if count is not None and count >= 1:
        found["max_items"] = int(count)
    return {"dashboards": found}


def _alert_list(options: Source) -> Json:
    states = options.child("stateFilter")
    names = {"firing": "firing", "pending": "pending", "inactive": "inactive", "normal": "inactive"}
    chosen = [ours for theirs, ours in names.items() if states.flag(theirs)]
    states.ignore(
        "error", "noData", "recovering", "ok", "paused", "alerting", "execution_error", "no_data"
    )
    found: Json = {
        "states": list(dict.fromkeys(chosen)) or ["firing", "pending"],
        "name": options.text("alertName") or options.text("nameFilter"),
        "labels": options.text("alertInstanceLabelFilter"),
    }
    count = options.number("maxItems")
    if count is not None and count >= 1:
        found["max_items"] = int(count)
    orders = {1: "name", 2: "name_desc", 3: "importance", 4: "newest", 5: "oldest"}
    found["sort"] = options.choice("sortOrder", orders, "name")
    options.ignore(
        "alertName", "nameFilter", "dashboardFilter", "folder", "groupBy", "groupMode", "show",
        "showInstances", "showOptions", "viewMode", "tags", "datasource", "folderId",
        "dashboardTitle",
        "dashboardAlerts", "showInactiveAlerts",
    )  # fmt: skip
    return {"alerts": found}


OPTIONS_OF: Final[Mapping[str, Callable[[Source], Json]]] = {
    "timeseries": timeseries_options,
    "stat": _stat_options,
    "gauge": _gauge_options,
    "bargauge": _bargauge_options,
    "piechart": _pie_options,
    "table": _table_options,
    "heatmap": _heatmap_options,
    "histogram": _histogram_options,
    "status-history": _status_options,
    "state-timeline": _status_options,
    "text": _text_options,
    "dashlist": _dashboard_list,
    "alertlist": _alert_list,
}
