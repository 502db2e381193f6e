"""Checks the remediation of a rule or a definition, as far as the service can know."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from promcompat.alerting.rule_service import template_faults
from promcompat.core.alerting.remediation import RemediationSpec
from promcompat.core.errors import BadDataError, FieldFault
from promcompat.remediation.actions import ActionPolicy
from promcompat.remediation.payloads import REMEDIATION_WORKFLOW
from promcompat.remediation.plans import (
    CommandAction,
    HttpAction,
    Plan,
    SqlAction,
    is_template,
    read_plan,
)
from promql.ast import ValueType
from promql.parsing.parser import parse_expr
from promql.parsing.type_checker import value_type

_ANY_HOST: Final = ActionPolicy()
_HTTP: Final = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class SpecChecker:
    """Checks remediations against what the workers of our own task queue can do.

    Those workers have the settings of the service, so `policy` and `workflow_types` (None:
    unknown) are theirs too. For other queues only the input of the reference workflow is checked.
    """

    task_queue: str
    policy: ActionPolicy
    workflow_types: frozenset[str] | None

    def __call__(self, spec: RemediationSpec) -> Sequence[FieldFault]:
        """The faults of a remediation; fields are relative to it."""
        is_ours = spec.task_queue == self.task_queue
        faults = [
            *template_faults((f"input{path}", text) for path, text in _texts(spec.input_template)),
            *(self._type_faults(spec) if is_ours else ()),
        ]
        if spec.workflow_type == REMEDIATION_WORKFLOW and not faults:
            plan, found = read_plan(spec.input_template)
            faults += [fault.within("input") for fault in found]
            if plan is not None:
                faults += self._plan_faults(plan, is_ours=is_ours)
        return faults

    def _type_faults(self, spec: RemediationSpec) -> Iterator[FieldFault]:
        known = self.workflow_types
        if known is not None and spec.workflow_type not in known:
            yield FieldFault(
                "workflow_type",
                f"no worker of the task queue {self.task_queue!r} runs the workflow type "
                f"{spec.workflow_type!r}",
                f"{', '.join(sorted(known))}, or a workflow type of "
                "PROMCOMPAT_REMEDIATION_PACKAGE, which must be set for the service too",
            )

    def _plan_faults(self, plan: Plan, *, is_ours: bool) -> Iterator[FieldFault]:
        for name in ("action", "rollback", "cleanup", "escalate"):
            action = getattr(plan, name)
            if action is not None:
                yield from self._action_faults(f"input.{name}", action, is_ours=is_ours)
        query = plan.verify.query
        if query is not None and not is_template(query) and not _is_condition(query):
            reason = "is not a PromQL expression that returns an instant vector"
            yield FieldFault(
                "input.verify.query",
                reason,
                "an expression whose result is empty once the condition has cleared",
            )

    def _action_faults(
        self, path: str, action: HttpAction | CommandAction | SqlAction, *, is_ours: bool
    ) -> Iterator[FieldFault]:
        match action:
            case HttpAction():
                policy = self.policy if is_ours else _ANY_HOST
                hosts = "an http:// or https:// URL of a host in PROMCOMPAT_REMEDIATION_HTTP_HOSTS"
                yield from _refused(f"{path}.url", lambda: _check_url(policy, action.url), hosts)
                if is_ours:
                    yield from _refused(
                        f"{path}.secret_headers",
                        lambda: self.policy.check_secrets(action.secret_headers),
                        "names of PROMCOMPAT_SECRETS",
                    )
            case CommandAction() if is_ours:
                yield from _refused(
                    f"{path}.name",
                    lambda: self.policy.command_line(action.name, action.arguments),
                    "a command of PROMCOMPAT_REMEDIATION_COMMANDS with its arguments",
                )
            case SqlAction() if is_ours:
                yield from _refused(
                    f"{path}.function",
                    lambda: self.policy.check_function(action.function),
                    "a function of PROMCOMPAT_REMEDIATION_SQL_FUNCTIONS",
                )


def _refused(path: str, check: Callable[[], object], expected: str) -> Iterator[FieldFault]:
    """The fault that a check raises, if any."""
    try:
        check()
    except BadDataError as exc:
        yield FieldFault(path, str(exc), expected)


def _check_url(policy: ActionPolicy, url: str) -> None:
    """Raises BadDataError for a URL that is invalid whatever the alert fills in."""
    fixed = url.partition("{{")[0]
    if fixed == url:
        policy.check_url(url)
        return
    # An alert fills in the rest: the host is complete once the path begins.
    if fixed and not any(fixed.startswith(scheme) or scheme.startswith(fixed) for scheme in _HTTP):
        raise BadDataError("the URL must be http:// or https:// and name a host")
    if any(mark in fixed.partition("://")[2] for mark in "/?#"):
        policy.check_url(fixed)


def _is_condition(query: str) -> bool:
    try:
        return value_type(parse_expr(query)) is ValueType.VECTOR
    except BadDataError:
        return False


def _texts(value: object, path: str = "") -> Iterable[tuple[str, str]]:
    """Every string of a JSON value with its path, such as `.action.body.host`."""
    match value:
        case str():
            yield path, value
        case Mapping():
            for key, item in value.items():
                yield from _texts(item, f"{path}.{key}")
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _texts(item, f"{path}[{index}]")
