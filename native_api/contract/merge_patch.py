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
    """What a patch makes of a JSON document. Raises InvalidRequestError."""
    try:
        # As JSON, since a strict model takes the words of an enumeration from JSON alone.
        return model.model_validate_json(orjson.dumps(merge_patch(present, patch)))
    except ValidationError as exc:
        raise InvalidRequestError(faults_of(exc, "body", expectations_of(model))) from exc


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` with the changes of `patch`: null removes, objects are merged, the rest replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
