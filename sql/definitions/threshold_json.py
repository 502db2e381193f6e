"""Alert thresholds and remediations as the JSON documents the database holds."""

from typing import Final

import orjson
from pydantic import TypeAdapter

from promcompat.core.alerting.remediation import RemediationSpec
from promcompat.core.alerting.thresholds import NO_LIMIT, AlertThreshold

_THRESHOLD: Final = TypeAdapter(AlertThreshold)
_REMEDIATION: Final = TypeAdapter(RemediationSpec)
_LIMITS: Final = ("warning", "critical")


def encode_threshold(threshold: AlertThreshold | None) -> str | None:
    """The document of a threshold; None for none. Limits must be finite.

    In an override, a limit that is inherited is absent, one that is switched off is null.
    """
    if threshold is None:
        return None
    document = _THRESHOLD.dump_python(threshold, mode="json")
    for override in document["overrides"]:
        for name in _LIMITS:
            if override[name] is None:
                del override[name]
    # orjson writes NO_LIMIT, which is NaN, as null.
    return orjson.dumps(document).decode()


def decode_threshold(text: str | None) -> AlertThreshold | None:
    """The threshold of a document that `encode_threshold` made."""
    if text is None:
        return None
    document = orjson.loads(text)
    for override in document["overrides"]:
        override.update({name: NO_LIMIT for name in _LIMITS if override.get(name, 0) is None})
    return _THRESHOLD.validate_python(document)


def encode_remediation(spec: RemediationSpec | None) -> str | None:
    """The document of a remediation; None for none."""
    return None if spec is None else _REMEDIATION.dump_json(spec).decode()
