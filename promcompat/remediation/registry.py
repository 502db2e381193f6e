"""Users' own workflows: a module or package that lists them in WORKFLOWS and ACTIVITIES."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from promcompat.core.errors import PromcompatError

_DEFINITION = "__temporal_workflow_definition"


class RegistryError(PromcompatError):
    """The user's package cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Workflow classes and activity functions to register with our own."""

    workflows: Sequence[type] = ()
    activities: Sequence[Callable[..., Any]] = ()

    @property
    def workflow_types(self) -> Sequence[str]:
        """The names the workflows are started by."""
        return [getattr(cls, _DEFINITION).name or cls.__name__ for cls in self.workflows]


def load_registered(package: str | None) -> Registered:
    """Import `package` and return what it lists; nothing for None. Raises RegistryError."""
    if package is None:
        return Registered()
    try:
        module = importlib.import_module(package)
    except ImportError as exc:
        raise RegistryError(f"the remediation package {package} cannot be imported: {exc}") from exc
    workflows = _listed(package, getattr(module, "WORKFLOWS", None), "WORKFLOWS")
    activities = _listed(package, getattr(module, "ACTIVITIES", ()), "ACTIVITIES")
    for workflow in workflows:
        if not isinstance(workflow, type) or not hasattr(workflow, _DEFINITION):
            raise RegistryError(f"{package}.WORKFLOWS: {workflow!r} lacks @workflow.defn")
    for activity in activities:
        if not hasattr(activity, "__temporal_activity_definition"):
            raise RegistryError(f"{package}.ACTIVITIES: {activity!r} lacks @activity.defn")
    return Registered(workflows, activities)


def _listed(package: str, found: object, name: str) -> tuple[Any, ...]:
    if not isinstance(found, list | tuple):
        raise RegistryError(f"{package}.{name} must be a list")
    return tuple(found)
