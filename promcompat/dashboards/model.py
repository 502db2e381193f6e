"""The JSON document of a dashboard: what is stored, exported and drawn.

`schema_version` is 1. A later version of the service reads every document that an earlier one
stored; a change that would not be readable gets another number.
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from promcompat.core.errors import BadDataError
from promcompat.dashboards.field_model import (
    DocumentPart,
    FieldSettings,
    Link,
    Override,
    Text,
    Transformation,
)
from promcompat.dashboards.panel_options import PanelOptions

SCHEMA_VERSION: Final = 1
COLUMNS: Final = 24
"""The width of a dashboard in units of the grid."""
MAX_PANELS: Final = 1000

PanelType = Literal[
    "timeseries",
    "stat",
    "gauge",
    "bargauge",
    "table",
    "heatmap",
    "histogram",
    "piechart",
    "state-timeline",
    "status-history",
    "text",
    "dashlist",
    "alertlist",
]
PanelId = Annotated[int, Field(ge=1, le=2**31)]
VariableName = Annotated[str, Field(pattern=r"^\w{1,100}$")]


class Grid(DocumentPart):
    """The place of a panel in its row, in units of 24 columns and lines of 30 pixels."""

    x: Annotated[int, Field(ge=0, lt=COLUMNS)]
    y: Annotated[int, Field(ge=0, le=100_000)]
    width: Annotated[int, Field(ge=1, le=COLUMNS)]
    height: Annotated[int, Field(ge=1, le=1000)]


class Query(DocumentPart):
    """A PromQL query of a panel; every text may contain variables."""

    ref: Annotated[Text, Field(min_length=1, max_length=100)] = Field(
        description="The name of the query in its panel, such as `A`."
    )
    expr: Text
    legend: Text = Field(
        "", description="A name with `{{label}}`; `auto` is the shortest distinct one."
    )
    auto_legend: bool = False
    format: Literal["time_series", "table", "heatmap"] = "time_series"
    instant: bool = Field(False, description="Ask for the end of the range only.")
    range: bool = Field(True, description="Ask for the whole range.")
    min_step: Text = Field("", description="A duration such as `1m`, or a variable.")
    step_factor: Annotated[int, Field(ge=1, le=100)] = 1
    hidden: bool = False
    exemplars: bool = False


class Repeat(DocumentPart):
    """A copy for each selected value of a variable."""

    variable: VariableName
    direction: Literal["horizontal", "vertical"] = "horizontal"
    max_per_row: Annotated[int, Field(ge=1, le=COLUMNS)] = 4


class Panel(DocumentPart):
    """A panel. `queries` are of those that show metrics; `panel_source` shows another's answer."""

    id: PanelId = Field(description="Unique in the dashboard.")
    type: PanelType
    title: Text = ""
    description: Text = ""
    transparent: bool = False
    grid: Grid
    repeat: Repeat | None = None
    queries: list[Query] = Field(default_factory=list, max_length=200)
    panel_source: PanelId | None = Field(
        None, description="The id of the panel whose answer is shown."
    )
    min_interval: Text = Field("", description="The least step of all queries.")
    max_data_points: Annotated[int, Field(ge=1, le=11_000)] | None = Field(
        None, description="Absent: one for each pixel."
    )
    time_from: Text = Field("", description="A range of its own, such as `6h`.")
    time_shift: Text = Field("", description="How far before the range of the dashboard.")
    hide_time: bool = False
    transformations: list[Transformation] = Field(default_factory=list, max_length=100)
    fields: FieldSettings = Field(default_factory=lambda: FieldSettings.model_validate({}))
    overrides: list[Override] = Field(default_factory=list, max_length=500)
    options: PanelOptions = Field(default_factory=lambda: PanelOptions.model_validate({}))
    links: list[Link] = Field(default_factory=list, max_length=100)

    @model_validator(mode="after")
    def _queries_have_own_names(self) -> Self:
        names = [query.ref for query in self.queries]
        if len(set(names)) < len(names):
            raise ValueError(f"panel {self.id}: two queries have the same ref")
        return self


class Row(DocumentPart):
    """Panels below one title. The panels of a collapsed row are not queried.

    A row without a title has no header: it is the part of the dashboard above the first one.
    """

    title: Text | None = None
    collapsed: bool = False
    repeat: VariableName | None = None
    panels: list[Panel] = Field(default_factory=list, max_length=MAX_PANELS)


class Option(DocumentPart):
    """A value that can be selected."""

    text: Text
    value: Text


class Variable(DocumentPart):
    """A variable, which texts name as `$name` or `${name}`.

    `query` is `label_values(selector, label)`, `label_values(label)`, `label_names()`,
    `metrics(regex)`, `query_result(expr)` or a selector; of a `textbox` and a `constant` it is the
    text.
    """

    name: VariableName
    kind: Literal["query", "custom", "interval", "textbox", "constant", "datasource", "adhoc"]
    label: Text = ""
    description: Text = ""
    hide: Literal["no", "label", "variable"] = "no"
    in_url: bool = True
    query: Text = ""
    options: list[Option] = Field(
        default_factory=list, max_length=10_000, description="Of the kinds custom and interval."
    )
    regex: Text = Field("", description="What of each result of the query is an option.")
    sort: Literal[
        "none",
        "asc",
        "desc",
        "numeric_asc",
        "numeric_desc",
        "ignore_case_asc",
        "ignore_case_desc",
        "natural_asc",
        "natural_desc",
    ] = "none"
    refresh: Literal["load", "time"] = "load"
    multi: bool = False
    include_all: bool = False
    all_value: Text | None = Field(
        None, description="What stands for All in queries, as it is; absent: all options."
    )
    current: Text | list[Text] = Field(
        "", description="The selected value or values; `$__all` is All."
    )
    auto_count: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="Of intervals: `auto` divides the range by this."
    )
    auto_min: Text = Field("10s", description="Of intervals: the least value of `auto`.")
    filters: list["AdhocFilter"] = Field(default_factory=list, max_length=100)


