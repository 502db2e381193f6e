"""Alert thresholds as the JSON documents the database holds."""

import math
from collections.abc import Mapping
from typing import Any

import orjson

from promcompat.core.model import Labels
from promcompat.core.remediation import RemediationSpec
from promcompat.core.thresholds import (
    NO_LIMIT,
    AlertThreshold,
    Direction,
    ThresholdOverride,
)


def encode_threshold(threshold: AlertThreshold | None) -> str | None:
    """The document of a threshold; None for none. Limits must be finite."""
    if threshold is None:
        return None
    document = {
        "warning": threshold.warning,
        "critical": threshold.critical,
        "direction": threshold.direction.value,
        "for_ms": threshold.for_ms,
        "overrides": [_override_document(override) for override in threshold.overrides],
        "remediation": remediation_document(threshold.remediation),
    }
    return orjson.dumps(document).decode()


def decode_threshold(text: str | None) -> AlertThreshold | None:
    """The threshold of a document that `encode_threshold` made."""
    if text is None:
        return None
    document = orjson.loads(text)
    return AlertThreshold(
        warning=document["warning"],
        critical=document["critical"],
        direction=Direction(document["direction"]),
        for_ms=document["for_ms"],
        overrides=tuple(
            ThresholdOverride(
                Labels.of(one["labels"]),
                _override_limit(one, "warning"),
                _override_limit(one, "critical"),
            )
            for one in document["overrides"]
        ),
        remediation=remediation_of(document["remediation"]),
    )


def _override_document(override: ThresholdOverride) -> dict[str, object]:
    """An inherited limit is absent, one that is switched off is null."""
    limits = {"warning": override.warning, "critical": override.critical}
    return {
        "labels": override.labels.as_dict(),
        **{
            name: None if math.isnan(limit) else limit
            for name, limit in limits.items()
            if limit is not None
        },
    }


def _override_limit(document: Mapping[str, Any], name: str) -> float | None:
    if name not in document:
        return None
    limit: float | None = document[name]
    return NO_LIMIT if limit is None else limit


def remediation_document(spec: RemediationSpec | None) -> dict[str, object] | None:
    """What is stored of a remediation; None for none."""
    if spec is None:
        return None
    return {
        "workflow_type": spec.workflow_type,
        "task_queue": spec.task_queue,
        "input_template": dict(spec.input_template),
        "cooldown_ms": spec.cooldown_ms,
        "max_attempts": spec.max_attempts,
        "needs_approval": spec.needs_approval,
        "approval_timeout_ms": spec.approval_timeout_ms,
        "levels": list(spec.levels),
    }


def remediation_of(document: Mapping[str, Any] | None) -> RemediationSpec | None:
    """The remediation of a document that `remediation_document` made."""
    if document is None:
        return None
    # Documents from before levels have none.
    return RemediationSpec(**{**document, "levels": tuple(document.get("levels", ()))})
