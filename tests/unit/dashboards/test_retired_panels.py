"""Retired panels of Grafana become those of today."""

from typing import Any

from promcompat.dashboards.grafana.importer import import_grafana

Json = dict[str, Any]


def converted(version: int = 16, **fields: Any) -> Json:
    grid = {"x": 0, "y": 0, "w": 12, "h": 8}
    panel = {"id": 1, "title": "P", "gridPos": grid, **fields}
    found = import_grafana({"title": "D", "schemaVersion": version, "panels": [panel]})
    assert found.lost == []
    return found.dashboard.panels[0].model_dump(mode="json", exclude_unset=True)


def test_a_graph_is_converted() -> None:
    found = converted(
        type="graph",
        targets=[{"expr": "up"}],
        description="about it",
        repeat="job",
        repeatIteration=1,
        lines=True,
        fill=2,
        linewidth=3,
        stack=True,
        nullPointMode="connected",
        steppedLine=True,
        yaxes=[
            {"format": "bytes", "min": "0", "label": "in / out", "logBase": 10},
            {"format": "percent", "max": 100},
        ],
        aliasColors={"a": "#123456"},
        seriesOverrides=[
            {"alias": "/out/", "transform": "negative-Y", "stack": False},
            {"alias": "usage", "yaxis": 2, "dashes": True, "fill": 0, "zindex": 3},
            {"alias": "limit", "lines": False, "bars": True},
        ],
        legend={
            "show": True, "values": True, "avg": True, "current": True, "alignAsTable": True,
            "rightSide": True, "sort": "current", "sortDesc": True,
        },
        tooltip={"shared": True, "sort": 2, "value_type": "individual"},
        thresholds=[{"op": "gt", "value": 80, "colorMode": "critical", "fill": True, "line": True}],
    )  # fmt: skip
    fields = found["fields"]
    assert found["type"] == "timeseries"
    assert (found["title"], found["description"]) == ("P", "about it")
    assert found["repeat"]["variable"] == "job"
    assert (fields["unit"], fields["min"], fields["axis_label"]) == ("bytes", 0, "in / out")
    assert (fields["fill_opacity"], fields["line_width"], fields["points"]) == (20, 3, "never")
    assert fields["stacking"] == {"mode": "normal", "group": "A"}
    assert (fields["span_nulls"], fields["line_interpolation"]) == (True, "step_after")
    assert fields["axis_scale"] == {"type": "log", "base": 10}
    assert fields["thresholds"]["steps"] == [
        {"color": "transparent"},
        {"color": "red", "value": 80},
    ]
    assert fields["thresholds_drawn"] == "line+area"
    settings = {one["matcher"]["name"]: one["settings"] for one in found["overrides"]}
    assert settings == {
        "a": {"color": {"mode": "fixed", "fixed": "#123456"}},
        "/out/": {"transform": "negative_y", "stacking": {"mode": "none", "group": "A"}},
        "usage": {
            "axis": "right",
            "unit": "percent",
            "max": 100,
            "fill_opacity": 0,
            "line_style": {"style": "dash", "dash": [10, 10]},
        },
        "limit": {"draw": "bars", "fill_opacity": 100},
    }
    assert found["options"]["legend"] == {
        "mode": "table",
        "placement": "right",
        "calcs": ["mean", "lastNotNull"],
        "sort_by": "Last *",
        "sort_desc": True,
    }
    assert found["options"]["tooltip"] == {"mode": "multi", "sort": "desc"}


def test_graph_of_points_and_of_bars() -> None:
    points = converted(type="graph", lines=False, points=True, pointradius=2)["fields"]
    assert (points["draw"], points["line_width"], points["point_size"]) == ("points", 0, 6)
    bars = converted(type="graph", lines=False, bars=True, percentage=True, stack=True)["fields"]
    assert (bars["draw"], bars["fill_opacity"]) == ("bars", 100)
    assert bars["stacking"]["mode"] == "percent"


def test_what_every_panel_has_is_passed_on() -> None:
    links = [{"title": "L", "url": "/d/x"}]
    for fields in (
        {"type": "graph"},
        {"type": "singlestat"},
        {"type": "table", "styles": [{"pattern": "x"}]},
        {"type": "heatmap", "dataFormat": "tsbuckets"},
    ):
        found = converted(**fields, targets=[{"expr": "up"}], interval="1m", links=links)
        assert (found["title"], found["min_interval"], found["links"]) == ("P", "1m", links)
        assert found["queries"] == [{"ref": "A", "expr": "up"}]


