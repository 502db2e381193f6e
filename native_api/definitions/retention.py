"""`/retention`: how long the samples of the tenant are kept."""

from aiohttp import web
from pydantic import Field

from native_api.contract.responses import json_response
from native_api.contract.route import BodyModel, Call, Example, NoQuery, Reply, ReplyModel, Route
from promcompat.core.tenants import TenantRetention


class RetentionPayload(BodyModel):
    """What a tenant says of its samples."""

    retention_days: int | None = Field(
        ge=0,
        le=36_500,
        description="How many days samples are kept; 0: forever, null: as the service keeps them. "
        "A metric's own `retention_days` counts before that.",
    )


class RetentionReply(ReplyModel):
    """How long the samples of the tenant are kept."""

    retention_days: int | None = Field(
        description="What the tenant has said; null: nothing, so the service's counts."
    )
    service_retention_days: int = Field(
        description="How many days the service keeps samples; 0: forever."
    )

    @classmethod
    def of(cls, retention: TenantRetention) -> "RetentionReply":
        """The reply about a tenant."""
        return cls(retention_days=retention.own_days, service_retention_days=retention.service_days)


async def handle_get_retention(call: Call[NoQuery, None]) -> web.Response:
    """How long the samples of the tenant are kept."""
    found = await call.services.retention.find(call.tenant)
    return json_response(call.request, RetentionReply.of(found))


async def handle_put_retention(call: Call[NoQuery, RetentionPayload]) -> web.Response:
    """Say how long the samples of the tenant are kept."""
    saved = await call.services.retention.save(call.tenant, call.body.retention_days)
    return json_response(call.request, RetentionReply.of(saved))


_EFFECT = (
    "It counts at once: nobody sees a sample that is older, and maintenance removes such samples "
    "within the hour. A longer retention brings back what was not removed yet."
)

RETENTION_ROUTES = (
    Route(
        method="GET",
        path="/retention",
        handler=handle_get_retention,
        tag="Definitions",
        summary="Read how long samples are kept",
        replies={200: Reply("The retention of the tenant and of the service.", RetentionReply)},
        examples=(Example(name="As it is", status=200),),
    ),
    Route(
        method="PUT",
        path="/retention",
        handler=handle_put_retention,
        tag="Definitions",
        summary="Say how long samples are kept",
        description="The retention of all metrics of the tenant that have none in their "
        f"definition. {_EFFECT}",
        body=RetentionPayload,
        replies={200: Reply("Set.", RetentionReply)},
        examples=(
            Example(name="A year", status=200, body={"retention_days": 365}),
            Example(name="Forever", status=200, body={"retention_days": 0}),
            Example(name="As the service", status=200, body={"retention_days": None}),
            Example(name="Not a number of days", status=400, body={"retention_days": -1}),
        ),
    ),
)
