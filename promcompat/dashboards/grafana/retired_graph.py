"""The retired panel type `graph` as a `timeseries` panel, as Grafana itself migrates it."""

from collections.abc import Sequence
from typing import Any, Final

from promcompat.dashboards.grafana.source import Source, number_of

Json = dict[str, Any]

_CALCS: Final = {
    "min": "min",
    "max": "max",
    "avg": "mean",
    "current": "lastNotNull",
    "total": "sum",
}
_LEVEL_COLORS: Final = {"critical": "red", "warning": "orange", "ok": "green"}
_TRANSPARENT: Final = "transparent"


def modern_graph(old: Source) -> Json:
    """The panel with `fieldConfig` and `options`; what is not of graphs is passed on."""
    custom: Json = {}
    defaults: Json = {"color": {"mode": "palette-classic"}, "custom": custom}
    _read_drawing(old, custom)
    left, right = _read_axes(old, defaults, custom)
    _read_thresholds(old, defaults, custom)
    overrides = [*_alias_colors(old), *_series_overrides(old, left, right)]
    options = {"legend": _legend(old), "tooltip": _tooltip(old)}
    old.ignore(
        "renderer", "dashLength", "dashes", "spaceLength", "hiddenSeries", "decimals",
        "bars", "pointradius", "percentage", "targetBlank", "editable", "error", "grid",
        "linewidth", "xaxis", "x-axis", "y-axis", "zerofill", "fieldConfig", "options",
        "timeRegions",
        "y_formats", "y-formats",
    )  # fmt: skip
    return {
        **dict(old.items()),
        "type": "timeseries",
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": options,
    }


def _read_drawing(old: Source, custom: Json) -> None:
    bars, lines, points = old.flag("bars"), old.flag("lines", True), old.flag("points")
    custom["drawStyle"] = "bars" if bars else "line" if lines else "points"
    custom["lineWidth"] = old.number("linewidth") if lines else 0
    if custom["lineWidth"] is None:
        custom["lineWidth"] = 1
    fill = old.number("fill")
    custom["fillOpacity"] = 100 if bars else 10 * (1 if fill is None else fill)
    gradient = old.number("fillGradient")
    if gradient:
        custom |= {"gradientMode": "opacity", "fillOpacity": gradient * 10}
    custom["showPoints"] = "auto" if points else "never"
    radius = old.number("pointradius")
    if points and radius is not None:
        custom["pointSize"] = 2 + 2 * radius
    null_mode = old.text("nullPointMode")
    if null_mode == "connected":
        custom["spanNulls"] = True
    if old.flag("steppedLine"):
        custom["lineInterpolation"] = "stepAfter"
    if old.flag("dashes"):
        custom["lineStyle"] = _dashes(old)
    if old.flag("stack"):
        custom["stacking"] = {"mode": "normal", "group": "A"}
        if old.flag("percentage"):
            custom["stacking"]["mode"] = "percent"


def _dashes(source: Source) -> Json:
    dash, gap = source.number("dashLength"), source.number("spaceLength")
    return {"fill": "dash", "dash": [dash or 10, gap or 10]}


def _read_axes(old: Source, defaults: Json, custom: Json) -> tuple[Json, Json]:
    """The settings of the left and the right axis; those of the left one become the defaults."""
    axes = list(old.children("yaxes"))
    xaxis = old.child("xaxis")
    xaxis.ignore("buckets", "name", "show", "values", "format", "logBase", "min", "max")
    mode = xaxis.text("mode", "time")
    if mode not in ("time", ""):
        old.lost("xaxis.mode", f"the x axis shows {mode}", "only time is supported")
    yaxis = old.child("yaxis")
    yaxis.ignore("align", "alignLevel")
    settings = [_axis(axis) for axis in axes[:2]]
    settings += [{}] * (2 - len(settings))
    formats = old.texts("y_formats") or old.texts("y-formats")
    for axis, unit in zip(settings, formats, strict=False):
        axis.setdefault("unit", unit)
    for key, value in settings[0].items():
        if key.startswith("custom."):
            custom[key.removeprefix("custom.")] = value
        else:
            defaults[key] = value
    decimals = old.number("decimals")
    if decimals is not None:
        defaults["decimals"] = decimals
    return settings[0], settings[1]


