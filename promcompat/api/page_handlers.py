"""The page: its one HTML file at every address of it, and the files that this one loads."""

import html
import re
import secrets
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from promcompat.http.browsers import application_response, page_response
from promcompat.http.context import SETTINGS
from promcompat.version import promcompat_version

PAGE_FOLDER: Final = Path(__file__).parents[1] / "page"
"""What `page/set_up.py` builds."""
_NONCE: Final = "__CSP_NONCE__"
_ACCESS: Final = "__ACCESS__"
_TENANCY: Final = "__TENANCY__"
_ROOT: Final = "__ROOT__"
_ASSET_NAME: Final = re.compile(r"\w[\w.-]{0,200}", re.ASCII)
_FOREVER: Final = "public, max-age=31536000, immutable"
"""The name of an asset has a hash of its content."""

_FALLBACK = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>promcompat</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 44rem; margin: 3rem auto; padding: 0 1rem }}
code, pre {{ background: #8882; border-radius: 4px; padding: .1em .3em }} pre {{ padding: .8em }}
</style></head><body>
<h1>promcompat {version}</h1>
<p><b>The page is not built.</b> The service works without it. In a checkout, <code>make page</code>
builds it and says what is missing; then reload.</p>
<p>To write samples from Prometheus, add to its configuration:</p>
<pre>remote_write:
  - url: {base}/api/v1/write</pre>
<p>In Grafana, add a data source of type Prometheus with the URL <code>{base}</code>.</p>
<ul>
<li><a href="api/v1/query?query=1%2B1">api/v1/query</a>, the Prometheus HTTP API</li>
<li><a href="docs">docs</a>, the native JSON API (<a href="openapi.json">openapi.json</a>)</li>
<li><a href="api/v1/status/tsdb">api/v1/status/tsdb</a>, cardinality statistics</li>
<li><a href="-/healthy">-/healthy</a>, <a href="-/ready">-/ready</a></li>
<li><a href="metrics">metrics</a>, the service's own metrics</li>
</ul></body></html>
"""


async def handle_page(request: web.Request) -> web.Response:
    """The HTML file; it is never cached, as it has a nonce and names the files of this version."""
    try:
        text = (PAGE_FOLDER / "index.html").read_text(encoding="utf-8")
    except FileNotFoundError:
        return _fallback(request)
    nonce = secrets.token_urlsafe(16)
    settings = request.app[SETTINGS]
    for mark, value in (
        (_NONCE, nonce),
        (_ACCESS, settings.access),
        (_TENANCY, settings.tenancy),
        # The native API has no paths below /prometheus.
        (_ROOT, ".." if request.path.startswith("/prometheus/") else "."),
    ):
        text = text.replace(mark, value)
    return application_response(text, nonce)


async def handle_asset(request: web.Request) -> web.StreamResponse:
    """A script, style or picture; compressed if the client reads gzip. 404 if there is none."""
    name = request.match_info["name"]
    path = PAGE_FOLDER / "assets" / name
    if not _ASSET_NAME.fullmatch(name) or not path.is_file():
        raise web.HTTPNotFound
    # Serves the file with the further ending `.gz` to those who accept it.
    return web.FileResponse(path, headers={hdrs.CACHE_CONTROL: _FOREVER})


def _fallback(request: web.Request) -> web.Response:
    base = str(request.url.origin()) + request.path.rpartition("/")[0]
    values = {"version": promcompat_version(), "base": base}
    page = _FALLBACK.format_map({name: html.escape(value) for name, value in values.items()})
    return page_response(page)
