"""What keeps pages of other origins from acting through a person's browser, and headers for pages.

A browser sends requests that a page asks for with the credentials and from the place of its user,
even where the page may not read the answer. It says so: in `Sec-Fetch-Site` to hosts over TLS and
on this machine, and in `Origin` with everything but GET and HEAD to any host. Programs send
neither, so what they send as a body, and with which content type, is their affair.
"""

import base64
import hashlib
import ipaddress
import re
import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aiohttp import hdrs, web

from promcompat.configuration.settings import Settings
from promcompat.core.access import Role
from promcompat.core.errors import ForbiddenError, UnsupportedMediaTypeError
from promcompat.core.patterns.compiled import Pattern, compile_pattern
from promcompat.http.bodies import media_type
from promcompat.http.route_roles import NEED_OF_ROUTE, Need

_PREFIX: Final = "/prometheus"
_FETCH_SITE: Final = "Sec-Fetch-Site"
_SAFE_METHODS: Final = frozenset((hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS))
_OWN_SITES: Final = frozenset(("same-origin", "none"))
"""`same-site` is not among them: it is another port of this host, or a sibling of its domain."""
_PAGE_TYPES: Final = re.compile(
    r"application/([a-z0-9.+-]+\+)?(json|x-ndjson|x-protobuf|protobuf|x-www-form-urlencoded)"
    r"|multipart/form-data"
)
_CORS_HEADERS: Final = {
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Accept, Authorization, Content-Type, Origin",
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, OPTIONS",
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "Date",
}
_PORTS: Final = {"http": "80", "https": "443"}
_STYLE: Final = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class BrowserRules:
    """Which pages may do what.

    `readers` matches the origins whose pages may read answers; None: no other origin. `own_origin`
    is where people reach the service, "" if that is not known. `trusts_any_host`: a page of the
    host that the request names counts as our own, whatever that name is. Without access this would
    let a page whose name leads to this machine (DNS rebinding) act as our own page.
    """

    readers: Pattern | None = None
    own_origin: str = ""
    trusts_any_host: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    """Of every answer."""

    @classmethod
    def of(cls, settings: Settings) -> "BrowserRules":
        """The rules of the settings."""
        headers = {
            hdrs.SERVER: "promcompat",
            hdrs.VARY: "Origin",
            "X-Content-Type-Options": "nosniff",
        }
        if settings.uses_tls and settings.hsts_max_age:
            headers["Strict-Transport-Security"] = f"max-age={settings.hsts_max_age // 1000}"
        readers = settings.origins_that_read
        return cls(
            readers=None if readers is None else compile_pattern(readers),
            own_origin=_origin_of(settings.external_url),
            trusts_any_host=settings.access != "off",
            headers=headers,
        )

    def may_read(self, origin: str, need: Need | None) -> bool:
        """Whether pages of an origin may read the answers of a route, None for an unknown one."""
        if self.readers is None or need is None:
            return False
        # What is about the whole service is for its operator, and no part of the query API.
        is_query = need.role is Role.READ and not need.is_service_wide
        # Origins are ASCII; an answer could not name another one.
        return is_query and origin.isascii() and self.readers.matches(origin)

    def check(self, request: web.Request, need: Need) -> None:
        """Refuse what a page may not ask for.

        Raises ForbiddenError for a page of another origin, and UnsupportedMediaTypeError for a body
        that a browser would send without asking the service first.
        """
        site, origin = request.headers.get(_FETCH_SITE), request.headers.get(hdrs.ORIGIN)
        if request.method in _SAFE_METHODS or (site is None and origin is None):
            return
        if origin is not None and self.may_read(origin, need):
            return
        is_own = site is None or site in _OWN_SITES
        if origin is not None:
            is_own = is_own and self._is_own(origin, request.headers.get(hdrs.HOST, ""))
        if not is_own:
            raise ForbiddenError(
                "a page of another origin may not do this; if the page is this service's own, set "
                "PROMCOMPAT_EXTERNAL_URL to the address at which it is opened"
            )
        if need.role is not Role.READ and request.body_exists:
            _check_type(request)

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether an origin is that of the service, for a request to `host` (a name and a port)."""
        if origin == self.own_origin:
            return True
        parts = _split(origin)
        if parts is None or parts.netloc.lower() != host.lower():
            return False
        return self.trusts_any_host or _is_this_machine(parts.hostname or "")

    def add_cors(self, origin: str, need: Need | None, response: web.StreamResponse) -> None:
        """Let pages read the answer that may read it."""
        if self.may_read(origin, need):
            response.headers.update(_CORS_HEADERS)
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin


BROWSER_RULES = web.AppKey("browser_rules", BrowserRules)


async def add_common_headers(request: web.Request, response: web.StreamResponse) -> None:
    """The headers of every answer, and those for pages of other origins."""
    rules = request.app[BROWSER_RULES]
    varies_by = response.headers.getall(hdrs.VARY, [])
    response.headers.update(rules.headers)
    for name in varies_by:
        response.headers.add(hdrs.VARY, name)
    if origin := request.headers.get(hdrs.ORIGIN):
        rules.add_cors(origin, await _need_of_answer(request), response)


async def _need_of_answer(request: web.Request) -> Need | None:
    """What the route of a request needs; of a preflight, the route that it asks about."""
    if request.method != hdrs.METH_OPTIONS:
        return _need_of(request.method, request.match_info)
    method = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD, hdrs.METH_GET)
    return _need_of(method, await request.app.router.resolve(request.clone(method=method)))


def _need_of(method: str, found: web.UrlMappingMatchInfo) -> Need | None:
    resource = found.route.resource
    if resource is None:
        return None
    path = resource.canonical.removeprefix(_PREFIX)
    return NEED_OF_ROUTE.get(f"{method} {path}") or NEED_OF_ROUTE.get(f"{method} {path}/")


def _check_type(request: web.Request) -> None:
    given = media_type(request)
    if not _PAGE_TYPES.fullmatch(given):
        raise UnsupportedMediaTypeError(
            f"a page may not send a body of the type {given[:100]!r}; use application/json"
        )


def _origin_of(url: str) -> str:
    """The origin of a URL as browsers name it, without the port that its scheme has anyway."""
    parts = _split(url)
    if parts is None or not parts.netloc:
        return ""
    port = _PORTS.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc}".lower().removesuffix(f":{port}")


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _is_this_machine(host: str) -> bool:
    """Whether a name cannot belong to a stranger: an address, localhost or this machine's name."""
    if host == "localhost" or host == socket.gethostname().lower():
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def page_response(page: str) -> web.Response:
    """An HTML page of ours: it runs no script, and no other page may frame it."""
    styles = " ".join(_hash_of(style) for style in _STYLE.findall(page)) or "'none'"
    return _html_response(page, f"style-src {styles}")


def application_response(page: str, nonce: str) -> web.Response:
    """The HTML page whose script is in files of ours; styles may be inline with the nonce."""
    return _html_response(
        page,
        f"script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'",
    )


def _html_response(page: str, sources: str) -> web.Response:
    policy = (
        f"default-src 'none'; {sources}; frame-ancestors 'none'; form-action 'none'; "
        "base-uri 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        hdrs.CACHE_CONTROL: "no-store",
    }
    return web.Response(text=page, content_type="text/html", headers=headers)


def _hash_of(style: str) -> str:
    digest = hashlib.sha256(style.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
