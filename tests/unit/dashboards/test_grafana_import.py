"""Files of Grafana become dashboards, and nothing of them is dropped silently."""

from contextlib import suppress
from typing import Any

import orjson
import pytest

from promcompat.core.errors import BadDataError
from promcompat.dashboards.files import read_document
from promcompat.dashboards.grafana.importer import Imported, import_grafana

Json = dict[str, Any]
GRID = {"x": 0, "y": 0, "w": 12, "h": 8}


def panel(**fields: Any) -> Json:
    return {"id": 1, "type": "timeseries", "title": "P", "gridPos": GRID, **fields}


def imported(*panels: Json, **fields: Any) -> Imported:
    return import_grafana({"title": "D", "schemaVersion": 39, "panels": list(panels), **fields})


def only(*panels: Json, **fields: Any) -> Json:
    """The one panel of a dashboard that lacks nothing."""
    found = imported(*panels, **fields)
    assert found.findings == []
    [one] = found.dashboard.panels
    return one.model_dump(mode="json", exclude_unset=True)


def lost(found: Imported) -> list[tuple[str, str, str]]:
    return [(one.path, one.panel, one.what) for one in found.lost]


def test_everything_that_is_not_understood_is_listed_with_its_place() -> None:
    found = imported(
        panel(
            targets=[{"expr": "up", "sparkle": 3}, {"expr": "x", "datasource": {"type": "loki"}}],
            fieldConfig={
                "defaults": {"unit": "s", "custom": {"glow": 1}},
                "overrides": [
                    {"matcher": {"id": "byMoon", "options": "full"}, "properties": []},
                    {
                        "matcher": {"id": "byName", "options": "a"},
                        "properties": [{"id": "custom.glow", "value": 2}],
                    },
                ],
            },
            options={"aura": "wide"},
            transformations=[{"id": "teleport", "options": {}}],
            alert={"name": "old"},
        ),
        panel(id=2, type="nodeGraph", title="G"),
        theme2="dark",
        fiscalYearStartMonth=3,
        timepicker={"quick_ranges": [{"from": "now-3h", "to": "now", "display": "3 hours"}]},
        templating={
            "list": [
                {"name": "v", "type": "snapshot"},
                {"name": "w", "type": "textbox"},
                {"name": "w", "type": "constant"},
            ]
        },
        annotations={"list": [{"name": "deploys", "datasource": {"type": "loki"}, "enable": True}]},
    )
    assert sorted(lost(found)) == sorted(
        [
            ("annotations.list[0]", "", "the annotation deploys"),
            ("fiscalYearStartMonth", "", "time ranges of fiscal quarters and years"),
            ("panels[0].alert", "P", "an alert of the panel"),
            ("panels[0].fieldConfig.defaults.custom.glow", "P", "custom.glow is 1"),
            ("panels[0].fieldConfig.overrides[0].matcher.id", "P", "the matcher byMoon"),
            ("panels[0].fieldConfig.overrides[1].properties[0].value", "P", "custom.glow is 2"),
            ("panels[0].options.aura", "P", "aura is wide"),
            ("panels[0].targets[0].sparkle", "P", "sparkle is 3"),
            ("panels[0].targets[1]", "P", "a query for loki"),
            ("panels[0].transformations[0].id", "P", "the transformation teleport"),
            ("panels[1].type", "G", "a panel of type nodeGraph"),
            ("templating.list[0].type", "", "the variable v of the kind snapshot"),
            ("templating.list[2].name", "", "a second variable w"),
            ("theme2", "", "theme2 is dark"),
            ("timepicker.quick_ranges", "", "quick_ranges is a list of 1"),
        ]
    )
    first, second = found.dashboard.panels
    assert [query.expr for query in first.queries] == ["up"]
    assert second.type == "text"
    assert second.options.text is not None
    assert "nodeGraph" in second.options.text.content


def test_values_that_no_panel_can_have_are_listed_and_the_rest_stays() -> None:
    found = imported(
        panel(
            maxDataPoints="many",
            repeat="a b",
            fieldConfig={"defaults": {"unit": "s", "decimals": "two", "min": "0"}},
        )
    )
    assert {place for place, _, _ in lost(found)} == {
        "panels[0].maxDataPoints",
        "panels[0].fieldConfig.defaults.decimals",
        "panels[0]",
    }
    [one] = found.dashboard.panels
    assert (one.fields.unit, one.fields.min, one.repeat) == ("s", 0, None)


