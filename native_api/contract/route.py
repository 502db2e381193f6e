"""A route of the native API: how it is called, what it answers, examples of both.

One `Route` is everything there is to say of an operation: the router is filled from it, requests
are validated by its models, and `/openapi.json` is written from it. A module of handlers ends in
a tuple `ROUTES`; `native_api.routes` joins them.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, TypeAdapter

from promcompat.http.context import services_of
from promcompat.services import Services

BASE = "/api/v1/metrics"


class QueryModel(BaseModel):
    """Base of the parameters of a URL: a field for each, a `list` field for a repeated one.

    A parameter that no field names is refused, as a typing error would else be silent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class BodyModel(BaseModel):
    """Base of JSON bodies: nothing is coerced, an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class NoQuery(QueryModel):
    """No parameters."""


class ReplyModel(BaseModel):
    """Base of JSON answers."""


QueryT = TypeVar("QueryT")
BodyT = TypeVar("BodyT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[QueryT, BodyT]):
    """A request that was found valid.

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


Handler = Callable[[Call[Any, Any]], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: what it means, the model of its JSON (None: no body), its headers with a text."""

    description: str
    model: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request and the status it is answered with: shown in the docs, sent by a test.

    Examples are sent in the order of the routes to one empty service, so an example may rely on
    earlier ones. `answer` is shown and must fit the model of the reply; parts that vary (times)
    need not be equal.
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
    """One operation below `/api/v1/metrics`.

    `path` starts with a slash; each `{part}` of it is in `parts`. `problems` are the statuses
    answered as problem details besides those every route may answer with. `body` validates the
    JSON body unless `reads_body` says that the handler reads it itself. `headers` names request
    headers with a text.
    """

    method: str
    path: str
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
    def operation_id(self) -> str:
        """The name of the operation: that of its handler without `handle_`."""
        name: str = getattr(self.handler, "__name__", self.path)
        return name.removeprefix("handle_")

    @property
    def all_problems(self) -> tuple[int, ...]:
        """Every status answered with problem details, ascending."""
        common = {400, 401, 500, 503, *self.problems}
        if self.body is not None:
            common |= {413, 415}
        return tuple(sorted(common - set(self.replies)))

    def body_adapter(self) -> TypeAdapter[Any]:
        """What validates the body."""
        return TypeAdapter(self.body)
