"""The routes that the router of an application has."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from promcompat.http.route_roles import NEED_OF_ROUTE

_PREFIX = "/prometheus"
_ANY_PART = re.compile(r"\{(\w+):\[\^/\]\+\}")


@dataclass(frozen=True, slots=True)
class InstalledRoute:
    """A route: its key in the table of roles, and its path as the router has it."""

    method: str
    path: str
    has_prefix: bool

    @property
    def key(self) -> str:
        path = _ANY_PART.sub(r"{\1}", self.path)
        key = f"{self.method} {path}"
        # The native API serves its first route with and without the final slash.
        return f"{key}/" if f"{key}/" in NEED_OF_ROUTE else key


def routes_of(app: web.Application) -> Iterator[InstalledRoute]:
    """Every route of the router."""
    for route in app.router.routes():
        assert route.resource is not None
        path = _path_of(route.resource)
        has_prefix = path.startswith(_PREFIX)
        yield InstalledRoute(route.method, path.removeprefix(_PREFIX), has_prefix)


def _path_of(resource: web.AbstractResource) -> str:
    """With the patterns of its parts, which `canonical` leaves out."""
    return str(getattr(resource, "_orig_path", resource.canonical))
