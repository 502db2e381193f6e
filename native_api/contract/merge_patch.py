"""JSON Merge Patch (RFC 7396)."""

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from native_api.contract.dispatch import expectations_of
from native_api.contract.problem import InvalidRequestError
from native_api.contract.validation import faults_of

ModelT = TypeVar("ModelT", bound=BaseModel)


def patched(model: type[ModelT], present: Mapping[str, Any], patch: Mapping[str, Any]) -> ModelT:
    """The model of a JSON document after a patch. Raises InvalidRequestError."""
    try:
        # As JSON, because a strict model accepts enumeration values as strings only in JSON.
        return model.model_validate_json(orjson.dumps(merge_patch(present, patch)))
    except ValidationError as exc:
        raise InvalidRequestError(faults_of(exc, "body", expectations_of(model))) from exc


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
