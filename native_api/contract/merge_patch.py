"""JSON Merge Patch (RFC 7396)."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError, WithJsonSchema

from native_api.contract.dispatch import expectations_of
from native_api.contract.parameters import stored_json
from native_api.contract.validation import refusal_of

ModelT = TypeVar("ModelT", bound=BaseModel)


def patch_type(model: type[BaseModel], name: str) -> Any:
    """The type of a body that patches a `model`; `name` is its name in the OpenAPI document."""
    fields = (info.alias or field for field, info in model.model_fields.items())
    schema = {
        "title": name,
        "description": "The fields to change (RFC 7396). Null resets a field to its default; an "
        "object is merged into the current one.",
        "type": "object",
        "properties": {
            field: {"description": f"See `{field}` of {model.__name__}."} for field in fields
        },
        "additionalProperties": False,
    }
    return Annotated[dict[str, Any], stored_json("body"), WithJsonSchema(schema)]


def patched(model: type[ModelT], present: BaseModel, patch: Mapping[str, Any]) -> ModelT:
    """The model of the present fields after a patch. Raises InvalidRequestError."""
    document = present.model_dump(mode="json", by_alias=True)
    try:
        # As JSON, because a strict model accepts enumeration values as strings only in JSON.
        return model.model_validate_json(orjson.dumps(merge_patch(document, patch)))
    except ValidationError as exc:
        raise refusal_of(exc, "body", expectations_of(model)) from exc


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` changed by `patch`: null removes, objects are merged, other values replace."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
