"""Errors as RFC 9457 problem details, with the fields that are at fault."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Literal

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, Field

from promcompat.core.errors import (
    AccessError,
    BadDataError,
    ConflictError,
    ExecutionError,
    ExistsAlreadyError,
    ForbiddenError,
    InvalidFieldsError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    PreconditionFailedError,
    PromcompatError,
    QueryCanceledError,
    QueryTimeoutError,
    RateLimitedError,
    RequestTimeoutError,
    StorageUnavailableError,
    UnauthenticatedError,
    UnsupportedEncodingError,
    UnsupportedMediaTypeError,
    WriteRejectedError,
)
from promcompat.http.guard import challenge_headers

CONTENT_TYPE = "application/problem+json"
MAX_FAULTS = 100
"The most faults a problem lists; `n_errors` counts all of them."

STATUS_OF_ERROR: dict[type[PromcompatError], int] = {
    PromcompatError: 500,
    BadDataError: 400,
    WriteRejectedError: 409,
    UnsupportedMediaTypeError: 415,
    PayloadTooLargeError: 413,
    RequestTimeoutError: 408,
    ConflictError: 409,
    PreconditionFailedError: 412,
    ExecutionError: 422,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    RateLimitedError: 429,
    NotFoundError: 404,
    QueryCanceledError: 499,
    QueryTimeoutError: 503,
    StorageUnavailableError: 503,
}
TITLES: dict[int, str] = {
    400: "The request is invalid",
    401: "The tenant or a valid credential is missing",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "The body came too slowly",
    409: "Conflict with what is stored",
    412: "The resource has changed",
    413: "The body is too large",
    415: "The media type is not supported",
    422: "The query failed",
    429: "Too much at once",
    499: "The client went away",
    500: "Internal error",
    503: "Temporarily unavailable",
}

_FAULTS_OF_STATUS: dict[int, tuple["Part", str, str]] = {
    400: ("request", "request", "a request as described in /docs"),
    401: (
        "header",
        "Authorization, X-Scope-OrgID",
        "a valid token, and the tenant's name where the token does not tell it",
    ),
    403: ("header", "Authorization", "a token with the role and the tenant of the operation"),
    404: ("path", "path", "a path listed in /docs that names an existing resource"),
    405: ("request", "method", "one of the methods in the Allow header"),
    409: ("request", "request", "a request that does not conflict with what is stored"),
    412: ("header", "If-Match", "the ETag of the current version, as returned by GET"),
    413: ("body", "body", "a body within the size limit"),
    415: ("header", "Content-Type", "a media type that /docs lists for this body"),
    422: ("request", "request", "a query within the limits given in the reason"),
    429: ("request", "request", "the same request, sent again after Retry-After seconds"),
    499: ("request", "request", "a client that waits for the response"),
    500: ("request", "request", "no error; the server log has the cause"),
    503: ("request", "request", "the same request, sent again after Retry-After seconds"),
}

Part = Literal["body", "query", "path", "header", "request"]


class Fault(BaseModel):
    """A fault of a request: where it is, what is wrong, what is expected."""

    location: Part = Field(
        alias="in",
        description="The part of the request that is at fault; `request` means the request as a "
        "whole.",
    )
    field: str = Field(description="The field, for example `metrics[3].value` or `start`.")
    reason: str = Field(description="What is wrong.")
    expected: str = Field(description="What would be accepted.")
    index: int | None = Field(
        None,
        description="Ingest only: the position of the sample in the request, counted from 0.",
        exclude_if=lambda index: index is None,
    )


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="A URI that identifies the kind of problem: `/docs#problem-…`.")
    title: str = Field(description="The kind of problem, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What went wrong with this request.")
    errors: list[Fault] = Field(
        description=f"The faults found in the request, at most {MAX_FAULTS} of them."
    )
    n_errors: int = Field(description="The number of faults found, including those not listed.")


class FieldError(ValueError):
    """Raised by a field validator: what is wrong, and what is expected."""

    def __init__(self, reason: str, expected: str = "", field: str = "") -> None:
        """Without `expected`, the text is derived from the JSON schema of the field.

        A validator of several fields sets `field` to the one at fault.
        """
        super().__init__(reason)
        self.expected = expected
        self.field = field


class InvalidRequestError(BadDataError):
    """Fields of the request are at fault (400)."""

    def __init__(self, faults: Sequence[Fault], detail: str = "", n_faults: int = 0) -> None:
        """`faults` must not be empty; `detail` defaults to the first fault.

        `n_faults` is how many were found, if more than are in `faults`.
        """
        self.faults = tuple(faults)
        self.n_faults = n_faults or len(self.faults)
        super().__init__(detail or describe_fault(self.faults[0]))


def fault(
    location: Part, field: str, reason: str, expected: str, index: int | None = None
) -> Fault:
    """A fault of one field."""
    return Fault.model_validate(
        {"in": location, "field": field, "reason": reason, "expected": expected, "index": index}
    )


def describe_fault(found: Fault) -> str:
    """A fault as one sentence."""
    expected = f"; expected {found.expected}" if found.expected else ""
    return f"{found.field}: {found.reason}{expected}"


@contextmanager
def errors_blamed_on(location: Part, field: str, expected: str) -> Iterator[None]:
    """Report BadDataErrors raised in the block as faults of this field."""
    try:
        yield
    except BadDataError as exc:
        if isinstance(exc, InvalidRequestError | InvalidFieldsError) or error_status(exc) != 400:
            raise
        raise InvalidRequestError([fault(location, field, str(exc), expected)]) from exc


def title_of(status: int) -> str:
    """The title of problems with a status."""
    return TITLES.get(status) or HTTPStatus(status).phrase


def problem_slug(status: int) -> str:
    """The fragment of the docs page about problems with a status."""
    return "problem-" + title_of(status).lower().replace(" ", "-")


def problem_response(
    status: int,
    detail: str,
    faults: Sequence[Fault] = (),
    headers: dict[str, str] | None = None,
    n_faults: int = 0,
) -> web.Response:
    """A problem as a response; `n_faults` were found, if more than are in `faults`."""
    faults = faults or [_fault_of_status(status, detail)]
    document: dict[str, object] = {
        "type": f"/docs#{problem_slug(status)}",
        "title": title_of(status),
        "status": status,
        "detail": encodable(detail),
        "errors": fault_documents(faults[:MAX_FAULTS]),
        "n_errors": n_faults or len(faults),
    }
    return web.Response(
        status=status, body=orjson.dumps(document), content_type=CONTENT_TYPE, headers=headers
    )


def fault_documents(faults: Sequence[Fault]) -> list[dict[str, object]]:
    """Faults as JSON; text that cannot be encoded is replaced."""
    return [
        {
            name: encodable(value) if isinstance(value, str) else value
            for name, value in found.model_dump(by_alias=True).items()
        }
        for found in faults
    ]


def _fault_of_status(status: int, detail: str) -> Fault:
    """The fault of a problem that is not about single fields."""
    location, field, expected = _FAULTS_OF_STATUS.get(
        status, ("request", "request", "a request as described in /docs")
    )
    return fault(location, field, detail, expected)


def error_status(error: PromcompatError) -> int:
    """The status of an error, by its nearest class in the table."""
    return next(STATUS_OF_ERROR[kind] for kind in type(error).__mro__ if kind in STATUS_OF_ERROR)


def problem_of(error: PromcompatError, path_part: str) -> web.Response:
    """The response to an error, with Retry-After if a retry may succeed.

    `path_part` is the part of the path that identifies the resource, for a 404.
    """
    headers: dict[str, str] = {}
    match error:
        case OverloadedError() | RateLimitedError():
            headers[hdrs.RETRY_AFTER] = str(error.retry_after_seconds)
        case StorageUnavailableError():
            headers[hdrs.RETRY_AFTER] = "1"
        case AccessError():
            headers |= challenge_headers(error)
    faults: Sequence[Fault] = ()
    n_faults = 0
    match error:
        case InvalidRequestError():
            faults, n_faults = error.faults, error.n_faults
        case UnsupportedEncodingError():
            faults = [fault("header", "Content-Encoding", str(error), "gzip, or no encoding")]
        case ExistsAlreadyError():
            faults = [fault("header", "If-None-Match", str(error), "no such header, to replace it")]
        case NotFoundError():
            faults = [
                fault(
                    "path",
                    path_part,
                    str(error),
                    "an existing resource, as returned by the list endpoint",
                )
            ]
        case InvalidFieldsError():
            faults = [
                fault("body", found.field, found.reason, found.expected) for found in error.faults
            ]
    return problem_response(error_status(error), str(error), faults, headers, n_faults)


def encodable(text: str) -> str:
    """The text with characters that UTF-8 cannot encode replaced."""
    return text.encode(errors="replace").decode()
