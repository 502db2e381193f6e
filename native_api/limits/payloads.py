"""The JSON of limits."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from native_api.contract.merge_patch import patch_type
from native_api.contract.problem import Fault, InvalidRequestError, fault
from native_api.contract.route import BodyModel, ReplyModel
from promcompat.core.errors import BadDataError
from promcompat.core.limits.limit_definitions import LIMIT_OF, LIMITS, LimitValues
from promcompat.core.limits.tenant_limits import StoredOverrides
from promcompat.limits.current_limits import LimitValue

LimitJson = int | str


class LimitsPayload(BodyModel):
    """The overrides of a tenant, all of them."""

    overrides: dict[str, LimitJson] = Field(
        max_length=len(LIMITS),
        description="Values by the names of limits: whole numbers, or durations such as `1h`. "
        "Other limits have the values of the file of overrides or of the settings.",
    )


LimitsPatch = patch_type(LimitsPayload, "LimitsPatch")


class LimitReply(ReplyModel):
    """A limit of the tenant."""

    name: str
    value: LimitJson = Field(
        description="What counts for the tenant; 0: no limit (of exemplars: none are kept)."
    )
    source: str = Field(
        description="`override`: set here or by the command line; `file`: in the file of "
        "overrides; `setting`: the same for every tenant."
    )
    default: LimitJson = Field(description="The value of the setting.")
    unit: str
    bounds: str = Field(description="What the limit is about.")
    setting: str = Field(description="The setting with the default.")
    reason: str = Field(description="The label of the metrics that count refusals.")
    status: int = Field(
        description="The status of requests that exceed the limit. For limits of rules it is that "
        "of the ruler API; the native API answers 409."
    )


class LimitsReply(ReplyModel):
    """The limits of the tenant, and its overrides."""

    version: int = Field(description="The version of the overrides; 1: there never were any.")
    overrides: dict[str, LimitJson]
    limits: list[LimitReply]

    @classmethod
    def of(cls, stored: StoredOverrides, values: Mapping[str, LimitValue]) -> "LimitsReply":
        """The reply about a tenant."""
        return cls(
            version=stored.version,
            overrides=shown_overrides(stored.values),
            limits=[
                LimitReply(
                    name=limit.name,
                    value=limit.shown(values[limit.name].value),
                    source=values[limit.name].source.value,
                    default=limit.shown(values[limit.name].default),
                    unit=limit.unit,
                    bounds=limit.bounds,
                    setting=f"PROMCOMPAT_{limit.setting.upper()}",
                    reason=limit.reason,
                    status=limit.status,
                )
                for limit in LIMITS
            ],
        )


def shown_overrides(values: LimitValues) -> dict[str, LimitJson]:
    """Overrides as they are written."""
    return {name: LIMIT_OF[name].shown(value) for name, value in values.items()}


def parsed_overrides(given: Mapping[str, Any]) -> LimitValues:
    """The values of overrides. Raises InvalidRequestError with everything that is wrong."""
    values: dict[str, int] = {}
    faults: list[Fault] = []
    for name, value in given.items():
        limit = LIMIT_OF.get(name)
        if limit is None:
            names = f"one of these: {', '.join(LIMIT_OF)}"
            faults.append(fault("body", f"overrides.{name}", "is no limit", names))
            continue
        try:
            values[name] = limit.parse(value)
        except BadDataError:
            faults.append(fault("body", f"overrides.{name}", "is not allowed", limit.expected))
    if faults:
        raise InvalidRequestError(faults)
    return values
