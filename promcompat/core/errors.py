"""One tree of errors; each class names the `errorType` the Prometheus HTTP API gives it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, TypeVar

ErrorT = TypeVar("ErrorT", bound=BaseException)


class PromcompatError(Exception):
    """Root of every error promcompat raises on purpose; the message is safe to show a client."""

    error_type: ClassVar[str] = "internal"


class BadDataError(PromcompatError):
    """The request can never succeed: a malformed parameter, a parse or type error (400)."""

    error_type = "bad_data"


@dataclass(frozen=True, slots=True)
class FieldFault:
    """A fault of a document: the path of the field, what is wrong, what is expected."""

    field: str
    reason: str
    expected: str

    def within(self, path: str) -> "FieldFault":
        """The fault seen from a document that contains this one at `path`."""
        return FieldFault(
            f"{path}.{self.field}" if self.field else path, self.reason, self.expected
        )


class InvalidFieldsError(BadDataError):
    """Fields of a document are at fault (400)."""

    def __init__(self, faults: Sequence[FieldFault]) -> None:
        """`faults` must not be empty."""
        self.faults = tuple(faults)
        first = self.faults[0]
        super().__init__(f"{first.field}: {first.reason}; expected {first.expected}")


class ExecutionError(PromcompatError):
    """The query was understood and failed while running (422)."""

    error_type = "execution"


class QueryCanceledError(PromcompatError):
    """The client disconnected or the query was cancelled (499)."""

    error_type = "canceled"


class QueryTimeoutError(PromcompatError):
    """The query ran longer than its timeout (503)."""

    error_type = "timeout"


class NotFoundError(PromcompatError):
    """The requested resource does not exist (404)."""

    error_type = "not_found"


class StorageUnavailableError(PromcompatError):
    """The database is not available; senders must retry (503).

    Prometheus has no such kind of error. It retries 5xx forever, so 503 keeps the samples.
    """

    error_type = "unavailable"


class ConnectionLostError(StorageUnavailableError):
    """The connection was lost during the work; a read may be retried on another one (503)."""


class StaleKnowledgeError(StorageUnavailableError):
    """Ids that were looked up may be gone: the database stepped back, or series were removed."""


class NotSupportedError(PromcompatError):
    """This installation lacks what the request needs; the message says what that is (501)."""

    error_type = "unavailable"


class DatabaseRefusedError(PromcompatError):
    """The database cannot be used as configured; an operator has to change something.

    Aborts a start. Requests never get it: a running service treats it as unavailable.
    """


class OverloadedError(StorageUnavailableError):
    """A bounded queue is full; try again after `retry_after_seconds` (503 with Retry-After)."""

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RateLimitedError(PromcompatError):
    """The tenant asks for more than its share now; again after `retry_after_seconds` (429)."""

    error_type = "too_many_requests"

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class WriteRejectedError(BadDataError):
    """Part of a write can never be stored (400); the rest of the request is committed.

    `rows` are the rows of the batch whose series has a different value at the same time; `refused`
    maps rows that cannot be stored for another reason to that reason.
    """

    def __init__(
        self,
        message: str,
        rows: tuple[int, ...] = (),
        refused: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.rows = rows
        self.refused = refused

    def of_larger_batch(
        self, positions: Sequence[int], refused: Mapping[int, str]
    ) -> "WriteRejectedError":
        """The error for the batch from which the failed part was taken.

        `positions` maps each row of the part to its row in the larger batch; `refused` are rows of
        the larger batch that were not in the part.
        """
        mine = {positions[row]: reason for row, reason in self.refused.items()}
        rows = tuple(positions[row] for row in self.rows)
        return WriteRejectedError(str(self), rows, {**mine, **refused})


class UnsupportedMediaTypeError(BadDataError):
    """The content type, protobuf message or encoding is not supported (415)."""


class UnsupportedEncodingError(UnsupportedMediaTypeError):
    """The encoding of the body is not supported (415)."""


class PayloadTooLargeError(BadDataError):
    """The body exceeds a size limit (413)."""


class RequestTimeoutError(BadDataError):
    """The client did not send its body in time (408)."""

    error_type = "timeout"


class AccessError(PromcompatError):
    """The request may not be made in this name.

    Outside the native API, the answer is one line of plain text, because senders and Grafana show
    the body as it is.
    """


class UnauthenticatedError(AccessError):
    """No credential, or one that was checked and is wrong (401).

    A credential that could not be checked is a StorageUnavailableError (503), because Prometheus
    drops what is answered 401.
    """

    error_type = "unauthorized"


class ForbiddenError(AccessError):
    """The principal is known, and lacks the role or the tenant (403)."""

    error_type = "forbidden"


class ConflictError(PromcompatError):
    """The request conflicts with what is stored (409)."""

    error_type = "conflict"


class PreconditionFailedError(PromcompatError):
    """The resource does not have the version that the client expects (412)."""

    error_type = "precondition_failed"


class ExistsAlreadyError(PreconditionFailedError):
    """The resource exists, and the client expects that it does not (412)."""


def without_frames(error: ErrorT) -> ErrorT:
    """The error without its traceback and causes.

    An exception and the frames that refer to it form a cycle, which stays until the garbage
    collector runs, and the frames of a query hold all its samples.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
