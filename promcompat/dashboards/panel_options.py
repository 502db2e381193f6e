"""The options of panels that depend on their type; those of other types have no effect."""

from typing import Annotated, Literal

from pydantic import Field

from promcompat.dashboards.field_model import DocumentPart, Number, Text

Names = Annotated[list[Text], Field(max_length=1000)]
Size = Annotated[Number, Field(ge=0, le=10_000)]


class Legend(DocumentPart):
    """The legend of a graph or a pie; `values` are of pies."""

    mode: Literal["list", "table", "hidden"] = "list"
    placement: Literal["bottom", "right"] = "bottom"
    calcs: Names = Field(
        default_factory=list, description="`lastNotNull`, `mean`, `max`, `min`, `sum`, …"
    )
    values: list[Literal["value", "percent"]] = Field(default_factory=list)
    sort_by: Text | None = Field(None, description="The title of a column, such as `Max`.")
    sort_desc: bool = False
    width: Size | None = None


class Tooltip(DocumentPart):
    """What the pointer over a graph shows."""

    mode: Literal["single", "multi", "none"] = "single"
    sort: Literal["none", "asc", "desc"] = "none"
    hide_zeros: bool = False


class Reduce(DocumentPart):
    """How fields become single values: by calculations, or one for each row."""

    calcs: Names = Field(default_factory=lambda: ["lastNotNull"])
    fields: Text = Field("", description="Empty: numbers; else a regular expression of names.")
    values: bool = Field(False, description="Every row, instead of a calculation.")
    limit: Annotated[int, Field(ge=1, le=10_000)] | None = None


class TextSize(DocumentPart):
    """In pixels; absent: as large as fits."""

    title: Size | None = None
    value: Size | None = None


class SortColumn(DocumentPart):
    """A column of a table, by the name that is shown."""

    name: Text
    desc: bool = False


class Footer(DocumentPart):
    """Calculations below the columns of a table."""

    calcs: Names
    fields: Names | None = None


class Buckets(DocumentPart):
    """Buckets that a heatmap counts values in; neither value nor count: chosen by the panel."""

    size: Number | None = None
    size_text: Text | None = Field(None, description="A duration, of buckets of time.")
    count: Annotated[int, Field(ge=1, le=10_000)] | None = None
    log: Literal[2, 10] | None = None


class HeatmapColor(DocumentPart):
    """Colours of cells: a scheme, or one colour with more or less opacity."""

    mode: Literal["scheme", "opacity"] = "scheme"
    scheme: Text = "Oranges"
    fill: Text = "dark-orange"
    scale: Literal["exponential", "linear"] = "exponential"
    exponent: Annotated[Number, Field(gt=0, le=10)] = 0.5
    steps: Annotated[int, Field(ge=2, le=128)] = 64
    reverse: bool = False
    min: Number | None = None
    max: Number | None = None


class HeatmapAxis(DocumentPart):
    """The axis of values."""

    unit: Text | None = None
    decimals: Annotated[int, Field(ge=0, le=20)] | None = None
    min: Number | None = None
    max: Number | None = None
    label: Text = ""
    placement: Literal["left", "right", "hidden"] = "left"
    reverse: bool = False


class Heatmap(DocumentPart):
    """`calculate`: buckets of the values of the series; else each series is a bucket."""

    calculate: bool = False
    x_buckets: Buckets | None = None
    y_buckets: Buckets | None = None
    color: HeatmapColor = Field(default_factory=HeatmapColor)
    y_axis: HeatmapAxis = Field(default_factory=HeatmapAxis)
    hide_up_to: Number | None = Field(None, description="Cells up to this value are not drawn.")
    names_are: Literal["auto", "upper", "lower", "middle"] = Field(
        "auto", description="Which edge of a bucket its name is."
    )
    cell_unit: Text | None = None
    cell_decimals: Annotated[int, Field(ge=0, le=20)] | None = None
    cell_gap: Size = 1
    show_legend: bool = True


class TextContent(DocumentPart):
    """The text of a text panel; variables in it are replaced."""

    mode: Literal["markdown", "html", "code"] = "markdown"
    content: Text = ""


class DashboardList(DocumentPart):
    """Which dashboards a list shows."""

    tags: Names = Field(default_factory=list)
    search: Text = ""
    max_items: Annotated[int, Field(ge=1, le=1000)] = 100


class AlertList(DocumentPart):
    """Which alerts a list shows."""

    states: list[Literal["firing", "pending", "inactive"]] = Field(
        default_factory=lambda: ["firing", "pending"]  # type: ignore[arg-type]
    )
    name: Text = Field("", description="A part of the name.")
    labels: Text = Field("", description='Matchers such as `{severity="critical"}`.')
    max_items: Annotated[int, Field(ge=1, le=1000)] = 100
    sort: Literal["name", "name_desc", "importance", "newest", "oldest"] = "name"


class PanelOptions(DocumentPart):
    """The options of a panel."""

    legend: Legend | None = None
    tooltip: Tooltip | None = None
    reduce: Reduce | None = None
    orientation: Literal["auto", "horizontal", "vertical"] | None = None
    text_size: TextSize | None = None
    justify: Literal["auto", "center"] | None = None
    color_mode: Literal["none", "value", "background", "background_solid"] | None = None
    graph_mode: Literal["none", "area"] | None = None
    text_mode: Literal["auto", "value", "value_and_name", "name", "none"] | None = None
    percent_change: bool | None = None
    threshold_labels: bool | None = None
    threshold_markers: bool | None = None
    bar_mode: Literal["basic", "gradient", "lcd"] | None = None
    show_unfilled: bool | None = None
    value_mode: Literal["color", "text", "hidden"] | None = None
    pie: Literal["pie", "donut"] | None = None
    pie_labels: list[Literal["name", "value", "percent"]] | None = None
    pie_sort: Literal["asc", "desc", "none"] | None = None
    show_header: bool | None = None
    sort_by: list[SortColumn] | None = Field(None, max_length=100)
    frame: Annotated[int, Field(ge=0, le=10_000)] | None = Field(
        None, description="Which of several answers a table shows."
    )
    cell_height: Literal["sm", "md", "lg"] | None = None
    pagination: bool | None = None
    footer: Footer | None = None
    heatmap: Heatmap | None = None
    bucket_count: Annotated[int, Field(ge=1, le=10_000)] | None = None
    bucket_size: Number | None = None
    bucket_offset: Number | None = None
    combine: bool | None = None
    show_value: Literal["auto", "always", "never"] | None = None
    align_value: Literal["left", "center", "right"] | None = None
    merge_values: bool | None = None
    row_height: Annotated[Number, Field(gt=0, le=1)] | None = None
    column_width: Annotated[Number, Field(gt=0, le=1)] | None = None
    text: TextContent | None = None
    dashboards: DashboardList | None = None
    alerts: AlertList | None = None
