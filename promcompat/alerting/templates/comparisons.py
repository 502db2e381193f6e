"""Truth and order of template values, by the rules of Go's text/template."""

from collections.abc import Mapping, Sequence

from promcompat.alerting.templates.values import (
    LabelMap,
    Moment,
    RootData,
    TemplateSample,
    type_name,
)


def is_true(value: object) -> bool:
    """False, zero, nil and everything empty are false."""
    match value:
        case TemplateSample() | Moment():
            return True
        case None | bool() | int() | float() | str() | Mapping() | Sequence():
            return bool(value)
        case _:
            return True


def _kind(value: object) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "string"
        case RootData() | LabelMap() | Mapping() | Sequence():
            return "uncomparable"
        case _:
            return "other"


def is_equal(left: object, right: object) -> bool:
    """Whether two basic values are equal; an int and a float cannot be compared, as in Go."""
    if left is None or right is None:
        return left is right
    kind = _kind(left)
    if kind == "uncomparable" or _kind(right) == "uncomparable":
        raise ValueError("non-comparable type")
    if kind != _kind(right):
        raise ValueError(_incompatible(left, right))
    return left == right


def compare_less(left: object, right: object) -> bool:
    """Whether `left < right`, for two numbers of a kind or two strings."""
    kind = _kind(left)
    if kind not in ("int", "float", "string") or _kind(right) not in ("int", "float", "string"):
        raise ValueError("invalid type for comparison")
    if kind != _kind(right):
        raise ValueError(_incompatible(left, right))
    return left < right  # type: ignore[operator,no-any-return]


def _incompatible(left: object, right: object) -> str:
    return f"incompatible types for comparison: {type_name(left)} and {type_name(right)}"