def test_queries() -> None:
    targets: list[Json] = [
        {"expr": "a", "refId": "B"},
        {"expr": "b"},
        {"expr": "c", "legendFormat": "__auto", "instant": True, "format": "table"},
        {"expr": "d", "instant": True, "range": True, "interval": "1m", "intervalFactor": 2},
        {"expr": "e", "hide": True, "exemplar": True, "step": 10, "metric": "x"},
        {"expr": ""},
    ]
    found = only(panel(targets=targets))["queries"]
    assert found == [
        {"ref": "B", "expr": "a"},
        {"ref": "A", "expr": "b"},
        {
            "ref": "C",
            "expr": "c",
            "auto_legend": True,
            "format": "table",
            "instant": True,
            "range": False,
        },
        {
            "ref": "D",
            "expr": "d",
            "instant": True,
            "range": True,
            "min_step": "1m",
            "step_factor": 2,
        },
        {"ref": "E", "expr": "e", "hidden": True, "exemplars": True},
    ]


def test_defaults_and_overrides_have_the_same_settings() -> None:
    defaults = {
        "unit": "bytes",
        "thresholds": {"steps": [{"color": "green"}, {"color": "red", "value": 8}]},
        "mappings": [
            {"type": "value", "options": {
                "1": {"text": "up", "index": 1}, "0": {"text": "down", "index": 0},
            }},
            {"type": "special", "options": {"match": "nan", "result": {"text": "?"}}},
            {"type": 2, "from": "1", "to": "5", "text": "few"},
        ],
        "custom": {
            "drawStyle": "bars",
            "stacking": {"mode": "percent"},
            "scaleDistribution": {"type": "log", "log": 2},
            "hideFrom": {"viz": True},
            "lineStyle": {"fill": "dash", "dash": [10, 5]},
        },
    }  # fmt: skip
    properties = [
        {"id": key, "value": value} for key, value in defaults.items() if key != "custom"
    ] + [{"id": f"custom.{key}", "value": value} for key, value in defaults["custom"].items()]  # type: ignore[attr-defined]
    override = {"matcher": {"id": "byRegexp", "options": "/a/"}, "properties": properties}
    found = only(panel(fieldConfig={"defaults": defaults, "overrides": [override]}))
    assert found["overrides"] == [
        {"matcher": {"by": "regexp", "name": "/a/"}, "settings": found["fields"]}
    ]
    assert found["fields"]["mappings"] == [
        {"kind": "value", "match": "0", "text": "down"},
        {"kind": "value", "match": "1", "text": "up"},
        {"kind": "special", "match": "nan", "text": "?"},
        {"kind": "range", "start": 1, "end": 5, "text": "few"},
    ]
    assert found["fields"]["axis_scale"] == {"type": "log", "base": 2}
    assert found["fields"]["hidden"]["graph"] is True


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {
                "type": "query",
                "query": {"query": "label_values(up, job)", "refId": "x"},
                "multi": True,
                "includeAll": True,
                "allValue": ".+",
                "current": {"text": "All", "value": ["$__all"]},
                "sort": 1,
                "refresh": 2,
            },
            {
                "query": "label_values(up, job)",
                "current": ["$__all"],
                "sort": "asc",
                "refresh": "time",
                "all_value": ".+",
            },
        ),
        (
            {"type": "custom", "query": "a, b\\,c, long name : 3"},
            {
                "options": [
                    {"text": "a", "value": "a"},
                    {"text": "b,c", "value": "b,c"},
                    {"text": "long name", "value": "3"},
                ]
            },
        ),
        (
            {"type": "interval", "query": "1m,5m", "auto": True, "auto_count": 10,
             "current": {"value": "$__auto_interval_v"}},
            {"current": "$__auto", "auto_count": 10, "auto_min": "10s"},
        ),
        ({"type": "textbox", "query": "x"}, {"kind": "textbox", "current": "x"}),
        ({"type": "datasource", "query": "prometheus"}, {"current": "promcompat"}),
        (
            {"type": "adhoc", "filters": [{"key": "a", "operator": "=", "value": "b"}]},
            {"filters": [{"key": "a", "operator": "=", "value": "b"}]},
        ),
    ],
)  # fmt: skip
def test_variables(given: Json, expected: Json) -> None:
    found = imported(templating={"list": [{"name": "v", **given}]})
    assert found.findings == []
    [variable] = found.dashboard.variables
    shown = variable.model_dump(mode="json", exclude_unset=True)
    assert {key: shown[key] for key in expected} == expected


def test_a_series_without_a_group_is_not_stacked() -> None:
    stacking = {"id": "custom.stacking", "value": {"mode": "normal", "group": False}}
    override = {"matcher": {"id": "byName", "options": "a"}, "properties": [stacking]}
    found = only(panel(fieldConfig={"defaults": {}, "overrides": [override]}))
    assert found["overrides"][0]["settings"] == {"stacking": {"mode": "none", "group": "A"}}


