"""How the values of panels are shown: units, colours, thresholds, and what draws them.

A field is one series of a graph, or one column of a table. Settings that are absent have the
default of the panel's type; an override changes those that it names.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from promcompat.core.texts.storable_text import text_fault

MAX_TEXT: Final = 100_000


class DocumentPart(BaseModel):
    """Base of the parts of a dashboard: values are not coerced, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _storable(text: str) -> str:
    if found := text_fault(text):
        raise ValueError(found)
    return text


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_storable)]
"""Text that the database can hold."""
Number = float | Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
"""An integer that JSON libraries can write; a larger one counts as a float."""
_NUMBER: Final = TypeAdapter(Number, config=DocumentPart.model_config)


def _storable_options(options: dict[str, Any]) -> dict[str, Any]:
    return {_storable(key): _storable_value(value) for key, value in options.items()}


def _storable_value(value: Any) -> Any:
    match value:
        case str():
            return _storable(value)
        case dict():
            return _storable_options(value)
        case list():
            return [_storable_value(one) for one in value]
        case int() | float() if not isinstance(value, bool):
            return _NUMBER.validate_python(value)
        case _:
            return value


Scale = Annotated[Number, Field(ge=0, le=1000)]
Percent = Annotated[Number, Field(ge=0, le=100)]


class Color(DocumentPart):
    """How the colour of a field is chosen."""

    mode: Text = Field(
        description="`palette` (by position), `thresholds`, `fixed`, `shades` (of `fixed`), or a "
        "continuous scheme: `continuous-GrYlRd`, `continuous-BlPu`, …"
    )
    fixed: Text | None = Field(None, description="A named colour such as `dark-red`, or `#rrggbb`.")
    series_by: Literal["last", "min", "max"] | None = Field(
        None, description="Which value colours a whole line, in the modes by value."
    )


class ThresholdStep(DocumentPart):
    """A colour from a value on; the first step is the base, whatever its value."""

    value: Number | None = None
    color: Text


class Thresholds(DocumentPart):
    """Steps in ascending order. `percentage`: the place of a value between `min` and `max`."""

    mode: Literal["absolute", "percentage"] = "absolute"
    steps: list[ThresholdStep] = Field(max_length=100)


class Mapping(DocumentPart):
    """What is shown in place of a value; the first mapping that matches counts.

    `value` compares texts, `range` includes both ends (null is open), `regex` replaces in texts,
    `special` is about what is no number.
    """

    kind: Literal["value", "range", "regex", "special"]
    match: Text | None = Field(
        None,
        description="The value; the pattern; or `null`, `nan`, `null+nan`, `true`, `false`, "
        "`empty`. Not of ranges.",
    )
    start: Number | None = Field(None, description="The lower end of a range.")
    end: Number | None = Field(None, description="The upper end of a range.")
    text: Text | None = Field(None, description="What is shown; absent: the value.")
    color: Text | None = None


class Link(DocumentPart):
    """A link of a panel or of its data; the address may contain variables."""

    title: Text = ""
    url: Text
    new_tab: bool = False


class Stacking(DocumentPart):
    """Fields of one group are drawn on top of each other."""

    mode: Literal["none", "normal", "percent"]
    group: Text = "A"


class LineStyle(DocumentPart):
    """Dashes and gaps in pixels."""

    style: Literal["solid", "dash", "dot"]
    dash: list[Number] | None = Field(None, max_length=20)


class AxisScale(DocumentPart):
    """The scale of an axis."""

    type: Literal["linear", "log", "symlog"]
    base: Literal[2, 10] = 10
    linear_threshold: Number | None = None


class Hidden(DocumentPart):
    """Where a field is not shown."""

    graph: bool = False
    legend: bool = False
    tooltip: bool = False


class Cell(DocumentPart):
    """How the cells of a table's column are drawn."""

    type: Literal["auto", "text", "background", "gauge", "sparkline", "json"]
    mode: Literal["basic", "gradient", "lcd"] | None = None
    apply_to_row: bool = False
    wrap: bool = False


