"""When rules are evaluated."""

from promcompat.alerting.state_machine import slot_of
from promcompat.core.alerting.alerts import DEFAULT_NAMESPACE, Rule


def group_slot(tenant: str, namespace: str, group: str, interval_ms: int, now_ms: int) -> int:
    """The latest time at or before now at which a group is due; see `slot_of`.

    Groups without a namespace keep the times they had before there were any.
    """
    named = () if namespace == DEFAULT_NAMESPACE else (namespace,)
    return slot_of((tenant, *named, group), interval_ms, now_ms)


def first_slot_from(tenant: str, rule: Rule, from_ms: int) -> int:
    """The first time from `from_ms` on at which a rule is evaluated."""
    group = tenant, rule.namespace, rule.group
    return group_slot(*group, rule.interval_ms, from_ms - 1) + rule.interval_ms
