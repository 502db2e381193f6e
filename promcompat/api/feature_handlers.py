"""`features`: what the language and the service have, by the names that Prometheus gives them."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from promcompat.api.envelope import success_response
from promcompat.configuration.settings import Settings
from promcompat.http.context import SETTINGS
from promql.ast import AGGREGATIONS
from promql.features import Feature, Features
from promql.functions.registry import FUNCTIONS

_KEYWORDS: Final = (
    "bool",
    "by",
    "group_left",
    "group_right",
    "ignoring",
    "offset",
    "on",
    "without",
)
_ALWAYS: Final = (
    "at_modifier",
    "duration_expr",
    "negative_offset",
    "per_query_lookback_delta",
    "per_step_stats",
    "subqueries",
)
_OPERATORS: Final = (
    *("!=", "!~", "%", "*", "+", "-", "/", "<", "</", "<=", "==", "=~", ">", ">/", ">=", "@", "^"),
    *("and", "atan2", "or", "unless"),
)
_EXPERIMENTAL_AGGREGATIONS: Final = ("limitk", "limit_ratio")
_API: Final = (
    *("exclude_alerts", "label_values_match", "otlp_write_receiver", "query_stats"),
    *("query_warnings", "remote_write_receiver", "time_range_labels", "time_range_series"),
)


def feature_list(settings: Settings) -> Mapping[str, Mapping[str, bool]]:
    """By category, features and whether they are enabled; clients take what is absent as off."""
    features = settings.language_features
    return {
        "api": {"admin": settings.admin_api, **dict.fromkeys(_API, True), "lifecycle": False},
        "otlp_receiver": {
            "delta_conversion": settings.otlp_delta == "cumulative",
            "native_delta_ingestion": False,
        },
        "promql": _language(features),
        "promql_functions": {
            name: Feature.EXPERIMENTAL_FUNCTIONS in features or not function.is_experimental
            for name, function in FUNCTIONS.items()
        },
        "promql_operators": {
            **dict.fromkeys(_OPERATORS, True),
            **dict.fromkeys(AGGREGATIONS, True),
            **dict.fromkeys(_EXPERIMENTAL_AGGREGATIONS, Feature.EXPERIMENTAL_FUNCTIONS in features),
        },
        "rules": {"concurrent_rule_eval": False, "keep_firing_for": True, "query_offset": True},
        "tsdb": {"exemplar_storage": True, "native_histograms": True, "st_storage": False},
    }


def _language(features: Features) -> Mapping[str, bool]:
    extends, fills = Feature.EXTENDED_RANGE_SELECTORS, Feature.BINOP_FILL_MODIFIERS
    return {
        **dict.fromkeys((*_KEYWORDS, *_ALWAYS), True),
        **dict.fromkeys(("anchored", "smoothed"), extends in features),
        **dict.fromkeys(("fill", "fill_left", "fill_right"), fills in features),
        "delayed_name_removal": Feature.DELAYED_NAME_REMOVAL in features,
        "type_and_unit_labels": False,
    }


async def handle_features(request: web.Request) -> web.Response:
    """The features by category."""
    return await success_response(request, feature_list(request.app[SETTINGS]))
