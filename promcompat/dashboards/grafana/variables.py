"""Variables of Grafana: `templating.list`."""

import re
from typing import Any, Final

from promcompat.dashboards.grafana.source import Source, shown

Json = dict[str, Any]

_NAME: Final = re.compile(r"\w{1,100}")
_SORTS: Final = {
    0: "none",
    1: "asc",
    2: "desc",
    3: "numeric_asc",
    4: "numeric_desc",
    5: "ignore_case_asc",
    6: "ignore_case_desc",
    7: "natural_asc",
    8: "natural_desc",
}
_HIDE: Final = {0: "no", 1: "label", 2: "variable", 3: "variable"}
PROMETHEUS: Final = frozenset({"prometheus", "promcompat"})


def read_variables(templating: Source, *, has_shown_constants: bool) -> list[Json]:
    """The variables in the order of the file.

    Before version 27, constants could be shown, which are text boxes now.
    """
    found: list[Json] = []
    names: set[str] = set()
    for source in templating.children("list"):
        variable = _variable(source, has_shown_constants=has_shown_constants)
        if variable is None:
            continue
        if variable["name"] in names:
            source.lost("name", f"a second variable {variable['name']}", "the first one counts")
            continue
        names.add(variable["name"])
        found.append(variable)
    return found


def _variable(source: Source, *, has_shown_constants: bool) -> Json | None:
    name, kind = source.text("name"), source.text("type", "query")
    variable: Json = {
        "name": name,
        "kind": kind,
        "label": source.text("label"),
        "description": source.text("description"),
        "hide": source.choice("hide", _HIDE, "no"),
    }
    if source.flag("skipUrlSync"):
        variable["in_url"] = False
    source.ignore(
        "id", "global", "index", "state", "error", "definition", "allFormat", "multiFormat",
        "useTags", "tags", "tagsQuery", "tagValuesQuery", "refresh_on_load", "initLock",
        "datasource", "usesAdhoc", "$$hashKey", "rootStateKey", "allowCustomValue", "showLabel",
        "current", "queryValue", "valuesFormat", "auto", "staticOptions", "canSelectAll",
    )  # fmt: skip
    if not _NAME.fullmatch(name):
        source.lost("name", f"the variable {shown(name)}", "has a name that no text can refer to")
        source.ignore(*[key for key, _ in source.items()])
        return None
    if kind == "constant" and has_shown_constants and variable["hide"] == "no":
        variable["kind"] = "textbox"
    read = _READERS.get(variable["kind"])
    if read is None:
        source.lost("type", f"the variable {name} of the kind {kind}")
        source.ignore(*[key for key, _ in source.items()])
        return None
    variable |= read(source)
    return variable


def _selected(source: Source) -> Json:
    """The values that are selected when the dashboard opens."""
    current = source.child("current")
    value = current.take("value")
    current.ignore("text", "selected", "isNone", "tags", "$$hashKey")
    if isinstance(value, list):
        return {"current": [str(one) for one in value]}
    if isinstance(value, dict) or value is None:
        return {"current": ""}
    return {"current": str(value)}


def _choices(source: Source) -> Json:
    """What several kinds have: several values, and All."""
    found: Json = _selected(source)
    found["multi"] = source.flag("multi")
    found["include_all"] = source.flag("includeAll")
    if source.text("allValue"):
        found["all_value"] = source.text("allValue")
    if isinstance(found["current"], list) and not found["multi"]:
        found["current"] = found["current"][0] if found["current"] else ""
    return found


def _query(source: Source) -> Json:
    query = source.take("query", "")
    text = query if isinstance(query, str) else _query_text(source.child("query"))
    kind = _datasource_type(source)
    if kind not in PROMETHEUS | {""}:
        source.lost("datasource", f"a query for {kind}", "only metrics can be asked")
        text = ""
    refresh = source.take("refresh", 0)
    source.ignore("options")
    return {
        **_choices(source),
        "query": text,
        "regex": source.text("regex"),
        "sort": source.choice("sort", _SORTS, "none"),
        "refresh": "time" if refresh == 2 else "load",
    }


