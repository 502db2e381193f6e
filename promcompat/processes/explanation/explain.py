"""`promcompat explain`: how a query is answered, for a terminal, as plain text or as JSON.

A running service explains it; with `--database-url` this process plans the query itself.
"""

import asyncio
import base64
import http.client
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from promcompat.configuration.settings import Settings
from promcompat.configuration.text import faults_of, secrets_of
from promcompat.core.errors import PromcompatError
from promcompat.core.texts.connection_faults import connection_fault
from promcompat.core.texts.secrets import Redactor, public_url, url_secrets
from promcompat.processes.explanation.text import render_explanation

_TIMEOUT_SECONDS: Final = 150.0
"""Longer than a query may run by default."""
_QUERY_PARAMETERS: Final = ("query", "time", "start", "end", "step")
_FLAGS: Final = ("analyze", "database_plan")


class ExplainError(Exception):
    """Why there is no explanation."""


def run_explain(options: Mapping[str, Any]) -> int:
    """Print the explanation; exit code 1 when there is none."""
    try:
        explanation = _explain(options)
    except ExplainError as exc:
        sys.stderr.write(f"promcompat: {exc}\n")
        return 1
    if options["json"]:
        sys.stdout.write(json.dumps(explanation, indent=2, ensure_ascii=False) + "\n")
    elif _wants_colour():
        # Here, as rich and its lexers cost a service memory that it never uses.
        from promcompat.processes.explanation.view import show_explanation

        show_explanation(explanation)
    else:
        sys.stdout.write(render_explanation(explanation))
    return 0


def _wants_colour() -> bool:
    """Whether the output is a terminal that shows colours; see no-color.org."""
    has_colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return sys.stdout.isatty() and has_colours


def _explain(options: Mapping[str, Any]) -> Any:
    form = {name: options[name] for name in _QUERY_PARAMETERS if options[name] is not None}
    form |= {name: "true" for name in _FLAGS if options[name]}
    if options["database_url"] is None:
        return _fetch(_request(options, form))
    try:
        settings = Settings(**{"database_url": options["database_url"]})
    except ValidationError as exc:
        raise ExplainError("; ".join(faults_of(exc))) from exc
    # Here, as planning needs the kernels, for which other commands need not wait.
    from promcompat.processes.explanation.on_database import explain_on_database

    try:
        return asyncio.run(explain_on_database(settings, options["tenant"], form))
    except PromcompatError as exc:
        raise ExplainError(Redactor(secrets_of(settings)).hide(str(exc))) from exc


def _request(options: Mapping[str, Any], form: Mapping[str, str]) -> urllib.request.Request:
    url = options["url"].rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ExplainError("--url must start with http:// or https://")
    headers = {} if options["tenant"] is None else {"X-Scope-OrgID": options["tenant"]}
    parts = urllib.parse.urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    address = urllib.parse.urlunsplit(parts._replace(netloc=host))
    body = urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(f"{address}/api/v1/explain", data=body, headers=headers)
    if user:
        # urllib would take the user for a part of the host. Another host is not told the password.
        pair = base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode()
        request.add_unredirected_header("Authorization", f"Basic {pair}")
    return request


def _fetch(request: urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            return json.load(response)["data"]
    except urllib.error.HTTPError as exc:
        with exc:
            raise ExplainError(_error_text(exc)) from exc
    except (OSError, http.client.HTTPException) as exc:
        redactor = Redactor(url_secrets(request.full_url))
        fault = connection_fault(exc)
        text = redactor.hide(f"cannot reach {public_url(request.full_url)}: {fault}")
        raise ExplainError(text) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ExplainError(f"{public_url(request.full_url)} is not a promcompat service") from exc


def _error_text(error: urllib.error.HTTPError) -> str:
    """The error in the JSON of the answer, or else the whole answer."""
    body = error.read().decode(errors="replace").strip()
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"the service answered {error.code}: {body}"
