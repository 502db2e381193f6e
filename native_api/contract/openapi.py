"""`/openapi.json`: OpenAPI 3.1, generated from the routes and their models."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from native_api.contract.problem import CONTENT_TYPE as PROBLEM_TYPE
from native_api.contract.problem import Problem, title_of
from native_api.contract.route import Example, QueryModel, Reply, Route

Json = dict[str, Any]

_REF = "#/components/schemas/{model}"
_TENANT_PARAMETER: Json = {
    "name": "X-Scope-OrgID",
    "in": "header",
    "required": False,
    "description": "The tenant. Required with `tenancy=header`, ignored otherwise.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9!_.*'()-]{1,150}$"},
}
_SECURITY_SCHEMES: Json = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of the service."},
    "password": {
        "type": "http",
        "scheme": "basic",
        "description": "Any user name, and a token as the password.",
    },
}
_DESCRIPTION = """\
Write samples as JSON, read series and statistics, and define metrics with units, retention and
thresholds. The same samples are visible to PromQL and SQL at once.

Times are RFC 3339 with a time zone, or Unix seconds; responses use RFC 3339 in UTC. `NaN`,
`Infinity` and `-Infinity` are JSON strings. Errors are RFC 9457 problem details.

Where access is restricted (`PROMCOMPAT_ACCESS=tokens`), requests need a token with the role that is
named with each operation: `write`, `read`, `edit`, `operate` or `admin`.
"""


def build_openapi(routes: Sequence[Route], version: str) -> Json:
    """The whole document."""
    schemas = _Schemas(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        item = paths.setdefault(route.full_path, {})
        item[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "promcompat native API",
            "version": version,
            "summary": "Metrics as JSON, alongside PromQL and SQL.",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The service that serves this document."}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "parameters": {"Tenant": _TENANT_PARAMETER},
            "securitySchemes": _SECURITY_SCHEMES,
            "responses": {
                f"Problem{status}": _problem_reply(status)
                for status in sorted({s for route in routes for s in route.all_problems})
            },
        },
    }


class _Schemas:
    """The JSON schemas of every model, each defined once under components."""

    def __init__(self, routes: Sequence[Route]) -> None:
        wanted = list(_wanted(routes))
        keys = {(id(model), mode): index for index, (model, mode) in enumerate(wanted)}
        inputs = [(index, mode, TypeAdapter(model)) for index, (model, mode) in enumerate(wanted)]
        found, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)
        self.components: Json = dict(sorted(definitions.get("$defs", {}).items()))
        self._found = {key: found[index, key[1]] for key, index in keys.items()}

    def of(self, model: Any, mode: JsonSchemaMode) -> Json:
        """A schema, mostly a reference into components."""
        return dict(self._found[id(model), mode])


def _wanted(routes: Sequence[Route]) -> Iterable[tuple[Any, JsonSchemaMode]]:
    seen: dict[tuple[int, str], None] = {}
    models: list[tuple[Any, JsonSchemaMode]] = [(Problem, "serialization")]
    for route in routes:
        if route.body is not None:
            models.append((route.body, "validation"))
        models += [
            (reply.model, "serialization")
            for reply in route.replies.values()
            if reply.model is not None
        ]
    for model, mode in models:
        if (id(model), mode) not in seen:
            seen[id(model), mode] = None
            yield model, mode


def _operation(route: Route, schemas: _Schemas) -> Json:
    operation: Json = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": {
            **{
                str(status): _reply(status, reply, route, schemas)
                for status, reply in sorted(route.replies.items())
            },
            **{
                str(status): {"$ref": f"#/components/responses/Problem{status}"}
                for status in route.all_problems
            },
        },
    }
    role = route.role.value
    operation["description"] = f"{route.description} Needs the role `{role}`.".lstrip()
    # The empty alternative: nothing is needed while access is not restricted.
    operation["security"] = [{}, {"token": [role]}, {"password": [role]}]
    if route.body is not None:
        operation["requestBody"] = _request_body(route, schemas)
    return operation


def _parameters(route: Route) -> list[Json]:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": part.description,
            "schema": dict(part.schema),
        }
        for name, part in route.parts.items()
    ]
    parameters += _query_parameters(route.query)
    parameters += [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in route.headers.items()
    ]
    return [*parameters, {"$ref": "#/components/parameters/Tenant"}]


def _query_parameters(model: type[QueryModel]) -> list[Json]:
    schema = model.model_json_schema(mode="validation")
    definitions = schema.get("$defs", {})
    required = set(schema.get("required", ()))
    parameters: list[Json] = []
    for name, field in schema.get("properties", {}).items():
        inlined = _inline(field, definitions)
        description = inlined.pop("description", "")
        inlined.pop("title", None)
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": name in required,
                "description": description,
                "schema": inlined,
            }
        )
    return parameters


def _inline(schema: Any, definitions: Json) -> Any:
    """The schema with references to the model's definitions (enumerations) resolved."""
    match schema:
        case {"$ref": str(ref), **rest}:
            target = definitions[ref.rsplit("/", 1)[1]]
            merged = {**target, **rest}
            merged.pop("title", None)
            return _inline(merged, definitions)
        case {"anyOf": [option, {"type": "null"}], **rest}:
            # A parameter is absent, never null.
            rest.pop("default", None)
            return {**_inline(option, definitions), **rest}
        case dict():
            return {key: _inline(value, definitions) for key, value in schema.items()}
        case list():
            return [_inline(value, definitions) for value in schema]
        case _:
            return schema


def _request_body(route: Route, schemas: _Schemas) -> Json:
    content: Json = {"schema": schemas.of(route.body, "validation")}
    examples = {
        example.name: {"value": example.body}
        for example in route.examples
        if example.body is not None
    }
    if examples:
        content["examples"] = examples
    return {"required": True, "content": dict.fromkeys(route.media_types, content)}


def _reply(status: int, reply: Reply, route: Route, schemas: _Schemas) -> Json:
    response: Json = {"description": reply.description}
    if reply.headers:
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in reply.headers.items()
        }
    if reply.model is not None:
        content: Json = {"schema": schemas.of(reply.model, "serialization")}
        examples = _answers(route.examples, status)
        if examples:
            content["examples"] = examples
        response["content"] = {"application/json": content}
    return response


def _answers(examples: Sequence[Example], status: int) -> Json:
    return {
        example.name: {"value": example.answer}
        for example in examples
        if example.status == status and example.answer is not None
    }


def _problem_reply(status: int) -> Json:
    return {
        "description": title_of(status),
        "content": {
            PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
    }
