"""`rules`, `alerts` and `alertmanagers` as Prometheus answers them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from promcompat.alerting.rule_service import GroupStatus, RuleStatus
from promcompat.api.envelope import success_response
from promcompat.api.forms import Form, read_form
from promcompat.api.json_text import dump_json
from promcompat.api.params import invalid_parameter, parse_go_int
from promcompat.api.query_parsing import (
    limited_in_thread,
    parse_selectors,
    time_limit,
    within_query_time,
)
from promcompat.api.rule_json import alert_json, group_json, page_token
from promcompat.core.alerting.alerts import Alert, matches_labels
from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import Labels
from promcompat.core.texts.strconv import quote
from promcompat.http.bodies import work_of
from promcompat.http.context import LISTS, STATE, tenant_of

_BYTES_EACH = 500
"""About, of a rule or an alert."""
_INLINE_RULES = 1_000
"""So many are looked through in a millisecond."""
_GO_TRUTH = frozenset(["1", "t", "T", "TRUE", "true", "True"])
_GO_BOOLS = _GO_TRUTH | {"0", "f", "F", "FALSE", "false", "False"}


_Found = list[tuple[GroupStatus, list[RuleStatus]]]
"""Groups, each with some of its rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filter:
    """Which rules are requested; an empty part does not restrict them."""

    kind: str
    names: frozenset[str]
    groups: frozenset[str]
    files: frozenset[str]
    matcher_sets: Sequence[tuple[LabelMatcher, ...]]

    def find(self, groups: Sequence[GroupStatus], check_time: Callable[[], None]) -> _Found:
        """The groups with requested rules."""
        found = [(group, self._rules_of(group)) for group in groups]
        if self.matcher_sets:
            found = self._matching(found, check_time)
        return [(group, rules) for group, rules in found if rules]

    def _rules_of(self, group: GroupStatus) -> list[RuleStatus]:
        """The rules of a group that are requested, if their labels match."""
        if not _is_in(group.file, self.files) or not _is_in(group.name, self.groups):
            return []
        return [rule for rule in group.rules if self._wants(rule)]

    def _wants(self, status: RuleStatus) -> bool:
        has_kind = not self.kind or status.rule.kind.value == self.kind
        return has_kind and _is_in(status.rule.name, self.names)

    def _matching(self, found: _Found, check_time: Callable[[], None]) -> _Found:
        """Those of some rules whose labels match any set of matchers.

        Set by set: there may be more regular expressions than are kept compiled.
        """
        # A template is not a value yet and cannot be matched, so it is left out.
        unmatched = {
            id(status): Labels.of(status.rule.all_labels) for _, rules in found for status in rules
        }

        def matches(matchers: tuple[LabelMatcher, ...], labels: Labels) -> bool:
            check_time()
            return matches_labels(matchers, labels)

        for matchers in self.matcher_sets:
            unmatched = {
                number: labels
                for number, labels in unmatched.items()
                if not matches(matchers, labels)
            }
        return [
            (group, [status for status in rules if id(status) not in unmatched])
            for group, rules in found
        ]


async def _found_rules(
    request: web.Request, wanted: _Filter, groups: Sequence[GroupStatus]
) -> _Found:
    """The groups with requested rules; in the tenant's turn if that may take long."""
    limit = time_limit(request)
    n_rules = sum(len(group.rules) for group in groups)
    if not wanted.matcher_sets and n_rules <= _INLINE_RULES:
        return wanted.find(groups, limit.check_time)
    find = partial(wanted.find, groups, limit.check_time)
    return await limited_in_thread(request, limit, find)


def _is_in(name: str, wanted: frozenset[str]) -> bool:
    return not wanted or name in wanted


