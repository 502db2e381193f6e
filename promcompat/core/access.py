"""Who may do what: roles, and the principal in whose name a request is made."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Role(Enum):
    """A kind of work that a principal may do. Each route needs one; see `http.route_roles`."""

    WRITE = "write"
    """Store samples, metadata and exemplars."""
    READ = "read"
    """Run queries, and read everything else that the tenant has."""
    EDIT = "edit"
    """Change definitions, rules and silences, and acknowledge alerts."""
    OPERATE = "operate"
    """Approve and cancel remediations, delete and correct samples."""
    ADMIN = "admin"
    """Manage tokens, tenants and limits."""


ALL_ROLES: Final = frozenset(Role)
_INCLUDED: Final = {
    Role.EDIT: frozenset((Role.EDIT, Role.READ)),
    Role.OPERATE: frozenset((Role.OPERATE, Role.READ)),
    Role.ADMIN: ALL_ROLES,
}


def roles_with_included(given: Iterable[Role]) -> frozenset[Role]:
    """The roles and those that they include.

    Who edits or operates must see what that concerns, so both include `read`. An administrator
    could give themselves any role, so `admin` includes all.
    """
    return frozenset(role for one in given for role in _INCLUDED.get(one, frozenset((one,))))


@dataclass(frozen=True, slots=True)
class Principal:
    """In whose name a request is made: a token, an account, or a subject of an OIDC issuer.

    `roles` contains those that the given roles include. `tenants` are the tenants the principal may
    work for; None: every tenant.
    """

    name: str
    roles: frozenset[Role]
    tenants: frozenset[str] | None

    def may_work_for(self, tenant: str) -> bool:
        """Whether the principal has access to a tenant."""
        return self.tenants is None or tenant in self.tenants


ANYBODY: Final = Principal("anonymous", ALL_ROLES, None)
"""The principal of every request while access is not restricted."""
