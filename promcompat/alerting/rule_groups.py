"""Whole groups of rules, as rule files and Mimir's ruler API exchange them."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from promcompat.alerting.rule_files.rule_conversion import document_of, rules_of
from promcompat.alerting.rule_files.rule_document import (
    GroupDocument,
    RuleFileError,
    group_faults,
)
from promcompat.core.alerting.alerts import MAX_GROUP_NAME_BYTES, MAX_RULE_NAME_BYTES, Rule
from promcompat.core.alerting.ports import RuleGroupsChange, RuleRepository
from promcompat.core.errors import BadDataError, OverloadedError, PreconditionFailedError
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.ports import LongParsing, work_in_thread

_ATTEMPTS = 20


class RuleGroups:
    """Groups of rules by namespace, of each tenant."""

    def __init__(
        self, rules: RuleRepository, limits: Limits, work: LongParsing = work_in_thread
    ) -> None:
        self._rules = rules
        self._limits = limits
        self._work = work

    async def groups(
        self, tenant: str, namespace: str | None = None
    ) -> Mapping[str, Sequence[GroupDocument]]:
        """The groups of each namespace, or of one, in the order of their names."""
        rules = await self._rules.list_rules(tenant, namespace=namespace)
        found: defaultdict[str, list[GroupDocument]] = defaultdict(list)
        for members in _by_group(rules).values():
            found[members[0].namespace].append(document_of(members))
        return found

    async def store_group(self, tenant: str, namespace: str, group: GroupDocument) -> bool:
        """Create or replace a group; returns whether anything changed.

        Raises RuleFileError for what Prometheus refuses, BadDataError for too many rules, and
        OverloadedError when others change the same rules all the time.
        """

        async def store() -> bool:
            known = await self._rules.list_rules(tenant, group.name, namespace=namespace)
            return await self._store(tenant, {namespace: [group]}, known)

        return await _last_one_wins(store)

    async def store_namespaces(
        self, tenant: str, wanted: Mapping[str, Sequence[GroupDocument]]
    ) -> bool:
        """Make these the groups of their namespaces, all of them or none; one may have none.

        Returns whether anything changed. Raises as `store_group`.
        """

        async def store() -> bool:
            rules = await self._rules.list_rules(tenant)
            known = [rule for rule in rules if rule.namespace in wanted]
            return await self._store(tenant, wanted, known)

        return await _last_one_wins(store)

    async def delete(self, tenant: str, namespace: str, group: str | None = None) -> bool:
        """Delete a group, or all of a namespace; False when there is none."""
        known = await self._rules.list_rules(tenant, group, namespace=namespace)
        if known:
            change = RuleGroupsChange(kept=(), new=(), deleted=known)
            await self._rules.store_groups(tenant, change)
        return bool(known)

    async def _store(
        self,
        tenant: str,
        wanted: Mapping[str, Sequence[GroupDocument]],
        known: Sequence[Rule],
    ) -> bool:
        for namespace, groups in wanted.items():
            _require_short_names(namespace, groups)
        # First, as it costs less than parsing: who is at the limit must not cost others much.
        await self._require_room(tenant, wanted, known)
        for groups in wanted.values():
            n_characters = sum(len(rule.expr) for group in groups for rule in group.rules)
            if faults := await self._work(tenant, n_characters, partial(group_faults, groups)):
                raise RuleFileError(faults)
        rules = [
            rule
            for namespace, groups in wanted.items()
            for group in groups
            for rule in rules_of(namespace, group)
        ]
        change = changes_between(known, rules)
        if change:
            await self._require_bytes(tenant, change)
            await self._rules.store_groups(tenant, change)
        return bool(change)

    async def _require_room(
        self,
        tenant: str,
        wanted: Mapping[str, Sequence[GroupDocument]],
        replaced: Sequence[Rule],
    ) -> None:
        limits, refuse = self._limits.of(tenant), self._limits.refuse
        groups = [group for members in wanted.values() for group in members]
        largest = max((len(group.rules) for group in groups), default=0)
        if largest > limits.ruler_max_rules_per_rule_group > 0:
            detail = f": the group has {largest}"
            raise BadDataError(refuse(tenant, "ruler_max_rules_per_rule_group", detail))
        of_tenant = (await self._rules.amount(tenant)).number
        n_rules = of_tenant - len(replaced) + sum(len(group.rules) for group in groups)
        if n_rules > limits.max_rules > 0 and n_rules > of_tenant:
            raise BadDataError(refuse(tenant, "max_rules", f": {n_rules}"))
        if limits.ruler_max_rule_groups_per_tenant:
            before = set(_by_group(await self._rules.list_rules(tenant)))
            after = before - set(_by_group(replaced)) | {
                (namespace, group.name)
                for namespace, members in wanted.items()
                for group in members
            }
            if len(after) > max(limits.ruler_max_rule_groups_per_tenant, len(before)):
                detail = f": there would be {len(after)}"
                raise BadDataError(refuse(tenant, "ruler_max_rule_groups_per_tenant", detail))

    async def _require_bytes(self, tenant: str, change: RuleGroupsChange) -> None:
        stored = (await self._rules.amount(tenant)).n_bytes
        name, size = "max_rules_bytes", self._rules.n_bytes
        after = sum(map(size, (*(rule for _, rule in change.kept), *change.new)))
        before = sum(map(size, (*(rule for rule, _ in change.kept), *change.deleted)))
        if not self._limits.has_room(tenant, name, stored, after=after, before=before):
            raise BadDataError(self._limits.refuse(tenant, name))


def _require_short_names(namespace: str, groups: Sequence[GroupDocument]) -> None:
    """Raises BadDataError for names that no index takes; Prometheus and Mimir take any."""
    names = [("namespace", namespace, MAX_GROUP_NAME_BYTES)]
    for group in groups:
        names.append(("group", group.name, MAX_GROUP_NAME_BYTES))
        names += [("rule", rule.name, MAX_RULE_NAME_BYTES) for rule in group.rules]
    for what, name, most in names:
        n_bytes = len(name.encode(errors="surrogatepass"))
        if n_bytes > most:
            raise BadDataError(
                f"the name of the {what} {name[:50]!r}… has {n_bytes} bytes; at most {most}"
            )


async def _last_one_wins(store: Callable[[], Awaitable[bool]]) -> bool:
    """Look at the rules again when others have changed them meanwhile. Raises OverloadedError."""
    for _ in range(_ATTEMPTS):
        with suppress(PreconditionFailedError):
            return await store()
    raise OverloadedError("others change these rules at the same time; try again")


def changes_between(known: Sequence[Rule], wanted: Sequence[Rule]) -> RuleGroupsChange:
    """What to do to known rules so that they become the wanted ones.

    A rule with the same group, name and labels is the same rule, in the order of evaluation: it
    keeps its alerts and recorded series, as in Prometheus, and its remediation. Unlike
    in Prometheus, its namespace may differ: that of a file changes when the file is renamed.
    """
    kept: list[tuple[Rule, Rule]] = []
    new, deleted = list(wanted), list(known)
    for identity in (_identity, _identity_in_any_namespace):
        waiting: defaultdict[object, list[Rule]] = defaultdict(list)
        for rule in reversed(deleted):
            waiting[identity(rule)].append(rule)
        unknown: list[Rule] = []
        for rule in new:
            if found := waiting[identity(rule)]:
                old = found.pop()
                kept.append((old, _continued(old, rule)))
            else:
                unknown.append(rule)
        left = {rule.id for rules in waiting.values() for rule in rules}
        new, deleted = unknown, [rule for rule in deleted if rule.id in left]
    changed = [(old, rule) for old, rule in kept if rule != old]
    return RuleGroupsChange(kept=changed, new=new, deleted=deleted)


def _continued(old: Rule, rule: Rule) -> Rule:
    """A rule as the known one that it replaces."""
    return replace(
        rule, id=old.id, version=old.version, enabled=old.enabled, remediation=old.remediation
    )


def _identity(rule: Rule) -> object:
    return rule.namespace, _identity_in_any_namespace(rule)


def _identity_in_any_namespace(rule: Rule) -> object:
    return rule.group, rule.kind, rule.name, tuple(sorted(rule.all_labels.items()))


def _by_group(rules: Iterable[Rule]) -> Mapping[tuple[str, str], list[Rule]]:
    found: defaultdict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in rules:
        found[rule.namespace, rule.group].append(rule)
    return found