async def handle_rules(request: web.Request) -> web.Response:
    """Rule groups."""
    tenant = tenant_of(request)
    form = await read_form(request)
    form.check()
    wanted = _parse_filter(form, await parse_selectors(request, form.all("match[]")))
    excludes_alerts = _parse_exclude_alerts(form)
    limit = _parse_group_limit(form)
    async with within_query_time(request), request.app[LISTS].turn(tenant):
        services = request.app[STATE].services
        # Before the database is up there are no rules; clients should not see that as an error.
        known = [] if services is None else list(await services.rules.groups(tenant))
        groups = _page_start(known, form.get("group_next_token"))
        found = await _found_rules(request, wanted, groups)
        shown = found[:limit] if limit else found
        n_alerts = sum(len(rule.alerts) for _, members in shown for rule in members)
        n_rules = sum(len(members) for _, members in shown)
        token = page_token(found[len(shown)][0]) if len(shown) < len(found) else ""
        data = await work_of(request).work(
            (n_rules + n_alerts) * _BYTES_EACH, _groups_json, shown, not excludes_alerts, token
        )
    warnings = () if services is None else services.rule_files.warnings_of(tenant)
    return await success_response(request, data, warnings)


def _groups_json(
    groups: Sequence[tuple[GroupStatus, list[RuleStatus]]], with_alerts: bool, token: str
) -> bytes:
    data: dict[str, object] = {
        "groups": [group_json(group, members, with_alerts=with_alerts) for group, members in groups]
    }
    return dump_json(data | ({"groupNextToken": token} if token else {}))


async def handle_alerts(request: web.Request) -> web.Response:
    """Active alerts."""
    tenant = tenant_of(request)
    services = request.app[STATE].services
    if services is None:
        return await success_response(request, {"alerts": []})
    async with within_query_time(request), request.app[LISTS].turn(tenant):
        active = await services.alerts.active(tenant)
        silenced_by = await services.silences.silenced_by(tenant, active)
        n_bytes = len(active) * _BYTES_EACH
        data = await work_of(request).work(n_bytes, _alerts_json, active, silenced_by)
    return await success_response(request, data)


def _alerts_json(alerts: Sequence[Alert], silenced_by: Mapping[int, Sequence[int]]) -> bytes:
    shown = [alert_json(alert, silenced_by.get(alert.id, ())) for alert in alerts]
    return dump_json({"alerts": shown})


async def handle_alertmanagers(request: web.Request) -> web.Response:
    """The Alertmanagers that alerts are sent to."""
    services = request.app[STATE].services
    active = [] if services is None else [{"url": url} for url in services.alertmanager_urls]
    data = {"activeAlertmanagers": active, "droppedAlertmanagers": []}
    return await success_response(request, data)


def _parse_filter(form: Form, matcher_sets: Sequence[tuple[LabelMatcher, ...]]) -> _Filter:
    kind = form.get("type").lower()
    if kind not in ("", "alert", "record"):
        raise invalid_parameter("type", f"not supported value {quote(kind)}")

    def both(name: str) -> frozenset[str]:
        # Grafana sends both spellings.
        return frozenset((*form.all(f"{name}[]"), *form.all(name)))

    return _Filter(
        kind=kind,
        names=both("rule_name"),
        groups=both("rule_group"),
        files=both("file"),
        matcher_sets=matcher_sets,
    )


def _parse_exclude_alerts(form: Form) -> bool:
    text = form.get("exclude_alerts")
    if text and text not in _GO_BOOLS:
        raise invalid_parameter(
            "exclude_alerts",
            "error converting exclude_alerts: strconv.ParseBool: "
            f"parsing {quote(text)}: invalid syntax",
        )
    return text in _GO_TRUTH


def _parse_group_limit(form: Form) -> int:
    limit, token = form.get("group_limit"), form.get("group_next_token")
    if not limit:
        if token:
            raise invalid_parameter(
                "group_next_token",
                "group_limit needs to be present in order to paginate over the groups",
            )
        return 0
    try:
        number = parse_go_int(limit, "ParseInt")
    except BadDataError as exc:
        text = f"group_limit needs to be a valid number: {exc}"
        raise invalid_parameter("group_limit", text) from exc
    if number <= 0:
        raise invalid_parameter("group_limit", "group_limit needs to be greater than 0")
    return number


def _page_start(groups: list[GroupStatus], token: str) -> list[GroupStatus]:
    """The groups from the one that the token identifies."""
    if not token:
        return groups
    for index, group in enumerate(groups):
        if page_token(group) == token:
            return groups[index:]
    raise invalid_parameter(
        "group_next_token",
        f"invalid group_next_token '{token}'. were rule groups changed?",
    )
