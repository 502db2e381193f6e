"""`/docs`: the OpenAPI document as a single HTML page without external resources."""

import html
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

from native_api.contract.problem import TITLES, problem_slug

Json = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: #0a66c2 }
@media (prefers-color-scheme: dark) { :root { --link: #6cb2ff } }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem }
a { color: var(--link) } code, pre { font-family: ui-monospace, monospace; font-size: .9em }
code { background: var(--soft); border-radius: 4px; padding: .1em .3em }
pre { background: var(--soft); border-radius: 6px; padding: .8rem; overflow-x: auto }
details { border: 1px solid var(--line); border-radius: 8px; margin: .6rem 0; padding: .4rem .9rem }
summary { cursor: pointer; font-weight: 600 } table { border-collapse: collapse; width: 100% }
td, th { border-top: 1px solid var(--line); padding: .35rem .5rem; text-align: left }
td, th { vertical-align: top } h3 { margin-top: 1.6rem }
.method { display: inline-block; min-width: 4.2rem; font-weight: 700 }
"""


def render_docs(document: Json) -> str:
    """The HTML page of an OpenAPI document."""
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        _paragraphs(info["description"]),
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>',
        _contents(document),
    ]
    for tag in document["tags"]:
        parts.append(f'<h2 id="tag-{_slug(tag["name"])}">{_text(tag["name"])}</h2>')
        for path, item in document["paths"].items():
            parts += [
                _operation(method, path, operation, document)
                for method, operation in item.items()
                if tag["name"] in operation["tags"]
            ]
    parts += [_problems(), _schemas(document), "</body></html>"]
    return "\n".join(parts)


def _contents(document: Json) -> str:
    items = [
        f'<li><a href="#tag-{_slug(tag["name"])}">{_text(tag["name"])}</a></li>'
        for tag in document["tags"]
    ]
    extra = '<li><a href="#problems">Problems</a></li><li><a href="#schemas">Schemas</a></li>'
    return f"<ul>{''.join(items)}{extra}</ul>"


def _operation(method: str, path: str, operation: Json, document: Json) -> str:
    head = (
        f'<summary id="{_text(operation["operationId"])}">'
        f'<span class="method">{method.upper()}</span> <code>{_text(path)}</code> '
        f"{_text(operation['summary'])}</summary>"
    )
    body = _paragraphs(operation.get("description", ""))
    parameters = [_resolve(parameter, document) for parameter in operation["parameters"]]
    body += _parameter_table(parameters)
    if "requestBody" in operation:
        body += "<h3>Body</h3>" + _contents_of(operation["requestBody"]["content"])
    body += "<h3>Answers</h3>"
    for status, reply in operation["responses"].items():
        resolved = _resolve(reply, document)
        body += f"<p><b>{_text(status)}</b> {_inline_code(resolved['description'])}</p>"
        if status.startswith("2"):
            body += _contents_of(resolved.get("content", {}))
    return f"<details>{head}{body}</details>"


def _parameter_table(parameters: list[Json]) -> str:
    rows = "".join(_parameter_row(parameter) for parameter in parameters)
    head = "<tr><th>Parameter</th><th>In</th><th>Type</th><th>Meaning</th></tr>"
    return f"<table>{head}{rows}</table>"


def _parameter_row(parameter: Json) -> str:
    required = " (required)" if parameter.get("required") else ""
    return (
        f"<tr><td><code>{_text(parameter['name'])}</code></td><td>{_text(parameter['in'])}</td>"
        f"<td>{_text(_type_of(parameter['schema']))}{required}</td>"
        f"<td>{_inline_code(parameter.get('description', ''))}</td></tr>"
    )


def _contents_of(content: Json) -> str:
    page = ""
    for media, part in content.items():
        page += f"<p><code>{_text(media)}</code> {_schema_link(part['schema'])}</p>"
        for name, example in part.get("examples", {}).items():
            text = orjson.dumps(example["value"], option=orjson.OPT_INDENT_2).decode()
            page += f"<p>{_text(name)}</p><pre>{_text(text)}</pre>"
    return page


def _schema_link(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f'<a href="#schema-{_text(name)}">{_text(name)}</a>'
    return _text(_type_of(schema))


def _type_of(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[1])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return repr(schema["const"])
    if "anyOf" in schema:
        return " | ".join(_type_of(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type_of(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _problems() -> str:
    rows = "".join(
        f'<tr id="{problem_slug(status)}"><td>{status}</td><td>{_text(title)}</td>'
        f"<td>{_text(_phrase(status))}</td></tr>"
        for status, title in TITLES.items()
    )
    head = "<tr><th>Status</th><th>Title</th><th>HTTP</th></tr>"
    return f'<h2 id="problems">Problems</h2><table>{head}{rows}</table>'


def _phrase(status: int) -> str:
    # 499 is nginx's status for a client that disconnected.
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Client Closed Request"


def _schemas(document: Json) -> str:
    parts = ['<h2 id="schemas">Schemas</h2>']
    for name, schema in document["components"]["schemas"].items():
        text = orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode()
        parts.append(
            f'<details id="schema-{_text(name)}"><summary>{_text(name)}</summary>'
            f"<pre>{_text(text)}</pre></details>"
        )
    return "\n".join(parts)


def _resolve(node: Json, document: Json) -> Json:
    """The node itself, or the target of its reference within the document."""
    while "$ref" in node:
        target: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_inline_code(part)}</p>" for part in text.strip().split("\n\n") if part)


def _inline_code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())


def _text(text: str) -> str:
    return html.escape(str(text))