def test_a_constant_that_was_shown_is_a_text_box() -> None:
    variable = {"name": "v", "type": "constant", "query": "x", "hide": 0}
    for version, kind in ((26, "textbox"), (27, "constant")):
        found = imported(schemaVersion=version, templating={"list": [variable]})
        assert found.dashboard.variables[0].kind == kind


def row_panel(number: int, y: int, **fields: Any) -> Json:
    return {"id": number, "type": "row", "title": f"r{number}", "gridPos": {"y": y}, **fields}


def at(number: int, x: int, y: int) -> Json:
    return panel(id=number, gridPos={"x": x, "y": y, "w": 12, "h": 4})


def test_rows_own_the_panels_below_them() -> None:
    found = imported(
        at(1, 0, 0),
        row_panel(10, 4),
        at(2, 12, 5),
        at(3, 0, 5),
        row_panel(11, 9, collapsed=True, repeat="job", panels=[at(4, 0, 10), at(5, 0, 14)]),
    )
    assert found.findings == []
    assert [
        (row.title, row.collapsed, row.repeat, [(one.id, one.grid.y) for one in row.panels])
        for row in found.dashboard.rows
    ] == [
        (None, False, None, [(1, 0)]),
        ("r10", False, None, [(3, 0), (2, 0)]),
        ("r11", True, "job", [(4, 0), (5, 4)]),
    ]


def test_old_rows_are_filled_from_the_left() -> None:
    def old(number: int, span: int, **fields: Any) -> Json:
        return {"id": number, "type": "text", "span": span, **fields}

    rows = [
        {"height": "250px", "panels": [old(1, 6), old(2, 6), old(3, 4, height=380)]},
        {"height": 90, "title": "T", "showTitle": True, "panels": [old(4, 12)]},
    ]
    found = import_grafana({"title": "D", "schemaVersion": 14, "rows": rows})
    assert [
        [(one.grid.x, one.grid.y, one.grid.width, one.grid.height) for one in row.panels]
        for row in found.dashboard.rows
    ] == [[(0, 0, 12, 7), (12, 0, 12, 7), (0, 7, 8, 10)], [(0, 0, 24, 3)]]
    assert [row.title for row in found.dashboard.rows] == ["", "T"]


def test_copies_that_an_old_grafana_saved_are_left_out() -> None:
    found = imported(
        panel(repeat="job", repeatIteration=1, minSpan=6), panel(id=2, repeatPanelId=1)
    )
    [one] = found.dashboard.panels
    assert one.repeat is not None
    assert (one.repeat.direction, one.repeat.max_per_row) == ("horizontal", 4)


def test_inputs_are_filled_in() -> None:
    document = {
        "title": "D",
        "__inputs": [
            {"name": "DS_X", "type": "datasource", "pluginId": "prometheus"},
            {"name": "JOB", "type": "constant", "value": "node"},
        ],
        "panels": [
            panel(datasource="${DS_X}", targets=[{"expr": 'up{job="${JOB}",a="${OTHER}"}'}])
        ],
    }
    for inputs, job in (({}, "node"), ({"JOB": "own"}, "own")):
        found = import_grafana(document, inputs)
        assert found.findings == []
        expr = found.dashboard.panels[0].queries[0].expr
        assert expr == f'up{{job="{job}",a="${{OTHER}}"}}'


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "no JSON object"),
        ({"groups": []}, "it has the keys groups"),
        (
            {
                "apiVersion": "dashboard.grafana.app/v2beta1",
                "spec": {"elements": {}, "layout": {}},
            },
            "schema v2",
        ),
        (
            {"title": "a\0b", "panels": []},
            r"^the dashboard cannot be read: title: contains U\+0000",
        ),
        ({"title": "x" * 501, "panels": []}, r": title: is too long; expected at most 500$"),
    ],
)
def test_what_is_no_dashboard_is_refused(document: object, message: str) -> None:
    with pytest.raises(BadDataError, match=message):
        import_grafana(document)


def test_an_answer_of_the_api_and_an_export_are_read_too() -> None:
    inner = {"title": "D", "uid": "u", "panels": [panel(targets=[{"expr": "up"}])]}
    found = import_grafana({"dashboard": inner, "meta": {"slug": "d"}})
    assert (found.uid, found.findings) == ("u", [])
    again = read_document({**found.dashboard.document(), "uid": "u"})
    assert (again.dashboard, again.uid) == (found.dashboard, "u")


