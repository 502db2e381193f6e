"""How to reach Temporal, and the one place where its client's errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from promcompat.core.errors import BadDataError, NotFoundError, StorageUnavailableError
from promcompat.remediation.temporal_options import TemporalOptions


async def connect(options: TemporalOptions, *, lazy: bool) -> Client:
    """A client; a lazy one connects in its first call."""
    return await Client.connect(
        options.address,
        namespace=options.namespace,
        api_key=options.api_key,
        tls=options.uses_tls,
        lazy=lazy,
    )


@contextmanager
def translated_temporal_errors() -> Iterator[None]:
    """Turn the client's errors into ours.

    What Temporal can never take is BadDataError, a workflow it does not know (any more)
    NotFoundError, and the rest StorageUnavailableError: a missing permission or namespace too,
    since an operator mends that and nothing may be lost meanwhile.
    """
    try:
        yield
    except RPCError as exc:
        match exc.status:
            case RPCStatusCode.INVALID_ARGUMENT:
                raise BadDataError(f"Temporal refused it: {exc.message}") from exc
            case RPCStatusCode.NOT_FOUND:
                raise NotFoundError(f"Temporal does not know it: {exc.message}") from exc
            case _:
                raise StorageUnavailableError(f"Temporal cannot answer: {exc.message}") from exc
    except TimeoutError as exc:
        raise StorageUnavailableError("Temporal did not answer in time") from exc
    except (RuntimeError, OSError) as exc:
        # The client says RuntimeError when it cannot connect.
        raise StorageUnavailableError(f"Temporal cannot be reached: {exc}") from exc
