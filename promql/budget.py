"""Limits of one query, and of all queries together: time, samples and bytes held in memory."""

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Self, TypeVar

from promcompat.core.errors import ExecutionError, QueryCanceledError, QueryTimeoutError

ResultT = TypeVar("ResultT")

TOO_MANY_SAMPLES = "query processing would load too many samples into memory in query execution"

DEFAULT_MAX_BYTES = 2 << 30
UNCOUNTED_SCRATCH_BYTES = 32 << 20
"""Scratch memory that is not counted: operators work on pieces of a few megabytes."""
UNSHARED_BYTES = 1 << 20
"""What a query may hold without reserving it from the shared memory: most need no more."""
BYTES_PER_CELL = 9
"""One series at one step of a matrix: a float64 and its presence."""
BYTES_PER_SAMPLE = 16
"""A raw sample: a time and a value."""
BYTES_PER_LABELS = 400
"""About what a label set made by a query takes, without its texts."""

BYTES_PER_MADE_LABELS = 200
"""What remains of it after the operator: most texts are shared with the labels it came from."""


def too_much_memory(max_bytes: int) -> str:
    """The error text for a query that would hold more bytes than it may."""
    return (
        f"query would hold more than {max_bytes} bytes in memory in query execution "
        "(limit: max_estimated_memory_consumption_per_query)"
    )


def memory_stays_taken(max_bytes: int) -> str:
    """The error text for a query that waited too long for memory held by other queries."""
    return (
        f"query timed out waiting for memory: all queries together may hold {max_bytes} bytes "
        "(limit: queries-max-memory-bytes)"
    )


class LimitExceededError(ExecutionError):
    """A query needs more than a limit of its tenant allows (422)."""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process."""
        return type(self), (self.limit, str(self))


class MemoryTakenError(Exception):
    """Other queries hold the memory that this one needs; it can start again once they are done."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(n_bytes)
        self.n_bytes = n_bytes


class QueryMemory:
    """The memory that all queries of a process hold together, at most `max_bytes`.

    Or those of a tenant, which are a part of `whole`. Safe to use from several threads, and from
    the garbage collector at any point in them.
    """

    __slots__ = ("__weakref__", "_lock", "_whole", "held_bytes", "max_bytes")

    def __init__(self, max_bytes: int, whole: "QueryMemory | None" = None) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._whole = whole
        # One for all, because the garbage collector may give back the memory of any tenant.
        self._lock: threading.RLock = threading.RLock() if whole is None else whole._lock

    def has_room(self, n_bytes: int) -> bool:
        """Whether `n_bytes` more fit now."""
        fits = self.held_bytes + n_bytes <= self.max_bytes
        return fits and (self._whole is None or self._whole.has_room(n_bytes))

    def take(self, n_bytes: int, held_already: int) -> None:
        """Hold `n_bytes` more. Raises MemoryTakenError with the total the query would then hold."""
        with self._lock:
            if not self.has_room(n_bytes):
                raise MemoryTakenError(held_already + n_bytes)
            self._hold(n_bytes)

    def give_back(self, n_bytes: int) -> None:
        """Hold `n_bytes` less."""
        with self._lock:
            self._hold(-n_bytes)

    def _hold(self, n_bytes: int) -> None:
        self.held_bytes += n_bytes
        if self._whole is not None:
            self._whole._hold(n_bytes)

    def give_back_with(self, owner: object, n_bytes: int) -> None:
        """Hold `n_bytes` less once `owner` has been garbage collected."""
        weakref.finalize(owner, self.give_back, n_bytes).atexit = False


