"""`/api/v1/usage`: how much the tenant stores."""

from collections.abc import Sequence
from datetime import date

from aiohttp import web
from pydantic import Field

from native_api.contract.responses import json_response
from native_api.contract.route import (
    USAGE_BASE,
    Call,
    Example,
    NoQuery,
    Reply,
    ReplyModel,
    Route,
)
from promcompat.core.tenants import TenantUsage
from promcompat.limits.limit_service import LimitUsage


class MetricSeriesReply(ReplyModel):
    """How many series a metric has."""

    metric: str
    series: int


class LimitUsageReply(ReplyModel):
    """How near the tenant is to a limit."""

    name: str
    used: int
    limit: int = Field(description="0: no limit.")
    share: float | None = Field(description="`used` as a part of `limit`; null: no limit.")


class UsageReply(ReplyModel):
    """How much the tenant stores."""

    series: int = Field(
        description="Series that have samples, or only rollups of samples that are no longer kept."
    )
    samples: int = Field(
        description="Samples as they arrived, repeated and deleted ones included until a merge "
        "has removed them."
    )
    samples_per_day: int = Field(
        description="The mean of the last seven days before today that have samples."
    )
    bytes: int = Field(
        description="The tenant's part of the space on disk, by its share of the samples."
    )
    first_day: date | None = Field(description="The first UTC day with samples; null: none.")
    last_day: date | None = Field(description="The last UTC day with samples; null: none.")
    top_metrics: list[MetricSeriesReply] = Field(
        description="The ten metrics with the most series, the largest first."
    )
    limits: list[LimitUsageReply] = Field(
        description="What the tenant has now of what is limited; `/api/v1/limits` has all limits."
    )

    @classmethod
    def of(cls, usage: TenantUsage, limits: Sequence[LimitUsage]) -> "UsageReply":
        """The reply about a tenant."""
        return cls(
            series=usage.n_series,
            samples=usage.n_samples,
            samples_per_day=usage.n_samples_per_day,
            bytes=usage.n_bytes,
            first_day=usage.first_day,
            last_day=usage.last_day,
            top_metrics=[
                MetricSeriesReply(metric=name, series=n_series)
                for name, n_series in usage.top_metrics
            ],
            limits=[
                LimitUsageReply(name=one.name, used=one.used, limit=one.limit, share=one.share)
                for one in limits
            ],
        )


async def handle_get_usage(call: Call[NoQuery, None]) -> web.Response:
    """How much the tenant stores."""
    usage = await call.services.usage.find(call.tenant)
    limits = await call.services.limits.usage(call.tenant)
    return json_response(call.request, UsageReply.of(usage, limits))


ROUTES = (
    Route(
        method="GET",
        base=USAGE_BASE,
        path="",
        handler=handle_get_usage,
        tag="Usage",
        summary="Read how much the tenant stores",
        description="The same as the SQL view `usage`, for the tenant of the request. The figures "
        "may be a minute old.",
        replies={200: Reply("The usage of the tenant.", UsageReply)},
        examples=(Example(name="Now", status=200),),
    ),
)
