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
            return await self._store(tenant, namespace, [group], known)

        return await _last_one_wins(store)

    async def store_namespace(
        self, tenant: str, namespace: str, groups: Sequence[GroupDocument]
    ) -> bool:
        """Make these the groups of a namespace; returns whether anything changed.

        Raises as `store_group`.
        """

        async def store() -> bool:
            known = await self._rules.list_rules(tenant, namespace=namespace)
            return await self._store(tenant, namespace, groups, known)

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
        namespace: str,
        groups: Sequence[GroupDocument],
        known: Sequence[Rule],
    ) -> bool:
        _require_short_names(namespace, groups)
        # First, as it costs less than parsing: who is at the limit must not cost others much.
        await self._require_room(tenant, namespace, groups, known)
        n_characters = sum(len(rule.expr) for group in groups for rule in group.rules)
        if faults := await self._work(tenant, n_characters, partial(group_faults, groups)):
            raise RuleFileError(faults)
        wanted = [rule for group in groups for rule in rules_of(namespace, group)]
        change = changes_between(known, wanted)
        if change:
            await self._require_bytes(tenant, known, change)
            await self._rules.store_groups(tenant, change)
        return bool(change)

    async def _require_room(
        self,
        tenant: str,
        namespace: str,
        groups: Sequence[GroupDocument],
        replaced: Sequence[Rule],
    ) -> None:
        limits, refuse = self._limits.of(tenant), self._limits.refuse
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
            after = before - set(_by_group(replaced)) | {(namespace, one.name) for one in groups}
            if len(after) > max(limits.ruler_max_rule_groups_per_tenant, len(before)):
                detail = f": there would be {len(after)}"
                raise BadDataError(refuse(tenant, "ruler_max_rule_groups_per_tenant", detail))

    async def _require_bytes(
        self, tenant: str, known: Sequence[Rule], change: RuleGroupsChange
    ) -> None:
        kept_ids = {rule.id for rule in change.kept}
        replaced = [*change.deleted, *(rule for rule in known if rule.id in kept_ids)]
        stored = (await self._rules.amount(tenant)).n_bytes
        name, size = "max_rules_bytes", self._rules.n_bytes
        after, before = sum(map(size, (*change.kept, *change.new))), sum(map(size, replaced))
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
    keeps its alerts and recorded series, as in Prometheus, and its remediation.
    """
    waiting: defaultdict[object, list[Rule]] = defaultdict(list)
    for rule in reversed(known):
        waiting[_identity(rule)].append(rule)
    kept: list[Rule] = []
    new: list[Rule] = []
    for rule in wanted:
        found = waiting[_identity(rule)]
        if not found:
            new.append(rule)
            continue
        old = found.pop()
        current = replace(
            rule,
            id=old.id,
            version=old.version,
            enabled=old.enabled,
            remediation=old.remediation,
        )
        if current != old:
            kept.append(current)
    deleted = [rule for left in waiting.values() for rule in left]
    return RuleGroupsChange(kept=kept, new=new, deleted=deleted)


def _identity(rule: Rule) -> object:
    labels = tuple(sorted(rule.all_labels.items()))
    return rule.namespace, rule.group, rule.kind, rule.name, labels


def _by_group(rules: Iterable[Rule]) -> Mapping[tuple[str, str], list[Rule]]:
    found: defaultdict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in rules:
        found[rule.namespace, rule.group].append(rule)
    return found