class AdhocFilter(DocumentPart):
    """A matcher that is added to every selector."""

    key: Text
    operator: Literal["=", "!=", "=~", "!~"]
    value: Text


class Annotation(DocumentPart):
    """Marks on graphs: the times at which an expression is above zero."""

    name: Text
    enabled: bool = True
    hidden: bool = Field(False, description="Without a switch in the dashboard's header.")
    color: Text = "red"
    expr: Text
    step: Text = "60s"
    title: Text = Field("", description="A text with `{{label}}`.")
    text: Text = ""
    tags: list[Text] = Field(default_factory=list, max_length=100, description="Names of labels.")
    value_is_time: bool = False
    panels: list[PanelId] | None = Field(None, max_length=MAX_PANELS)
    exclude_panels: bool = False


class DashboardLink(DocumentPart):
    """A link in the header: to a URL, or to the dashboards with all of some tags."""

    kind: Literal["url", "dashboards"]
    title: Text = ""
    tooltip: Text = ""
    url: Text = ""
    tags: list[Text] = Field(default_factory=list, max_length=100)
    as_dropdown: bool = False
    keep_time: bool = False
    include_variables: bool = False
    new_tab: bool = False


class TimeRange(DocumentPart):
    """`now-1h` and `now`, or absolute times."""

    start: Annotated[Text, Field(max_length=100)] = "now-1h"
    end: Annotated[Text, Field(max_length=100)] = "now"


def _distinct_tags(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


class Dashboard(DocumentPart):
    """A dashboard."""

    schema_version: Literal[1] = SCHEMA_VERSION
    title: Annotated[Text, Field(min_length=1, max_length=500)]
    description: Text = ""
    tags: Annotated[
        list[Annotated[Text, Field(max_length=200)]],
        Field(max_length=100),
        AfterValidator(_distinct_tags),
    ] = Field(default_factory=list)
    time: TimeRange = Field(default_factory=TimeRange)
    refresh: Text = Field("", description="Such as `30s`; empty: only by hand.")
    refresh_choices: list[Text] = Field(default_factory=list, max_length=50)
    now_delay: Text = Field("", description="How long before the present `now` is.")
    timezone: Text = Field(
        "browser", description="`browser`, `utc` or a name such as Europe/Berlin."
    )
    week_start: Literal["", "monday", "saturday", "sunday"] = ""
    fiscal_year_start_month: Annotated[int, Field(ge=0, le=11)] = 0
    hide_time_picker: bool = False
    tooltip: Literal["own", "crosshair", "shared"] = Field(
        "own", description="What the pointer over one graph shows in the others."
    )
    variables: list[Variable] = Field(default_factory=list, max_length=200)
    annotations: list[Annotation] = Field(default_factory=list, max_length=100)
    links: list[DashboardLink] = Field(default_factory=list, max_length=100)
    rows: list[Row] = Field(default_factory=list, max_length=MAX_PANELS)

    @property
    def panels(self) -> list[Panel]:
        """The panels of all rows."""
        return [panel for row in self.rows for panel in row.panels]

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        ids = [panel.id for panel in self.panels]
        if len(ids) > MAX_PANELS:
            raise ValueError(f"the dashboard has {len(ids)} panels; expected at most {MAX_PANELS}")
        if len(set(ids)) < len(ids):
            repeated = next(one for one in ids if ids.count(one) > 1)
            raise ValueError(f"two panels have the id {repeated}; expected an id of each")
        names = [variable.name for variable in self.variables]
        if len(set(names)) < len(names):
            repeated_name = next(one for one in names if names.count(one) > 1)
            raise ValueError(f"two variables have the name {repeated_name}")
        return self

    def document(self) -> dict[str, Any]:
        """The document without what has its default."""
        found: dict[str, Any] = self.model_dump(mode="json", exclude_unset=True)
        return {"schema_version": SCHEMA_VERSION, **found}


def read_dashboard(document: object) -> Dashboard:
    """The dashboard of a document. Raises BadDataError with the place of the first fault."""
    try:
        return Dashboard.model_validate(document)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        raise BadDataError(f"{place_of(first) or 'the dashboard'}: {reason_of(first)}") from exc


def place_of(fault: ErrorDetails) -> str:
    """Where a fault is, such as `rows.0.title`."""
    return ".".join(str(part) for part in fault["loc"])


def reason_of(fault: ErrorDetails) -> str:
    """What is wrong there, in words of ours."""
    context = fault.get("ctx", {})
    match fault["type"]:
        case "value_error":
            return str(context["error"])
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not known"
        case "string_too_long" | "too_long":
            return f"is too long; expected at most {context['max_length']}"
        case "string_too_short" | "too_short":
            return f"is too short; expected at least {context['min_length']}"
        case "literal_error":
            return f"is {_shown(fault['input'])}; expected {context['expected']}"
        case _:
            return f"is {_shown(fault['input'])}, which is not accepted there"


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, str | int | float) else type(value).__name__
    return repr(text[:60])
