"""Rows and places of panels: the list of today, and the `rows` of before 2018."""

import math
from collections.abc import Iterator
from typing import Any, Final

from promcompat.dashboards.grafana.source import Source, number_of

Json = dict[str, Any]

COLUMNS: Final = 24
_LINE_PIXELS: Final = 38
"""The height of a line of the grid and the gap below it."""
_DEFAULT_HEIGHT_PIXELS: Final = 250
_LEAST_HEIGHT_PIXELS: Final = 90
_DEFAULT_SPAN: Final = 4
_MAX_LINES: Final = 1000
_MAX_Y: Final = 100_000


class LaidOutPanel:
    """A panel of the file and its place in its row."""

    def __init__(self, source: Source, grid: Json) -> None:
        self.source = source
        self.grid = grid


class LaidOutRow:
    """A row and its panels; `title` is None above the first header."""

    def __init__(self, title: str | None, *, collapsed: bool = False, repeat: str = "") -> None:
        self.title = title
        self.collapsed = collapsed
        self.repeat = repeat
        self.panels: list[LaidOutPanel] = []


def read_rows(dashboard: Source) -> list[LaidOutRow]:
    """The rows of the dashboard, the part above the first header among them."""
    if "rows" in dashboard and "panels" not in dashboard:
        return list(_old_rows(dashboard))
    dashboard.ignore("rows")
    return [row for row in _rows_of_list(dashboard) if row.panels or row.title is not None]


def _rows_of_list(dashboard: Source) -> Iterator[LaidOutRow]:
    """The rows of a flat list, which is read by y and x."""
    entries = [(_grid(source), source) for source in dashboard.children("panels")]
    entries.sort(key=lambda entry: (entry[0]["y"], entry[0]["x"]))
    row, top = LaidOutRow(None), 0
    for grid, source in entries:
        if source.take("type") != "row":
            if not _is_copy(source):
                row.panels.append(LaidOutPanel(source, {**grid, "y": max(grid["y"] - top, 0)}))
            continue
        yield row
        top = grid["y"] + 1
        row = _row(source, top)
    yield row


def _row(source: Source, top: int) -> LaidOutRow:
    row = LaidOutRow(
        source.text("title"), collapsed=source.flag("collapsed"), repeat=source.text("repeat")
    )
    if _is_copy(source):
        row.title = None
    for panel in source.children("panels"):
        grid = _grid(panel)
        if not _is_copy(panel):
            # Inside a collapsed row, y still counts from the top of the dashboard.
            row.panels.append(LaidOutPanel(panel, {**grid, "y": max(grid["y"] - top, 0)}))
    source.ignore(
        "id", "type", "datasource", "targets", "repeatDirection", "titleSize", "scopedVars",
        "showTitle", "editable", "error", "height", "collapse", "repeatIteration", "repeatRowId",
        "fieldConfig", "options", "pluginVersion", "span", "transparent", "h", "w", "links",
        "isNew", "maxPerRow", "minSpan", "cacheTimeout", "$$hashKey", "collapse",
    )  # fmt: skip
    return row


def _is_copy(source: Source) -> bool:
    """Whether the panel is a copy that an old Grafana saved; it is made again when drawn."""
    keys = ("repeatPanelId", "repeatedByRow", "repeatByRow", "repeatIteration")
    values = [source.take(key) for key in keys]
    source.ignore("scopedVars")
    return values[0] is not None or (values[3] is not None and not source.take("repeat"))


def _grid(source: Source) -> Json:
    place = source.child("gridPos")
    place.ignore("static", "moved")

    def units(key: str, default: int) -> int:
        number = place.number(key)
        return default if number is None else int(number)

    width = min(max(units("w", 12), 1), COLUMNS)
    return {
        "x": min(max(units("x", 0), 0), COLUMNS - width),
        "y": min(max(units("y", 0), 0), _MAX_Y),
        "width": width,
        "height": min(max(units("h", 8), 1), _MAX_LINES),
    }


def _old_rows(dashboard: Source) -> Iterator[LaidOutRow]:
    """Rows whose panels fill them from the left, as wide as their `span` of 12."""
    sources = list(dashboard.children("rows"))
    has_headers = any(
        source.flag("collapse") or source.text("repeat") or source.flag("showTitle")
        for source in sources
    )
    for source in sources:
        row = LaidOutRow(
            source.text("title") if has_headers else None,
            collapsed=source.flag("collapse"),
            repeat=source.text("repeat"),
        )
        if source.take("repeatIteration") is not None and not row.repeat:
            source.ignore(*[key for key, _ in source.items()])
            continue
        source.ignore(
            "editable", "titleSize", "repeatIteration", "repeatRowId", "title", "showTitle",
            "scopedVars", "links", "$$hashKey", "hideTitle", "type", "id", "isNew", "datasource",
        )  # fmt: skip
        row.panels.extend(_flowing(source))
        yield row


def _flowing(row: Source) -> Iterator[LaidOutPanel]:
    """The panels of an old row with their places."""
    height_of_row = _lines(row.take("height"))
    x = y = tallest = 0
    for source in row.children("panels"):
        if _is_copy(source):
            continue
        span = source.number("span")
        own = source.take("height")
        width = min(max(math.floor(_DEFAULT_SPAN if span is None else span) * 2, 2), COLUMNS)
        height = height_of_row if own in (None, "") else _lines(own)
        if x + width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        yield LaidOutPanel(source, {"x": x, "y": y, "width": width, "height": height})
        x, tallest = x + width, max(tallest, height)


def _lines(height: object) -> int:
    """A height such as `250px` or `250` in lines of the grid."""
    pixels = number_of(str(height or "").removesuffix("px").strip())
    if pixels is None:
        pixels = _DEFAULT_HEIGHT_PIXELS
    lines = math.ceil(max(pixels, _LEAST_HEIGHT_PIXELS) / _LINE_PIXELS)
    return min(max(lines, 1), _MAX_LINES)
