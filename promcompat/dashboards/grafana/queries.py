"""Queries of panels (`targets`), and which data source they are for."""

from collections.abc import Mapping
from itertools import count, product
from string import ascii_uppercase
from typing import Any, Final

from promcompat.dashboards.grafana.source import Source
from promcompat.dashboards.grafana.variables import PROMETHEUS

Json = dict[str, Any]

MIXED: Final = "-- Mixed --"
DASHBOARD: Final = "-- Dashboard --"
GRAFANA: Final = "-- Grafana --"
_FORMATS: Final = {
    "time_series": "time_series",
    "timeseries": "time_series",
    "logs": "time_series",
    "table": "table",
    "heatmap": "heatmap",
}


class DataSources:
    """Tells the type of the data source that a reference names."""

    def __init__(self, types: Mapping[str, str]) -> None:
        """`types`: of the variables of kind datasource, by name."""
        self._types = types

    def type_of(self, reference: object) -> str:
        """`prometheus`, another type, or one of the built-in sources; empty if it is not told."""
        if isinstance(reference, dict):
            uid, kind = str(reference.get("uid") or ""), str(reference.get("type") or "")
        else:
            uid, kind = str(reference or ""), ""
        if uid in (MIXED, DASHBOARD, GRAFANA) or uid in ("grafana", "-- Datasource --"):
            return GRAFANA if uid == "grafana" else uid
        name = uid.removeprefix("${").removeprefix("$").removesuffix("}")
        if uid.startswith("$") and name in self._types:
            return self._types[name]
        return kind


def read_queries(panel: Source, sources: DataSources) -> tuple[list[Json], int | None]:
    """The queries, and the id of the panel whose answer is shown instead."""
    of_panel = sources.type_of(panel.take("datasource"))
    found: list[Json] = []
    panel_source: int | None = None
    names = _names(panel)
    for position, target in enumerate(panel.children("targets")):
        kind = sources.type_of(target.take("datasource")) or of_panel
        if DASHBOARD in (kind, of_panel):
            number = target.number("panelId")
            panel_source = None if number is None else int(number)
            target.ignore("refId", "withTransforms", "topic")
            continue
        if kind not in PROMETHEUS | {"", MIXED} or (not kind and not target.text("expr")):
            _lose(target, kind)
            continue
        query = _query(target, names[position])
        if query["expr"]:
            found.append(query)
    return found, panel_source


def _lose(target: Source, kind: str) -> None:
    """A query of another data source, of which nothing is read."""
    expr = target.take("expr") or target.take("rawSql") or target.take("query")
    target.ignore(*[key for key, _ in target.items()])
    if expr or kind not in (GRAFANA, ""):
        target.findings.lost(target.path, f"a query for {kind or 'an unknown source'}",
                             "only metrics can be asked")  # fmt: skip


def _names(panel: Source) -> list[str]:
    """The names of the queries; those without one are called A, B, C … in order."""
    targets = panel.entries("targets")
    given = [str(one.get("refId") or "") if isinstance(one, dict) else "" for one in targets]
    taken, names = set(given), dict[str, None]()
    words = ("".join(letters) for n in count(1) for letters in product(ascii_uppercase, repeat=n))
    free = (word for word in words if word not in taken)
    for name in given:
        names[next(free) if not name or name in names else name] = None
    return list(names)


def _query(target: Source, name: str) -> Json:
    legend = target.text("legendFormat")
    instant, is_range = target.take("instant"), target.take("range")
    query: Json = {"ref": name, "expr": target.text("expr")}
    if legend == "__auto":
        query["auto_legend"] = True
    elif legend:
        query["legend"] = legend
    table_format = target.choice("format", _FORMATS, "time_series")
    if table_format != "time_series":
        query["format"] = table_format
    if instant:
        # Neither of both means a range, and both mean two queries.
        query |= {"instant": True, "range": bool(is_range)}
    if target.text("interval"):
        query["min_step"] = target.text("interval")
    factor = target.number("intervalFactor")
    if factor is not None and factor > 1:
        query["step_factor"] = min(int(factor), 100)
    if target.flag("hide"):
        query["hidden"] = True
    if target.flag("exemplar"):
        query["exemplars"] = True
    target.ignore(
        "refId", "step", "metric", "target", "editorMode", "datasource", "useBackend",
        "fullMetaSearch", "disableTextWrap", "includeNullMetadata", "requestId", "legendLink",
        "key", "queryType", "intervalMs", "maxDataPoints", "prometheusLink", "$$hashKey", "hide",
        "calculatedInterval", "datasourceErrors", "errors", "qryType", "builderMode",
        "adhocFilters",
        "groupBy", "select", "tags", "policy", "resultFormat", "orderByTime", "measurement",
        "dsType",
        "rawQuery", "valueType", "valueFieldName", "textEditor", "bucketAggs", "metrics",
        "timeField",
        "query", "alias", "refID", "logBase", "units", "decimals", "displayType", "warn", "crit",
        "displayValueWithAlias", "displayAliasType", "valueHandler", "aggregation", "functions",
        "group", "item", "mode", "host", "application",
    )  # fmt: skip
    return query