def test_a_singlestat_is_converted() -> None:
    given: Json = {
        "type": "singlestat",
        "format": "percent",
        "valueName": "current",
        "thresholds": "70,90",
        "colors": ["green", "orange", "red"],
        "colorBackground": True,
        "sparkline": {"show": True, "full": False},
        "valueMaps": [{"op": "=", "text": "N/A", "value": "null"}],
        "mappingType": 1,
        "nullText": "none",
        "tableColumn": "job",
        "gauge": {"show": False, "minValue": 0, "maxValue": 100},
    }
    stat = converted(**given)
    assert stat["type"] == "stat"
    assert stat["options"]["reduce"] == {
        "calcs": ["lastNotNull"],
        "fields": "/^job$/",
        "values": False,
    }
    assert (stat["options"]["color_mode"], stat["options"]["graph_mode"]) == ("background", "area")
    assert stat["fields"]["mappings"] == [{"kind": "special", "match": "null", "text": "N/A"}]
    assert stat["fields"]["thresholds"]["steps"] == [
        {"color": "green"},
        {"color": "orange", "value": 70},
        {"color": "red", "value": 90},
    ]
    # Panels of before version 8 have the ends of their unit.
    assert (stat["fields"]["min"], stat["fields"]["max"]) == (0, 100)
    gauge = converted(**{**given, "gauge": {"show": True, "minValue": 5, "maxValue": 50}})
    assert gauge["type"] == "gauge"
    assert (gauge["fields"]["min"], gauge["fields"]["max"]) == (5, 50)


def test_an_old_table_with_styles_is_converted() -> None:
    table = converted(
        type="table",
        transform="timeseries_aggregations",
        columns=[{"text": "Avg", "value": "avg"}, {"text": "Max", "value": "max"}],
        styles=[
            {"pattern": "Time", "type": "hidden"},
            {
                "pattern": "/.*usage/", "alias": "Usage", "type": "number", "unit": "percentunit",
                "decimals": 1, "colorMode": "cell", "thresholds": ["0.5", "0.9"],
                "colors": ["a", "b", "c"], "link": True, "linkUrl": "/d/x", "linkTooltip": "More",
            },
            {"pattern": "/.*/", "type": "number", "unit": "short", "align": "right"},
        ],
    )  # fmt: skip
    assert table["transformations"] == [
        {"id": "reduce", "options": {"reducers": ["mean", "max"], "includeTimeField": False}}
    ]
    assert table["fields"] == {"unit": "short", "align": "right"}
    hidden, usage = table["overrides"]
    assert hidden["settings"] == {"column_hidden": True}
    assert usage["matcher"] == {"by": "regexp", "name": "/.*usage/"}
    assert usage["settings"]["cell"] == {"type": "background", "mode": "gradient"}
    assert usage["settings"]["links"] == [{"title": "More", "url": "/d/x"}]
    assert [step["color"] for step in usage["settings"]["thresholds"]["steps"]] == ["a", "b", "c"]
    new = converted(39, type="table", styles=[{"pattern": "x"}], options={"showHeader": True})
    assert "overrides" not in new


def test_heatmap_of_buckets_and_of_values() -> None:
    buckets = converted(
        type="heatmap",
        dataFormat="tsbuckets",
        hideZeroBuckets=True,
        yBucketBound="upper",
        yAxis={"format": "s", "decimals": 0, "logBase": 1},
        color={"mode": "opacity", "cardColor": "blue", "exponent": 0.3},
    )["options"]["heatmap"]
    assert (buckets["calculate"], buckets["hide_up_to"]) == (False, 1e-9)
    assert (buckets["color"]["mode"], buckets["color"]["fill"]) == ("opacity", "blue")
    assert buckets["names_are"] == "lower"
    values = converted(
        type="heatmap", dataFormat="timeseries", xBucketSize="5m", yBucketNumber=20,
        yAxis={"format": "bytes", "logBase": 2}, color={"mode": "spectrum"},
    )["options"]["heatmap"]  # fmt: skip
    assert values["x_buckets"] == {"size_text": "5m"}
    assert values["y_buckets"] == {"count": 20, "log": 2}


def test_a_panel_that_changed_its_type_keeps_dead_keys_without_a_word() -> None:
    found = import_grafana(
        {
            "title": "D",
            "panels": [
                {
                    "id": 1,
                    "type": "timeseries",
                    "yaxes": [{"format": "s"}],
                    "nullPointMode": "null",
                    "fieldConfig": {"defaults": {"unit": "bytes"}},
                }
            ],
        }
    )
    assert found.findings == []
    assert found.dashboard.panels[0].fields.unit == "bytes"
