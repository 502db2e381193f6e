"""A route of the native API: its request, its replies, and examples of both.

A `Route` describes an operation completely: the router is filled from it, its models validate
requests, and `/openapi.json` is generated from it. Each module of handlers ends in a tuple
`ROUTES`; `native_api.routes` joins them.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, TypeAdapter

from native_api.contract.problem import InvalidRequestError, fault
from promcompat.core.access import ANYBODY, Role
from promcompat.http.context import actor_of, principal_of, services_of
from promcompat.http.route_roles import need_of
from promcompat.services import Services

BASE = "/api/v1/metrics"
USAGE_BASE = "/api/v1/usage"
"""What tenants use is not about metrics."""
LIMITS_BASE = "/api/v1/limits"
USER_LIMITS_BASE = "/api/v1/user_limits"
BASES = (BASE, USAGE_BASE, LIMITS_BASE, USER_LIMITS_BASE)
"""Errors of paths at and below these are problem details."""
BELOW_BASES = tuple(f"{base}/" for base in BASES)


class QueryModel(BaseModel):
    """Base of URL parameters: one field each, a `list` field for a repeated parameter.

    Unknown parameters are refused, since typing errors would go unnoticed otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class BodyModel(BaseModel):
    """Base of JSON bodies: values are not coerced, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class NoQuery(QueryModel):
    """No parameters."""


class ReplyModel(BaseModel):
    """Base of JSON responses."""


QueryT = TypeVar("QueryT")
BodyT = TypeVar("BodyT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[QueryT, BodyT]):
    """A validated request.

    `path` holds the parts of the path by name. `body` is None for a route without a body model and
    for one that reads its body itself.
    """

    request: web.Request
    tenant: str
    path: Mapping[str, str]
    query: QueryT
    body: BodyT

    @property
    def services(self) -> Services:
        """What the service does. Raises ServiceUnavailableError while it starts."""
        return services_of(self.request)

    def actor(self, claimed: str | None) -> str:
        """Who is recorded: the principal, or who the body claims while access is not restricted.

        Raises InvalidRequestError when nothing tells it.
        """
        if claimed is None and principal_of(self.request) is ANYBODY:
            expected = "a string of 1 to 200 characters"
            raise InvalidRequestError([fault("body", "actor", "is missing", expected)])
        return actor_of(self.request, claimed or "")


Handler = Callable[[Call[Any, Any]], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: its description, the model of its JSON (None: no body), and its headers."""

    description: str
    model: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request and its status; shown in the docs and sent by a test.

    Examples are sent in the order of the routes to one empty service, so an example may rely on
    earlier ones. `answer` is shown in the docs and must match the model of the reply; values that
    vary (times) may differ.
    """

    name: str
    status: int
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    answer: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPart:
    """A part of the path in braces."""

    description: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string", "minLength": 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation below `/api/v1/metrics`, or below another `base`.

    `path` starts with a slash; each `{part}` of it is in `parts`. `problems` are the statuses of
    problem details besides those of every route. `body` validates the JSON body, unless
    `reads_body` says that the handler reads it itself. `headers` maps request headers to their
    descriptions.
    """

    method: str
    path: str
    base: str = BASE
    handler: Handler
    tag: str
    summary: str
    description: str = ""
    parts: Mapping[str, PathPart] = field(default_factory=dict)
    query: type[QueryModel] = NoQuery
    body: Any = None
    reads_body: bool = False
    media_types: tuple[str, ...] = ("application/json",)
    headers: Mapping[str, str] = field(default_factory=dict)
    replies: Mapping[int, Reply]
    problems: tuple[int, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def full_path(self) -> str:
        """The path in a URL, with its parts in braces."""
        return self.base + self.path

    @property
    def operation_id(self) -> str:
        """The name of the operation: the name of its handler without `handle_`."""
        name: str = getattr(self.handler, "__name__", self.path)
        return name.removeprefix("handle_")

    @property
    def all_problems(self) -> tuple[int, ...]:
        """Every status answered with problem details, ascending."""
        common = {400, 401, 403, 429, 500, 503, *self.problems}
        if self.body is not None:
            common |= {413, 415}
        return tuple(sorted(common - set(self.replies)))

    @property
    def role(self) -> Role:
        """The role that the operation needs, by the table of roles."""
        role = need_of(self.method, self.full_path).role
        if role is None:
            raise LookupError(f"every operation needs a role: {self.method} {self.full_path}")
        return role

    def body_adapter(self) -> TypeAdapter[Any]:
        """The validator of the body."""
        return TypeAdapter(self.body)
