"""Alert thresholds as the JSON documents the database holds."""

from collections.abc import Mapping
from typing import Any

import orjson

from promcompat.core.model import Labels
from promcompat.core.remediation import RemediationSpec
from promcompat.core.thresholds import AlertThreshold, Direction, ThresholdOverride


def encode_threshold(threshold: AlertThreshold | None) -> str | None:
    """The document of a threshold; None for none. Limits must be finite."""
    if threshold is None:
        return None
    document = {
        "warning": threshold.warning,
        "critical": threshold.critical,
        "direction": threshold.direction.value,
        "for_ms": threshold.for_ms,
        "overrides": [
            {
                "labels": override.labels.as_dict(),
                "warning": override.warning,
                "critical": override.critical,
            }
            for override in threshold.overrides
        ],
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
            ThresholdOverride(Labels.of(one["labels"]), one["warning"], one["critical"])
            for one in document["overrides"]
        ),
        remediation=remediation_of(document["remediation"]),
    )


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
    }


def remediation_of(document: Mapping[str, Any] | None) -> RemediationSpec | None:
    """The remediation of a document that `remediation_document` made."""
    return None if document is None else RemediationSpec(**document)
