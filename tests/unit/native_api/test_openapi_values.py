"""Defaults and examples that `/openapi.json` shows are values the server takes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from native_api.contract.openapi import build_openapi
from native_api.contract.route import Route
from native_api.routes import ROUTES

Json = dict[str, Any]

DOCUMENT = build_openapi(ROUTES, "1.2.3")
SCHEMAS = DOCUMENT["components"]["schemas"]
_STATUSES_OF_VALID_BODIES = (200, 201, 202, 404, 409, 412)


def shown_values(schema: Json) -> Iterator[Any]:
    """The default and the examples of one schema, through references and unions."""
    if "default" in schema:
        yield schema["default"]
    yield from schema.get("examples", ())
    for option in schema.get("anyOf", ()):
        yield from shown_values(option)
    if "$ref" in schema:
        yield from shown_values(SCHEMAS[schema["$ref"].rsplit("/", 1)[1]])


def parameters_of(route: Route) -> list[Json]:
    operation = DOCUMENT["paths"][route.full_path][route.method.lower()]
    return [parameter for parameter in operation["parameters"] if parameter.get("in") == "query"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
def test_values_of_parameters(route: Route) -> None:
    for parameter in parameters_of(route):
        schema = parameter["schema"]
        values = [*shown_values(schema), *shown_values(schema.get("items", {}))]
        for value in values:
            text = json.dumps(value) if isinstance(value, bool) else value
            if schema.get("type") == "array":
                text = text if isinstance(text, list) else [str(text)]
            else:
                text = str(text)
            try:
                route.query.model_validate({parameter["name"]: text})
            except ValidationError as exc:
                pytest.fail(f"{parameter['name']}={value!r}: {exc}")


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.body is not None],
    ids=lambda route: route.operation_id,
)
def test_values_of_bodies(route: Route) -> None:
    operation = DOCUMENT["paths"][route.full_path][route.method.lower()]
    schema = next(iter(operation["requestBody"]["content"].values()))["schema"]
    valid = next(
        example.body
        for example in route.examples
        if example.body and example.status in _STATUSES_OF_VALID_BODIES
    )
    assert isinstance(valid, dict)
    adapter = TypeAdapter(route.body)
    for value in shown_values(schema):
        adapter.validate_json(json.dumps(value))
    for name, field in resolved(schema).get("properties", {}).items():
        for value in shown_values(field):
            try:
                adapter.validate_json(json.dumps({**valid, name: value}))
            except ValidationError as exc:
                pytest.fail(f"{name}={value!r}: {exc}")


def resolved(schema: Json) -> Json:
    while "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rsplit("/", 1)[1]]
    return schema


def test_there_are_values_to_check() -> None:
    bucket = next(
        parameter
        for route in ROUTES
        if route.path == "/series/{name}"
        for parameter in parameters_of(route)
        if parameter["name"] == "bucket"
    )
    assert list(shown_values(bucket["schema"])) == ["5m", "30s", "5m", "1h"]