class FieldSettings(DocumentPart):
    """The settings of fields: those of every panel first, then those of graphs, then of tables."""

    unit: Text | None = Field(None, description="Such as `bytes`, `percentunit`, `s`, `reqps`.")
    decimals: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="Absent: three significant digits."
    )
    min: Number | None = None
    max: Number | None = None
    own_range: bool | None = Field(
        None, description="Absent ends are those of the field, not of all fields of the panel."
    )
    no_value: Text | None = Field(None, description="What is shown where there is no value.")
    display_name: Text | None = None
    color: Color | None = None
    thresholds: Thresholds | None = None
    mappings: list[Mapping] | None = Field(None, max_length=1000)
    links: list[Link] | None = Field(None, max_length=100)

    draw: Literal["line", "bars", "points"] | None = None
    line_width: Scale | None = None
    line_style: LineStyle | None = None
    line_interpolation: Literal["linear", "smooth", "step_before", "step_after"] | None = None
    fill_opacity: Percent | None = None
    fill_below_to: Text | None = Field(None, description="The name of the field to fill down to.")
    gradient: Literal["none", "opacity", "hue", "scheme"] | None = None
    points: Literal["auto", "never", "always"] | None = None
    point_size: Scale | None = None
    span_nulls: bool | Annotated[int, Field(ge=0)] | None = Field(
        None, description="Draw lines over gaps: of any length, or up to so many milliseconds."
    )
    insert_nulls: bool | Annotated[int, Field(ge=0)] | None = Field(
        None, description="Break lines between points that are further apart in milliseconds."
    )
    bar_alignment: Literal["before", "center", "after"] | None = None
    bar_width: Annotated[Number, Field(gt=0, le=1)] | None = None
    stacking: Stacking | None = None
    transform: Literal["negative_y", "constant"] | None = None
    axis: Literal["auto", "left", "right", "hidden"] | None = None
    axis_label: Text | None = None
    axis_width: Scale | None = None
    axis_soft_min: Number | None = None
    axis_soft_max: Number | None = None
    axis_scale: AxisScale | None = None
    axis_centered: bool | None = None
    axis_grid: bool | None = None
    axis_color: Literal["text", "series"] | None = None
    thresholds_drawn: (
        Literal["off", "line", "dashed", "area", "line+area", "dashed+area"] | None
    ) = None
    hidden: Hidden | None = None

    column_hidden: bool | None = None
    align: Literal["auto", "left", "center", "right"] | None = None
    width: Annotated[Number, Field(ge=1, le=10_000)] | None = None
    min_width: Annotated[Number, Field(ge=0, le=10_000)] | None = None
    cell: Cell | None = None
    filterable: bool | None = None
    footer: list[Text] | None = Field(
        None, max_length=20, description="Calculations below the column of a table."
    )


class Matcher(DocumentPart):
    """Which fields an override is for.

    `name`: the field with this name, or displayed so. `names`: those of a list, or with `exclude`
    all others. `regexp`: between slashes it may match a part. `query`: the answers of a query.
    `type`: `number`, `string` or `time`. `value`: a calculation over the field, such as
    `allIsNull`, compared with `operand`.
    """

    by: Literal["name", "names", "regexp", "query", "type", "value"]
    name: Text | None = None
    names: list[Text] | None = Field(None, max_length=1000)
    exclude: bool = False
    calc: Text | None = None
    operator: Text | None = None
    operand: Number | None = None


class Override(DocumentPart):
    """Settings of some fields; later overrides win."""

    matcher: Matcher
    settings: FieldSettings


class Transformation(DocumentPart):
    """A step between the answers of the queries and the panel.

    `options` are those that Grafana has for the transformation of this id.
    """

    id: Literal[
        "calculateField",
        "filterByValue",
        "filterFieldsByName",
        "groupBy",
        "joinByField",
        "labelsToFields",
        "limit",
        "merge",
        "organize",
        "prepareTimeSeries",
        "reduce",
        "renameByRegex",
        "seriesToRows",
        "sortBy",
    ]
    options: Annotated[dict[str, Any], AfterValidator(_storable_options)] = Field(
        default_factory=dict
    )
    queries: list[Text] | None = Field(
        None, max_length=100, description="Only the answers of these queries."
    )
    disabled: bool = False
