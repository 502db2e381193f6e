"""What a recording rule cannot have, whoever states it."""

from collections.abc import Mapping

RECORD = "record"
"""The field with the name of the rule, as rule files call it."""


def recording_faults(name: str, only_for_alerts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Each fault as a field and Prometheus' words, in its order.

    `only_for_alerts` are the values of the fields that only alert rules have; one that is empty or
    0 counts as not stated.
    """
    faults = [
        (field, f"invalid field '{field}' in recording rule")
        for field, value in only_for_alerts.items()
        if value
    ]
    if "{" in name or "}" in name:
        reason = f"braces present in the recording rule name; should it be in expr?: {name}"
        faults.append((RECORD, reason))
    return faults