class TimeLimit:
    """Stops work in a thread. A thread cannot be killed, so it calls `check_time` between steps.

    `deadline` is a `time.monotonic()` value.
    """

    __slots__ = ("_cancelled", "deadline")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._cancelled = False

    @classmethod
    def after(cls, seconds: float) -> Self:
        """A limit `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_seconds(self) -> float:
        """The time left, 0 once the deadline has passed."""
        return max(self.deadline - time.monotonic(), 0.0)

    def cancel(self) -> None:
        """Make the next check fail; callable from another thread."""
        self._cancelled = True

    def check_time(self) -> None:
        """Raises QueryTimeoutError or QueryCanceledError when the query has to stop."""
        if self._cancelled:
            raise QueryCanceledError("query was canceled in expression evaluation")
        if time.monotonic() >= self.deadline:
            raise QueryTimeoutError("query timed out in expression evaluation")


async def run_limited(
    threads: Executor | None, limit: TimeLimit, work: Callable[[], ResultT]
) -> ResultT:
    """Run `work` in a thread (None: the event loop's default pool), at most until the limit.

    Raises QueryTimeoutError after that. Then, and when the caller is cancelled, the limit is
    cancelled too, so the work stops at its next check.
    """
    running = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        async with asyncio.timeout(limit.remaining_seconds):
            return await running
    except TimeoutError as exc:
        limit.cancel()
        raise QueryTimeoutError("query timed out in expression evaluation") from exc
    except asyncio.CancelledError:
        limit.cancel()
        raise


class QueryBudget(TimeLimit):
    """Counts the samples and bytes a query holds; stops it once it is out of time or cancelled.

    Evaluation checks it between nodes and before it allocates an array. The bytes counted are those
    of samples, matrices, labels the query makes, its tree, and scratch arrays beyond a few
    megabytes. They also count in `shared`, the memory of all queries together.
    """

    __slots__ = (
        "_is_closed",
        "_is_working",
        "_kept_bytes",
        "_lock",
        "_shared",
        "_taken_bytes",
        "held_bytes",
        "held_samples",
        "max_bytes",
        "max_samples",
        "peak_bytes",
        "peak_samples",
    )

    def __init__(
        self,
        deadline: float,
        max_samples: int,
        max_bytes: int = DEFAULT_MAX_BYTES,
        shared: QueryMemory | None = None,
    ) -> None:
        super().__init__(deadline)
        self._lock = threading.Lock()
        self._shared = shared
        self._taken_bytes = 0
        self._is_working = False
        self._is_closed = False
        self.max_samples = max_samples
        self.max_bytes = max_bytes
        self._kept_bytes = 0
        self.held_bytes = 0
        self.held_samples = 0
        self.peak_samples = 0
        self.peak_bytes = 0

    def check_size(self, n_samples: int, bytes_each: int = BYTES_PER_CELL) -> None:
        """Raises ExecutionError if an array of this many samples is more than allowed."""
        if n_samples > self.max_samples:
            raise LimitExceededError("max_samples_per_query", TOO_MANY_SAMPLES)
        self.check_bytes(n_samples * bytes_each)

    def check_bytes(self, n_bytes: int) -> None:
        """Raises ExecutionError if `n_bytes` on top of what is held are more than allowed.

        Raises MemoryTakenError if they are more than other queries leave.
        """
        needed = self._kept_bytes + self.held_bytes + n_bytes
        self.peak_bytes = max(self.peak_bytes, needed)
        if needed > self.max_bytes:
            text = too_much_memory(self.max_bytes)
            raise LimitExceededError("max_estimated_memory_consumption_per_query", text)
        if needed > self._taken_bytes + UNSHARED_BYTES:
            self._take(needed)

    def take_shared(self, n_bytes: int) -> None:
        """Hold so many bytes of the shared memory in all. Raises MemoryTakenError."""
        if n_bytes > self._taken_bytes:
            self._take(n_bytes)

    @property
    def kept_bytes(self) -> int:
        """What was passed to `keep`, and not released."""
        return self._kept_bytes

    def _take(self, n_bytes: int) -> None:
        with self._lock:
            if self._shared is not None:
                self._shared.take(n_bytes - self._taken_bytes, self._taken_bytes)
                self._taken_bytes = n_bytes

    def run(self, work: Callable[[], ResultT]) -> ResultT:
        """Run `work` in this thread; memory it took is held until it ends, even after `close`."""
        with self._lock:
            self._is_working = True
        try:
            self.check_time()
            return work()
        finally:
            with self._lock:
                self._is_working = False
                if self._is_closed:
                    self._give_back()

    def close(self, result: object = None, n_bytes: int = 0) -> None:
        """Give back the shared memory: `n_bytes` of it only once `result` is garbage collected."""
        with self._lock:
            n_bytes = min(n_bytes, self._taken_bytes)
            if n_bytes and self._shared is not None:
                self._shared.give_back_with(result, n_bytes)
                self._taken_bytes -= n_bytes
            self._is_closed = True
            if not self._is_working:
                self._give_back()

    def _give_back(self) -> None:
        if self._shared is not None:
            self._shared.give_back(self._taken_bytes)
        self._taken_bytes = 0
        self._shared = None

    def check_scratch(self, n_bytes: int) -> None:
        """As `check_bytes`, for scratch arrays; a few megabytes of them do not count."""
        self.check_bytes(max(0, n_bytes - UNCOUNTED_SCRATCH_BYTES))

    def keep(self, n_bytes: int) -> None:
        """Count bytes held until the query ends. Raises as `check_bytes`."""
        self.check_bytes(n_bytes)
        self._kept_bytes += n_bytes

    def release(self, n_bytes: int) -> None:
        """Stop counting bytes passed to `keep`."""
        self._kept_bytes -= n_bytes

    def hold(self, n_samples: int, n_bytes: int = 0) -> None:
        """Set what is in memory now. Raises ExecutionError if those are too many samples."""
        self.held_samples = n_samples
        self.peak_samples = max(self.peak_samples, n_samples)
        self.held_bytes = n_bytes
        self.check_size(n_samples, 0)
