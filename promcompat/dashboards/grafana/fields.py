"""Field settings of Grafana: one table for defaults and for overrides."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from promcompat.dashboards.grafana.source import (
    Findings,
    Source,
    known,
    number_of,
    objects_of,
    same,
    shown,
)

Json = dict[str, Any]


class NotConvertibleError(Exception):
    """The value has no counterpart; the message says what it is."""


_Convert = Callable[[Any, Source], Any]


def read_defaults(defaults: Source) -> Json:
    """The settings of `fieldConfig.defaults`."""
    settings: Json = {}
    defaults.ignore("unitScale", "nullValueMode", "writeable", "path", "description")
    custom = defaults.child("custom")
    for key, value in defaults.items():
        _apply(settings, key, value, defaults)
    for key, value in custom.items():
        _apply(settings, f"custom.{key}", value, custom)
    return settings


def read_overrides(config: Source) -> list[Json]:
    """The overrides; one whose matcher is unknown has no effect in Grafana either."""
    found = []
    for override in config.children("overrides"):
        override.ignore("__systemRef")
        settings: Json = {}
        for prop in override.children("properties"):
            _apply(settings, prop.text("id"), prop.take("value"), prop)
        matcher = read_matcher(override.child("matcher"))
        if matcher is not None:
            found.append({"matcher": matcher, "settings": settings})
    return found


def read_matcher(source: Source) -> Json | None:
    """A matcher, None for one that matches nothing."""
    kind, options = source.text("id"), source.take("options")
    source.ignore("scope", "unit")
    match kind:
        case "byName" | "byRegexp":
            by = "name" if kind == "byName" else "regexp"
            return {"by": by, "name": str(options or "")}
        case "byFrameRefID" | "byType":
            # A matcher without a value matches nothing.
            by = "query" if kind == "byFrameRefID" else "type"
            return {"by": by, "name": str(options)} if options else None
        case "byNames":
            values = options if isinstance(options, dict) else {"names": options or []}
            names = [str(name) for name in values.get("names") or []]
            return {"by": "names", "names": names, "exclude": values.get("mode") == "exclude"}
        case "byValue" if isinstance(options, dict):
            operand = number_of(options.get("value"))
            return {
                "by": "value",
                "calc": str(options.get("reducer", "")),
                "operator": str(options.get("op", "gte")),
                **({} if operand is None else {"operand": operand}),
            }
        case _:
            source.lost("id", f"the matcher {kind or 'without an id'}")
            return None


def _apply(settings: Json, key: str, value: Any, source: Source) -> None:
    """Add the setting of one property, or report it."""
    place = key.removeprefix("custom.") if not source.path.endswith("]") else "value"
    if value is None or key in _WITHOUT_EFFECT:
        return
    found = _PROPERTIES.get(key)
    if found is None:
        if value not in ("", [], {}, False):
            source.lost(place, f"{key} is {shown(value)}")
        return
    name, convert = found
    try:
        converted = convert(value, source)
    except NotConvertibleError as exc:
        source.lost(place, f"{key}: {exc}")
        return
    if converted is None:
        return
    if name == "cell" and "cell" in settings:
        converted = {**settings["cell"], **converted}
    settings[name] = converted


_WITHOUT_EFFECT: Final = {
    "custom.inspect",
    "custom.axisBorderShow",
    "displayNameFromDS",
}


def _text(value: Any, _source: Source) -> str | None:
    if isinstance(value, str):
        return value
    number = number_of(value)
    if number is None:
        raise NotConvertibleError(f"{shown(value)} is no text")
    return str(number)


def _number(value: Any, _source: Source) -> float | int | None:
    if value == "":
        return None
    number = number_of(value)
    if number is None:
        raise NotConvertibleError(f"{shown(value)} is no number")
    return number


def _decimals(value: Any, source: Source) -> int | None:
    number = _number(value, source)
    # Grafana shows what it cannot round to as whole numbers.
    return None if number is None else min(max(int(number), 0), 20)


def _percent(value: Any, source: Source) -> float | int | None:
    number = _number(value, source)
    return None if number is None else min(max(number, 0), 100)


def _size(value: Any, source: Source) -> float | int | None:
    number = _number(value, source)
    return None if number is None else max(number, 0)


def _column_width(value: Any, source: Source) -> float | int | None:
    number = _number(value, source)
    return None if not number or number < 1 else number


def _flag(value: Any, _source: Source) -> bool:
    return bool(value)


def _flag_or_ms(value: Any, _source: Source) -> bool | int:
    number = number_of(value)
    return bool(value) if number is None else max(int(number), 0)


def _one_of(names: Mapping[Any, Any]) -> _Convert:
    def convert(value: Any, _source: Source) -> Any:
        if not isinstance(value, str | int | bool) or value not in names:
            raise NotConvertibleError(f"{shown(value)} is not supported")
        return names[value]

    return convert


_COLOR_MODES: Final = {"palette-classic": "palette", "palette-classic-by-name": "palette"}


def _color(value: Any, source: Source) -> Json | None:
    if isinstance(value, str):
        return {"mode": "fixed", "fixed": value}
    if not isinstance(value, dict):
        raise NotConvertibleError(f"{shown(value)} is no colour")
    mode = str(value.get("mode") or "fixed")
    if mode == "palette-classic-by-name":
        source.findings.changed(source.path, "colours by name", "colours follow the order instead")
    if mode not in ("fixed", "shades", "thresholds", *_COLOR_MODES) and (
        not mode.startswith("continuous-")
    ):
        raise NotConvertibleError(f"the mode {mode} is not supported")
    color: Json = {"mode": _COLOR_MODES.get(mode, mode)}
    if value.get("fixedColor"):
        color["fixed"] = str(value["fixedColor"])
    if value.get("seriesBy") in ("last", "min", "max"):
        color["series_by"] = value["seriesBy"]
    return color


def _thresholds(value: Any, _source: Source) -> Json:
    if not isinstance(value, dict):
        raise NotConvertibleError(f"{shown(value)} are no thresholds")
    steps: list[Json] = []
    for step in objects_of(value.get("steps")):
        found: Json = {"color": str(step.get("color") or "green")}
        number = number_of(step.get("value"))
        if number is not None and steps:
            found["value"] = number
        steps.append(found)
    mode = "percentage" if value.get("mode") == "percentage" else "absolute"
    return {"mode": mode, "steps": steps}


def _mappings(value: Any, source: Source) -> list[Json]:
    found: list[Json] = []
    for entry in objects_of(value):
        found += _mapping(entry, source.findings, source.path)
    return found


def _mapping(entry: Json, findings: Findings, path: str) -> list[Json]:
    kind, options = entry.get("type"), entry.get("options")
    match kind:
        case 1 | 2 | "1" | "2":
            return [_old_mapping(entry)]
        case "value" if isinstance(options, dict):
            items = sorted(options.items(), key=_position)
            return [{"kind": "value", "match": str(key), **_result(to)} for key, to in items]
        case "range" if isinstance(options, dict):
            ends = {"start": number_of(options.get("from")), "end": number_of(options.get("to"))}
            return [{"kind": "range", **known(ends), **_result(options.get("result"))}]
        case "special" if isinstance(options, dict):
            match = str(options.get("match") or "null")
            return [{"kind": "special", "match": match, **_result(options.get("result"))}]
        case "regex" if isinstance(options, dict):
            pattern = str(options.get("pattern") or "")
            return [{"kind": "regex", "match": pattern, **_result(options.get("result"))}]
        case _:
            findings.lost(path, f"a mapping of type {shown(kind)}", "is not supported")
            return []


def _old_mapping(entry: Json) -> Json:
    """Type 1 (value) and 2 (range), as before version 8."""
    text = {"text": str(entry.get("text") or "")}
    value = entry.get("value")
    if entry.get("type") in (2, "2") or (value in (None, "") and "from" in entry):
        ends = {"start": number_of(entry.get("from")), "end": number_of(entry.get("to"))}
        return {"kind": "range", **known(ends), **text}
    if value in (None, "", "null"):
        return {"kind": "special", "match": "null", **text}
    return {"kind": "value", "match": str(value), **text}


def _position(item: tuple[str, Any]) -> int:
    index = item[1].get("index") if isinstance(item[1], dict) else None
    return index if isinstance(index, int) else 0


def _result(to: Any) -> Json:
    if not isinstance(to, dict):
        return {}
    return {key: str(to[key]) for key in ("text", "color") if to.get(key) not in (None, "")}


def _links(value: Any, source: Source) -> list[Json]:
    entries = value if isinstance(value, list) else []
    return [link for entry in entries if (link := link_of(entry, source.findings, source.path))]


def link_of(entry: object, findings: Findings, path: str) -> Json | None:
    """A link of data or of a panel."""
    if not isinstance(entry, dict):
        return None
    url = str(entry.get("url") or "")
    if not url:
        findings.lost(path, f"the link {shown(entry.get('title'))}", "has no address")
        return None
    link: Json = {"title": str(entry.get("title") or ""), "url": url}
    if entry.get("targetBlank"):
        link["new_tab"] = True
    return link


def _stacking(value: Any, _source: Source) -> Json:
    if isinstance(value, bool):
        return {"mode": "normal" if value else "none"}
    mode = value.get("mode") if isinstance(value, dict) else None
    if mode not in ("none", "normal", "percent", None, False):
        raise NotConvertibleError(f"the mode {shown(mode)} is not supported")
    group = value.get("group") if isinstance(value, dict) else None
    if group is False:
        # What `stack: false` of a graph's series became: it stands beside the others.
        return {"mode": "none", "group": "A"}
    return {"mode": mode or "none", "group": str(group or "A")}


def _line_style(value: Any, _source: Source) -> Json:
    if not isinstance(value, dict):
        raise NotConvertibleError(f"{shown(value)} is not supported")
    style: Json = {"style": {"dash": "dash", "dot": "dot"}.get(str(value.get("fill")), "solid")}
    dash = value.get("dash")
    if isinstance(dash, list) and dash:
        style["dash"] = [number_of(one) or 0 for one in dash]
    return style


def _axis_scale(value: Any, _source: Source) -> Json:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("linear", None):
        return {"type": "linear"}
    if kind not in ("log", "symlog"):
        raise NotConvertibleError(f"the scale {shown(kind)} is not supported")
    scale: Json = {"type": kind}
    if value.get("log") in (2, 10):
        scale["base"] = value["log"]
    threshold = number_of(value.get("linearThreshold"))
    return scale if threshold is None else {**scale, "linear_threshold": threshold}


def _hidden(value: Any, _source: Source) -> Json:
    if not isinstance(value, dict):
        raise NotConvertibleError(f"{shown(value)} is not supported")
    return {
        "graph": bool(value.get("viz", value.get("graph", False))),
        "legend": bool(value.get("legend", False)),
        "tooltip": bool(value.get("tooltip", False)),
    }


_THRESHOLD_STYLES: Final = {
    "off": "off",
    "line": "line",
    "dashed": "dashed",
    "area": "area",
    "line+area": "line+area",
    "dashed+area": "dashed+area",
    "series": "off",
}


def _thresholds_style(value: Any, source: Source) -> str:
    mode = value.get("mode") if isinstance(value, dict) else value
    found: str = _one_of(_THRESHOLD_STYLES)(mode or "off", source)
    return found


_CELLS: Final[Mapping[str, Json]] = {
    "auto": {"type": "auto"},
    "color-text": {"type": "text"},
    "color-background": {"type": "background", "mode": "gradient"},
    "color-background-solid": {"type": "background", "mode": "basic"},
    "gauge": {"type": "gauge"},
    "gradient-gauge": {"type": "gauge", "mode": "gradient"},
    "lcd-gauge": {"type": "gauge", "mode": "lcd"},
    "basic": {"type": "gauge", "mode": "basic"},
    "sparkline": {"type": "sparkline"},
    "json-view": {"type": "json"},
}


def _cell(value: Any, _source: Source) -> Json:
    """The drawing of cells, as an object or (`displayMode`, before version 9) as a text."""
    options = value if isinstance(value, dict) else {"type": value}
    kind = str(options.get("type") or "auto")
    if kind not in _CELLS:
        raise NotConvertibleError(f"the cells {kind} are not supported")
    cell = dict(_CELLS[kind])
    if options.get("mode") in ("basic", "gradient", "lcd"):
        cell["mode"] = options["mode"]
    if options.get("applyToRow"):
        cell["apply_to_row"] = True
    if options.get("wrapText"):
        cell["wrap"] = True
    return cell


def _wrap(value: Any, _source: Source) -> Json | None:
    return {"type": "auto", "wrap": True} if value else None


def _footer(value: Any, _source: Source) -> list[str] | None:
    reducers = value.get("reducers") if isinstance(value, dict) else None
    return [str(one) for one in reducers] if reducers else None


_PROPERTIES: Final[Mapping[str, tuple[str, _Convert]]] = {
    "unit": ("unit", _text),
    "decimals": ("decimals", _decimals),
    "min": ("min", _number),
    "max": ("max", _number),
    "fieldMinMax": ("own_range", _flag),
    "noValue": ("no_value", _text),
    "displayName": ("display_name", _text),
    "color": ("color", _color),
    "thresholds": ("thresholds", _thresholds),
    "mappings": ("mappings", _mappings),
    "links": ("links", _links),
    "filterable": ("filterable", _flag),
    "custom.drawStyle": ("draw", _one_of(same("line", "bars", "points"))),
    "custom.lineWidth": ("line_width", _size),
    "custom.lineStyle": ("line_style", _line_style),
    "custom.lineInterpolation": (
        "line_interpolation",
        _one_of(
            {
                "linear": "linear",
                "smooth": "smooth",
                "stepBefore": "step_before",
                "stepAfter": "step_after",
            }
        ),
    ),
    "custom.fillOpacity": ("fill_opacity", _percent),
    "custom.fillBelowTo": ("fill_below_to", _text),
    "custom.gradientMode": ("gradient", _one_of(same("none", "opacity", "hue", "scheme"))),
    "custom.showPoints": (
        "points",
        _one_of({**same("auto", "never", "always"), True: "always", False: "never", "": "auto"}),
    ),
    "custom.pointSize": ("point_size", _size),
    "custom.spanNulls": ("span_nulls", _flag_or_ms),
    "custom.insertNulls": ("insert_nulls", _flag_or_ms),
    "custom.barAlignment": ("bar_alignment", _one_of({-1: "before", 0: "center", 1: "after"})),
    "custom.barWidthFactor": ("bar_width", _number),
    "custom.stacking": ("stacking", _stacking),
    "custom.transform": (
        "transform",
        _one_of({"negative-Y": "negative_y", "constant": "constant", "": None}),
    ),
    "custom.axisPlacement": (
        "axis",
        _one_of({**same("auto", "left", "right", "hidden"), "bottom": "auto", "top": "auto"}),
    ),
    "custom.axisLabel": ("axis_label", _text),
    "custom.axisWidth": ("axis_width", _size),
    "custom.axisSoftMin": ("axis_soft_min", _number),
    "custom.axisSoftMax": ("axis_soft_max", _number),
    "custom.scaleDistribution": ("axis_scale", _axis_scale),
    "custom.axisCenteredZero": ("axis_centered", _flag),
    "custom.axisGridShow": ("axis_grid", _flag),
    "custom.axisColorMode": ("axis_color", _one_of(same("text", "series"))),
    "custom.thresholdsStyle": ("thresholds_drawn", _thresholds_style),
    "custom.hideFrom": ("hidden", _hidden),
    "custom.hidden": ("column_hidden", _flag),
    "custom.hideFrom.viz": ("column_hidden", _flag),
    "custom.align": (
        "align",
        _one_of({**same("auto", "left", "center", "right"), "": "auto", "null": "auto"}),
    ),
    "custom.width": ("width", _column_width),
    "custom.minWidth": ("min_width", _size),
    "custom.cellOptions": ("cell", _cell),
    "custom.displayMode": ("cell", _cell),
    "custom.wrapText": ("cell", _wrap),
    "custom.footer": ("footer", _footer),
    "custom.filterable": ("filterable", _flag),
}
