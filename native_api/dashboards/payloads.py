"""Requests and replies of dashboards."""

from typing import Annotated, Any, Self

from pydantic import Field

from native_api.contract.parameters import Reason, StoredText
from native_api.contract.route import BodyModel, QueryModel, ReplyModel
from promcompat.core.dashboards import DashboardSummary, DashboardVersion, StoredDashboard
from promcompat.core.texts.times import format_time_ms
from promcompat.dashboards.dashboard_service import UID_PATTERN
from promcompat.dashboards.grafana.source import Finding
from promcompat.dashboards.model import Dashboard

Uid = Annotated[str, Field(pattern=UID_PATTERN, description="The name in the address.")]


class DashboardPayload(BodyModel):
    """A dashboard in a request; a GET response is accepted unchanged."""

    uid: Uid | None = Field(None, description="Absent: one is made up.")
    dashboard: Dashboard
    actor: Annotated[StoredText, Field(max_length=200)] | None = Field(
        None, description="Who does this; with access on, the name of the token is recorded."
    )
    reason: Reason = Field("", description="Why; shown in the list of versions.")
    version: int | None = Field(None, description="Ignored, as are the next fields.")
    newest_version: int | None = None
    source: str | None = None
    created_at: str | None = None
    saved_at: str | None = None
    saved_by: str | None = None


class DashboardVersionReply(ReplyModel):
    """A version of a dashboard."""

    version: int = Field(description="Grows with each change. The ETag is this number in quotes.")
    saved_at: str
    saved_by: str
    reason: str

    @classmethod
    def of_version(cls, version: DashboardVersion) -> Self:
        """The payload of a core value."""
        return cls(**version_fields(version))


def version_fields(version: DashboardVersion) -> dict[str, Any]:
    """The fields that every reply has."""
    return {
        "version": version.version,
        "saved_at": format_time_ms(version.saved_at_ms),
        "saved_by": version.saved_by,
        "reason": version.reason,
    }


class DashboardSummaryReply(DashboardVersionReply):
    """A dashboard in the list."""

    uid: str
    title: str
    tags: list[str]
    source: str = Field(description="The file it is provisioned from; empty for one of the API.")
    created_at: str

    @classmethod
    def of_summary(cls, summary: DashboardSummary) -> Self:
        """The payload of a core value."""
        return cls(
            **version_fields(summary),
            uid=summary.uid,
            title=summary.title,
            tags=list(summary.tags),
            source=summary.source,
            created_at=format_time_ms(summary.created_at_ms),
        )


class DashboardListReply(ReplyModel):
    """Dashboards by title."""

    dashboards: list[DashboardSummaryReply]


class DashboardReply(DashboardVersionReply):
    """A dashboard."""

    uid: str
    source: str
    created_at: str
    newest_version: int
    dashboard: dict[str, Any] = Field(description="The document, without what has its default.")

    @classmethod
    def of_stored(cls, stored: StoredDashboard) -> Self:
        """The payload of a core value."""
        return cls(
            **version_fields(stored),
            uid=stored.uid,
            source=stored.source,
            created_at=format_time_ms(stored.created_at_ms),
            newest_version=stored.newest_version,
            dashboard=dict(stored.document),
        )


class DashboardVersionsReply(ReplyModel):
    """The versions of a dashboard that are kept."""

    versions: list[DashboardVersionReply]


class DashboardDeletedReply(ReplyModel):
    """The result of a deletion."""

    uid: str
    deleted: bool


class DashboardListQuery(QueryModel):
    """Parameters of the list."""

    tag: list[StoredText] = Field(
        default_factory=list, max_length=100, description="Only dashboards with this tag."
    )
    search: Annotated[StoredText, Field(max_length=200)] = Field(
        "", description="Only dashboards whose title has this text."
    )


class ImportQuery(QueryModel):
    """Parameters of an import."""

    save: bool = Field(False, description="Store the dashboard too, as PUT does.")


class ImportPayload(BodyModel):
    """A file of Grafana, or one that promcompat exported."""

    document: dict[str, Any] = Field(
        description="The JSON of the file: the dashboard itself, or Grafana's answer with "
        "`dashboard` and `meta`."
    )
    inputs: dict[str, str] = Field(
        default_factory=dict,
        max_length=100,
        description="Values for the `__inputs` of the file by their names. Data sources need "
        "none: there is one.",
    )
    uid: Uid | None = Field(None, description="Absent: that of the file, else a new one.")
    actor: Annotated[StoredText, Field(max_length=200)] | None = None


class FindingReply(ReplyModel):
    """Something that the file has and the dashboard has not."""

    path: str = Field(description="Its place in the file, such as `panels[3].targets[0]`.")
    panel: str = Field(description="The title of its panel; empty outside panels.")
    what: str
    reason: str

    @classmethod
    def of_finding(cls, finding: Finding) -> Self:
        """The payload of a core value."""
        return cls(path=finding.path, panel=finding.panel, what=finding.what, reason=finding.reason)


class ImportReply(ReplyModel):
    """The result of an import."""

    uid: str = Field(description="The uid of the file, or of the stored dashboard; may be empty.")
    saved: bool
    version: int | None = Field(None, description="Of the stored dashboard.")
    dashboard: dict[str, Any]
    unsupported: list[FindingReply] = Field(description="What the dashboard does not show.")
    changed: list[FindingReply] = Field(description="What it shows in another way.")
