"""What a client requires of a resource before it changes it (RFC 9110, 13.1)."""

from dataclasses import dataclass

from promcompat.core.errors import ExistsAlreadyError, PreconditionFailedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """The state of a resource that a client requires for its change.

    `versions`: the versions it may have (If-Match), None for any state. `must_exist` is
    `If-Match: *`, `must_not_exist` is `If-None-Match: *`.
    """

    versions: frozenset[int] | None = None
    must_exist: bool = False
    must_not_exist: bool = False

    def check(self, what: str, version: int | None) -> None:
        """Raises PreconditionFailedError; `version` is None if there is no such resource yet.

        `what` names the resource in errors, such as `the definition`.
        """
        if version is None:
            if self.must_exist or self.versions is not None:
                raise PreconditionFailedError(f"{what} does not exist")
            return
        if self.must_not_exist:
            raise ExistsAlreadyError(f"{what} already exists")
        if self.versions is not None and version not in self.versions:
            raise PreconditionFailedError(
                f"{what} has been changed in the meantime; its version is now {version}"
            )