ODD_VALUES: tuple[object, ...] = (
    None, 0, -1, True, 1 << 63, "", "x", "nan", "1e30", "1e999", [], [None, [], 1], {}, {"a": 1},
)  # fmt: skip
STEPS = {"mode": "absolute", "steps": [{"value": None, "color": "red"}, {"value": 1}]}
MAPPINGS = [
    {"type": "value", "options": {"0": {"text": "none", "index": 1}}},
    {"type": "range", "options": {"from": 1, "to": 2, "result": {"text": "few"}}},
    {"type": 1, "value": "null", "text": "N/A"},
]
FRAME: Json = {
    "title": "D",
    "schemaVersion": 20,
    "__inputs": [{"name": "DS", "type": "datasource"}],
    "time": {"from": "now-1h"},
    "refresh": "5s",
    "links": [{"title": "L", "url": "/x", "tags": ["a"]}],
    "timepicker": {"refresh_intervals": ["5s"]},
    "annotations": {"list": [{"name": "n", "expr": "up", "filter": {"ids": [1]}}]},
    "templating": {
        "list": [
            {"name": "ds", "type": "datasource", "query": "prometheus"},
            {"name": "v", "type": "query", "query": {"query": "label_values(up, job)"}},
            {"name": "c", "type": "custom", "query": "a,b", "current": {"value": ["a"]}},
        ]
    },
}
PANELS = (
    panel(
        targets=[{"expr": "up", "refId": "A", "intervalFactor": 2, "format": "table"}],
        fieldConfig={
            "defaults": {"thresholds": STEPS, "mappings": MAPPINGS, "min": 0, "links": [{}]},
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": "a"},
                    "properties": [{"id": "color", "value": {"mode": "fixed"}}],
                }
            ],
        },
        options={"legend": {"calcs": ["max"]}, "reduceOptions": {"calcs": ["last"]}},
        transformations=[{"id": "seriesToColumns", "options": {"byField": "Time"}}],
        links=[{"title": "L", "url": "/x"}],
        maxDataPoints=100,
        repeat="v",
    ),
    panel(
        id=2,
        type="graph",
        yaxes=[{"format": "s", "min": "0"}, {}],
        seriesOverrides=[{"alias": "/a/", "fill": 1, "stack": "A"}],
        thresholds=[{"value": 1, "op": "gt", "colorMode": "critical"}],
        legend={"show": True, "avg": True},
    ),
    panel(id=3, type="singlestat", thresholds="1,2", colors=["a"], valueMaps=[{"value": "1"}]),
    panel(id=4, type="table", styles=[{"pattern": "a", "unit": "s"}], sort={"col": 1}),
    panel(id=5, type="heatmap", xBucketSize="1", yAxis={"format": "s"}, cards={}),
    {"id": 6, "type": "row", "panels": [panel(id=7, type="stat")], "collapsed": True},
)


def places(document: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each value."""
    below = document.items() if isinstance(document, dict) else enumerate(document)
    found: list[tuple[Any, ...]] = []
    for key, value in below:
        found.append((*above, key))
        if isinstance(value, dict | list):
            found += places(value, (*above, key))
    return found


def test_a_value_of_another_kind_is_no_fault_of_ours() -> None:
    documents: list[Json] = [
        FRAME,
        {"title": "D", "rows": [{"height": "9px", "panels": [PANELS[3]]}]},
    ]
    documents += [{"title": "D", "schemaVersion": 20, "panels": [one]} for one in PANELS]
    for document in documents:
        text = orjson.dumps(document)
        for *above, last in places(document):
            for odd in ODD_VALUES:
                changed = parent = orjson.loads(text)
                for key in above:
                    parent = parent[key]
                parent[last] = odd
                with suppress(BadDataError):
                    found = import_grafana(changed)
                    orjson.dumps(found.dashboard.document())
                    assert not [one.what for one in found.findings if "Input" in one.what]


def test_a_file_may_lack_tens_of_thousands_of_things() -> None:
    unknown = {f"key{number}": 1 for number in range(30_000)}
    assert len(imported(**unknown).lost) == 30_000


def test_queries_without_names_get_letters() -> None:
    targets = [{"expr": "up"} for _ in range(200)]
    targets[1] = {"expr": "up", "refId": "A"}
    names = [query["ref"] for query in only(panel(targets=targets))["queries"]]
    assert (names[:4], names[-1]) == (["B", "A", "C", "D"], "GR")
    assert len(set(names)) == 200
    too_many = imported(panel(targets=[{"expr": "up"}] * 800))
    assert lost(too_many) == [("panels[0]", "P", "queries is too long; expected at most 200")]