def _axis(axis: Source) -> Json:
    found: Json = {"unit": axis.text("format")}
    for key in ("min", "max", "decimals"):
        number = number_of(axis.take(key))
        if number is not None:
            found[key] = number
    if axis.text("label"):
        found["custom.axisLabel"] = axis.text("label")
    base = axis.number("logBase")
    if base in (2, 10):
        found["custom.scaleDistribution"] = {"type": "log", "log": base}
    elif base not in (None, 0, 1):
        axis.lost(
            "logBase", f"an axis with the logarithm of base {base}", "only 2 and 10 are drawn"
        )
    if not axis.flag("show", True):
        found["custom.axisPlacement"] = "hidden"
    axis.ignore("$$hashKey")
    return {key: value for key, value in found.items() if value != ""}


def _alias_colors(old: Source) -> list[Json]:
    colors = old.child("aliasColors")
    return [
        _override("byName", name, {"color": {"mode": "fixed", "fixedColor": color}})
        for name, color in colors.items()
        if isinstance(color, str)
    ]


def _override(matcher: str, name: str, settings: Json) -> Json:
    properties = [{"id": key, "value": value} for key, value in settings.items()]
    return {"matcher": {"id": matcher, "options": name}, "properties": properties}


def _series_overrides(old: Source, left: Json, right: Json) -> list[Json]:
    found = []
    for series in old.children("seriesOverrides"):
        alias = series.text("alias")
        series.ignore("$$hashKey", "zindex", "legend")
        settings = _series_settings(series, left, right)
        if series.take("legend") is False:
            settings["custom.hideFrom"] = {"viz": False, "legend": True, "tooltip": False}
        if not alias or not settings:
            continue
        is_pattern = len(alias) > 1 and alias.startswith("/") and alias.endswith("/")
        found.append(_override("byRegexp" if is_pattern else "byName", alias, settings))
    return found


def _series_settings(series: Source, left: Json, right: Json) -> Json:
    settings: Json = {}
    if series.text("color"):
        settings["color"] = {"mode": "fixed", "fixedColor": series.text("color")}
    if series.text("transform"):
        settings["custom.transform"] = series.text("transform")
    if series.number("yaxis") == 2:
        settings["custom.axisPlacement"] = "right"
        settings |= {key: value for key, value in right.items() if left.get(key) != value}
    for key, target, factor in (("fill", "fillOpacity", 10), ("linewidth", "lineWidth", 1)):
        number = series.number(key)
        if number is not None:
            settings[f"custom.{target}"] = number * factor
    gradient = series.number("fillGradient")
    if gradient:
        settings |= {"custom.gradientMode": "opacity", "custom.fillOpacity": gradient * 10}
    if series.text("fillBelowTo"):
        settings["custom.fillBelowTo"] = series.text("fillBelowTo")
    return {**settings, **_series_drawing(series)}


def _series_drawing(series: Source) -> Json:
    settings = _series_style(series)
    stack = series.take("stack")
    if stack is not None:
        is_off = stack is False
        group = str(stack) if isinstance(stack, str) and stack not in ("true", "false") else "A"
        settings["custom.stacking"] = {"mode": "none" if is_off else "normal", "group": group}
    if series.flag("steppedLine"):
        settings["custom.lineInterpolation"] = "stepAfter"
    if series.take("nullPointMode") == "connected":
        settings["custom.spanNulls"] = True
    if series.flag("dashes"):
        settings["custom.lineStyle"] = _dashes(series)
    series.ignore("dashLength", "spaceLength")
    if series.take("hiddenSeries"):
        settings["custom.hideFrom"] = {"viz": True, "legend": False, "tooltip": False}
    return settings


