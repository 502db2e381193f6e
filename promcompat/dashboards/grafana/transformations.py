"""Transformations of Grafana: those that are known keep their options."""

from typing import Any, Final, get_args

from promcompat.dashboards.field_model import Transformation
from promcompat.dashboards.grafana.fields import read_matcher
from promcompat.dashboards.grafana.source import Source

Json = dict[str, Any]

_KNOWN: Final = frozenset(get_args(Transformation.model_fields["id"].annotation))
_LABELS_MERGE_VERSION: Final = 31
"""Before this version, labelsToFields merged the frames by itself."""


def read_transformations(panel: Source, schema_version: int) -> list[Json]:
    """The steps, in order."""
    found: list[Json] = []
    for source in panel.children("transformations"):
        found += _transformation(source, schema_version)
    return found


def _transformation(source: Source, schema_version: int) -> list[Json]:
    name = source.text("id")
    found = source.take("options")
    options = found if isinstance(found, dict) else {}
    if name == "seriesToColumns":
        name = "joinByField"
        options = {"mode": "outer", **options}
    is_disabled = source.flag("disabled")
    source.ignore("topic")
    if name not in _KNOWN:
        source.ignore("filter", "options")
        if not is_disabled:
            source.lost("id", f"the transformation {name}")
        return []
    step: Json = {"id": name, "options": options}
    if is_disabled:
        step["disabled"] = True
    if "filter" in source:
        matcher = read_matcher(source.child("filter"))
        if matcher is not None and matcher["by"] == "query":
            step["queries"] = _queries(str(matcher["name"]))
        elif matcher is not None:
            source.lost("filter", "a transformation of some frames", "only queries can be named")
    steps = [step]
    if name == "labelsToFields" and schema_version < _LABELS_MERGE_VERSION:
        steps.append({"id": "merge", "options": {}})
    return steps


def _queries(pattern: str) -> list[str]:
    r"""The queries of a matcher: one, or `/^(?:A|B)$/` of several."""
    text = pattern.removeprefix("/^(?:").removesuffix(")$/")
    return [name for name in text.split("|") if name]