def _datasource_type(source: Source) -> str:
    datasource = source.take("datasource")
    kind = datasource.get("type", "") if isinstance(datasource, dict) else ""
    return str(kind or "")


def _query_text(query: Source) -> str:
    """The query of an object: its text, or the one that its parts stand for."""
    query.ignore("refId", "qryType", "metric", "label", "labelFilters", "seriesQuery", "datasource")
    text = query.text("query")
    if text:
        return text
    label, metric = query.text("label"), query.text("metric")
    if label:
        return f"label_values({metric}, {label})" if metric else f"label_values({label})"
    if not any(True for _ in query.items()):
        return ""
    query.lost("query", "a query without its text")
    return ""


def _custom(source: Source) -> Json:
    options = [_option(text) for text in _split(source.text("query"))]
    if not options:
        options = [
            {"text": one.text("text"), "value": one.text("value")}
            for one in source.children("options")
            if one.take("value") != "$__all"
        ]
    source.ignore("options", "refresh", "sort", "regex")
    return {**_choices(source), "options": options}


def _split(text: str) -> list[str]:
    r"""The parts between commas; `\,` is a comma."""
    parts = text.replace("\\,", "\x00").split(",")
    return [part.replace("\x00", ",").strip() for part in parts if part.strip()]


def _option(text: str) -> Json:
    label, separator, value = text.partition(" : ")
    return {"text": label.strip(), "value": value.strip()} if separator else {
        "text": text,
        "value": text,
    }  # fmt: skip


def _interval(source: Source) -> Json:
    texts = _split(source.text("query"))
    found = {
        **_selected(source),
        "options": [{"text": text, "value": text} for text in texts],
    }
    is_auto = source.flag("auto")
    count = source.number("auto_count")
    if is_auto:
        found |= {
            "auto_count": int(count) if count and count >= 1 else 30,
            "auto_min": source.text("auto_min", "10s"),
        }
    if str(found["current"]).startswith("$__auto"):
        found["current"] = "$__auto"
    source.ignore(
        "options", "refresh", "auto_count", "auto_min", "multi", "includeAll", "sort", "regex"
    )
    return found


def _text_box(source: Source) -> Json:
    query = source.text("query")
    found = _selected(source)
    source.ignore(
        "options", "refresh", "multi", "includeAll", "sort", "regex", "allValue", "refresh_text"
    )
    return {"query": query, "current": found["current"] or query}


def _datasource(source: Source) -> Json:
    """There is one source of metrics; those of other kinds are none."""
    kind = source.text("query")
    if kind not in PROMETHEUS | {""}:
        source.changed("query", f"data sources of type {kind}", "the variable has no value")
    source.ignore(
        "options", "refresh", "multi", "includeAll", "allValue", "regex", "sort", "pluginId",
        "noRepeat", "pluginName",
    )  # fmt: skip
    return {"query": kind, "current": "" if kind not in PROMETHEUS | {""} else "promcompat"}


def _adhoc(source: Source) -> Json:
    found = []
    for one in (*source.children("filters"), *source.children("baseFilters")):
        operator = one.text("operator", "=")
        one.ignore("condition", "value", "keyLabel", "valueLabels", "values", "origin", "forceEdit")
        if operator not in ("=", "!=", "=~", "!~"):
            one.lost("operator", f"the operator {shown(operator)}")
            continue
        found.append({"key": one.text("key"), "operator": operator, "value": one.text("value")})
    source.ignore("refresh", "defaultKeys", "options", "applyMode")
    return {"filters": found}


_READERS: Final = {
    "query": _query,
    "custom": _custom,
    "interval": _interval,
    "textbox": _text_box,
    "constant": _text_box,
    "datasource": _datasource,
    "adhoc": _adhoc,
}
