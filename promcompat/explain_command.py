"""`promcompat explain`: asks a running service how it answers a query, and shows it as text."""

import argparse
import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from promcompat.explanation_text import render_explanation

_DEFAULT_URL: Final = "http://127.0.0.1:9201"
_TIMEOUT_SECONDS: Final = 150.0
"""Longer than a query may run unless the service is told otherwise."""
_QUERY_PARAMETERS: Final = ("query", "time", "start", "end", "step")


class ExplainError(Exception):
    """There is no explanation; the text says why."""


def add_explain_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its flags."""
    text = "ask a running service how it answers a query, and with --analyze what that takes"
    parser = commands.add_parser("explain", help=text, description=text)
    parser.add_argument("query", metavar="EXPR", help="a PromQL expression")
    parser.add_argument("--url", default=_DEFAULT_URL, help="the service. Default: %(default)s")
    parser.add_argument("--time", help="of an instant query: Unix seconds or RFC 3339")
    parser.add_argument("--start", help="of a range query, with --end and --step")
    parser.add_argument("--end", help="of a range query")
    parser.add_argument("--step", help="of a range query: seconds or a duration such as 1m")
    parser.add_argument("--analyze", action="store_true", help="run the query and measure it")
    parser.add_argument("--json", action="store_true", help="print what the service answers")
    parser.add_argument("--tenant", help="the tenant, sent as X-Scope-OrgID")


def run_explain(options: Mapping[str, Any]) -> int:
    """Print the explanation; the exit code is 1 when there is none."""
    try:
        explanation = _fetch(_request(options))
    except ExplainError as exc:
        sys.stderr.write(f"promcompat: {exc}\n")
        return 1
    if options["json"]:
        text = json.dumps(explanation, indent=2, ensure_ascii=False) + "\n"
    else:
        text = render_explanation(explanation)
    sys.stdout.write(text)
    return 0


def _request(options: Mapping[str, Any]) -> urllib.request.Request:
    url = options["url"].rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ExplainError(f"--url must start with http:// or https://, not {url!r}")
    form = {name: options[name] for name in _QUERY_PARAMETERS if options[name] is not None}
    if options["analyze"]:
        form["analyze"] = "true"
    headers = {} if options["tenant"] is None else {"X-Scope-OrgID": options["tenant"]}
    body = urllib.parse.urlencode(form).encode()
    return urllib.request.Request(f"{url}/api/v1/explain", data=body, headers=headers)


def _fetch(request: urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            return json.load(response)["data"]
    except urllib.error.HTTPError as exc:
        with exc:
            raise ExplainError(_error_text(exc)) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise ExplainError(f"cannot ask {request.full_url}: {exc}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ExplainError(f"{request.full_url} answers with something else") from exc


def _error_text(error: urllib.error.HTTPError) -> str:
    """What the service says, from its JSON or as it is."""
    body = error.read().decode(errors="replace").strip()
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"the service answers {error.code}: {body}"
