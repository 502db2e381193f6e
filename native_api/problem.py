"""Errors as RFC 9457 problem details, with the fields that are at fault."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, Field

from promcompat.core.errors import (
    BadDataError,
    ConflictError,
    ExecutionError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    PreconditionFailedError,
    PromcompatError,
    QueryCanceledError,
    QueryTimeoutError,
    StorageUnavailableError,
    UnsupportedMediaTypeError,
    WriteRejectedError,
)

CONTENT_TYPE = "application/problem+json"
MAX_FAULTS = 100
"""How many faults a problem lists; `n_errors` counts all."""

STATUS_OF_ERROR: dict[type[PromcompatError], int] = {
    PromcompatError: 500,
    BadDataError: 400,
    WriteRejectedError: 409,
    UnsupportedMediaTypeError: 415,
    PayloadTooLargeError: 413,
    ConflictError: 409,
    PreconditionFailedError: 412,
    ExecutionError: 422,
    NotFoundError: 404,
    QueryCanceledError: 499,
    QueryTimeoutError: 503,
    StorageUnavailableError: 503,
}
TITLES: dict[int, str] = {
    400: "The request is invalid",
    401: "The tenant is missing",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict with what is stored",
    412: "The resource has changed",
    413: "The body is too large",
    415: "The media type is not supported",
    422: "The query failed",
    499: "The client went away",
    500: "Internal error",
    503: "Temporarily unavailable",
}


class Fault(BaseModel):
    """One field that is at fault."""

    location: Literal["body", "query", "path", "header"] = Field(
        alias="in", description="Which part of the request the field is in."
    )
    field: str = Field(description="The field, for example `metrics[3].value` or `start`.")
    reason: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="A URI that tells kinds of problem apart: `/docs#problem-…`.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened this time.")
    errors: list[Fault] = Field(
        default_factory=list, description=f"The fields at fault, at most {MAX_FAULTS}."
    )
    n_errors: int = Field(default=0, description="How many faults there are in all.")


class InvalidRequestError(BadDataError):
    """Fields of the request are at fault (400)."""

    def __init__(self, faults: Sequence[Fault], detail: str = "") -> None:
        """`faults` must not be empty; `detail` is the first of them unless given."""
        self.faults = tuple(faults)
        first = self.faults[0]
        super().__init__(detail or f"{first.field}: {first.reason}")


def fault(location: Literal["body", "query", "path", "header"], field: str, reason: str) -> Fault:
    """A fault of one field."""
    return Fault.model_validate({"in": location, "field": field, "reason": reason})


def title_of(status: int) -> str:
    """The kind of problem a status stands for."""
    return TITLES.get(status) or HTTPStatus(status).phrase


def problem_slug(status: int) -> str:
    """The fragment of the docs page that explains problems of a status."""
    return "problem-" + title_of(status).lower().replace(" ", "-")


def problem_response(
    status: int,
    detail: str,
    faults: Sequence[Fault] = (),
    headers: dict[str, str] | None = None,
) -> web.Response:
    """A problem as a response."""
    document: dict[str, object] = {
        "type": f"/docs#{problem_slug(status)}",
        "title": title_of(status),
        "status": status,
        "detail": _encodable(detail),
    }
    if faults:
        shown = [one.model_dump(by_alias=True) for one in faults[:MAX_FAULTS]]
        document["errors"] = [
            {name: _encodable(text) for name, text in one.items()} for one in shown
        ]
        document["n_errors"] = len(faults)
    return web.Response(
        status=status, body=orjson.dumps(document), content_type=CONTENT_TYPE, headers=headers
    )


def error_status(error: PromcompatError) -> int:
    """The status of an error: that of its nearest class in the table."""
    return next(STATUS_OF_ERROR[kind] for kind in type(error).__mro__ if kind in STATUS_OF_ERROR)


def problem_of(error: PromcompatError) -> web.Response:
    """The response to an error of ours; Retry-After on what is worth trying again."""
    headers: dict[str, str] = {}
    match error:
        case OverloadedError():
            headers[hdrs.RETRY_AFTER] = str(error.retry_after_seconds)
        case StorageUnavailableError():
            headers[hdrs.RETRY_AFTER] = "1"
    faults = error.faults if isinstance(error, InvalidRequestError) else ()
    return problem_response(error_status(error), str(error), faults, headers)


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()
