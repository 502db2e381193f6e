"""What is posted, and what is answered."""

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


# Typed dicts, not models: a batch of 10,000 is validated in 13 ms, where models take 30 ms.
class SamplePayload(TypedDict):
    """One sample."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    name: Annotated[str, Field(description="The metric's name.", examples=["queue_length"])]
    value: Annotated[
        float | SpecialValue,
        Field(description="A number, or `NaN`, `Infinity`, `-Infinity` as a string."),
    ]
    labels: NotRequired[
        Annotated[
            dict[str, str] | None,
            Field(description="Names and values; an empty value is as no label, null as none."),
        ]
    ]
    source: NotRequired[
        Annotated[str | None, Field(description="Where it comes from: the label `source`.")]
    ]
    timestamp: NotRequired[
        Annotated[
            int | float | str | None,
            Field(
                description="ISO 8601 with a zone, or Unix seconds; now when absent.",
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
        description="Store the valid samples and list each invalid one, instead of storing "
        "nothing when one is invalid.",
    )


class IngestReply(ReplyModel):
    """What became of the samples. Accepted ones are committed and visible to every query."""

    accepted: int = Field(description="How many samples are stored.")
    rejected: int = Field(description="How many samples are not.")
    errors: list[Fault] = Field(description="Why not, an entry for each field at fault.")