def _series_style(series: Source) -> Json:
    """Lines, bars or points."""
    settings: Json = {}
    lines, bars, points = series.take("lines"), series.take("bars"), series.take("points")
    if bars:
        settings |= {"custom.drawStyle": "bars", "custom.fillOpacity": 100}
    elif lines:
        settings |= {"custom.drawStyle": "line"}
    elif points and lines is False:
        settings |= {"custom.drawStyle": "points"}
    if lines is False and not bars:
        settings["custom.lineWidth"] = 0
    if points:
        settings["custom.showPoints"] = "always"
    radius = series.number("pointradius")
    if points and radius is not None:
        settings["custom.pointSize"] = 2 + 2 * radius
    return settings


def _read_thresholds(old: Source, defaults: Json, custom: Json) -> None:
    steps: list[Json] = []
    styles: set[str] = set()
    limits = list(old.children("thresholds"))
    for limit in sorted(limits, key=_value_of):
        limit.ignore("$$hashKey", "visible", "colorMode", "lineColor", "yaxis")
        styles |= _threshold_styles(limit)
        color = str(
            _LEVEL_COLORS.get(limit.text("colorMode"))
            or limit.take("fillColor") or limit.take("lineColor") or "red"
        )  # fmt: skip
        _add_step(steps, _value_of(limit), color, is_upper=limit.text("op", "gt") == "gt")
    if steps:
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        mode = "+".join(style for style in ("line", "area") if style in styles) or "off"
        custom["thresholdsStyle"] = {"mode": mode}


def _value_of(limit: Source) -> float:
    return number_of(limit.take("value")) or 0


def _threshold_styles(limit: Source) -> set[str]:
    styles = {"line"} if limit.flag("line") else set()
    return styles | ({"area"} if limit.flag("fill") else set())


def _add_step(steps: list[Json], value: float, color: str, *, is_upper: bool) -> None:
    """`gt` colours what is above the value, `lt` what is below, up to the step before."""
    if not steps:
        steps.append({"value": None, "color": _TRANSPARENT if is_upper else color})
    elif not is_upper:
        steps[-1] = {**steps[-1], "color": color}
    steps.append({"value": value, "color": color if is_upper else _TRANSPARENT})


def _legend(old: Source) -> Json:
    legend = old.child("legend")
    calcs = [calc for key, calc in _CALCS.items() if legend.flag(key)]
    has_values = legend.flag("values")
    sort_key = legend.text("sort")
    result: Json = {
        "displayMode": "table" if legend.flag("alignAsTable") else "list",
        "showLegend": legend.flag("show", True),
        "placement": "right" if legend.flag("rightSide") else "bottom",
        "calcs": calcs if has_values else [],
    }
    if sort_key in _CALCS:
        result |= {"sortBy": _TITLES[_CALCS[sort_key]], "sortDesc": legend.flag("sortDesc")}
    width = legend.number("sideWidth")
    if width:
        result["width"] = width
    legend.ignore("hideEmpty", "hideZero", "sortDesc", "sideWidth", "total", "$$hashKey")
    return result


_TITLES: Final = {
    "min": "Min",
    "max": "Max",
    "mean": "Mean",
    "lastNotNull": "Last *",
    "sum": "Total",
}


def _tooltip(old: Source) -> Json:
    tooltip = old.child("tooltip")
    tooltip.ignore("value_type", "query_as_alias", "msResolution")
    orders: Sequence[str] = ("none", "asc", "desc")
    sort = int(tooltip.number("sort") or 0)
    is_shared = tooltip.flag("shared", True)
    return {
        "mode": "multi" if is_shared else "single",
        "sort": orders[sort] if 0 <= sort < len(orders) else "none",
    }
