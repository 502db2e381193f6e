"""What one query may still use, and all together: time, samples and bytes held in memory."""

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Self, TypeVar

from promcompat.core.errors import ExecutionError, QueryCanceledError, QueryTimeoutError

ResultT = TypeVar("ResultT")

TOO_MANY_SAMPLES = "query processing would load too many samples into memory in query execution"

DEFAULT_MAX_BYTES = 2 << 30
UNCOUNTED_SCRATCH_BYTES = 32 << 20
"""What a query may take beside what is counted: operators work on pieces of some megabytes."""
UNSHARED_BYTES = 1 << 20
"""What a query may take without asking for it: most queries are that small."""
BYTES_PER_CELL = 9
"""A float64 and whether it is there: what each series and step of a matrix takes."""
BYTES_PER_SAMPLE = 16
"""A time and a value: what a raw sample takes."""
BYTES_PER_LABELS = 400
"""About what the label set of a series that a query makes takes, without its texts."""

BYTES_PER_MADE_LABELS = 200
"""What stays of it once an operator is done: most texts are shared with the labels it came from."""


def too_much_memory(max_bytes: int) -> str:
    """What a query is told that would hold more bytes than it may."""
    return (
        f"query would hold more than {max_bytes} bytes in memory in query execution "
        "(limit: query-max-memory-bytes)"
    )


def memory_stays_taken(max_bytes: int) -> str:
    """What a query is told that waited in vain for memory that other queries hold."""
    return (
        f"query timed out waiting for memory: all queries together may hold {max_bytes} bytes "
        "(limit: queries-max-memory-bytes)"
    )


class MemoryTakenError(Exception):
    """Other queries hold the memory that this one needs; it may begin again once they are done."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(n_bytes)
        self.n_bytes = n_bytes


class QueryMemory:
    """What all queries of a process hold together, at most `max_bytes`.

    May be used from several threads, and by the garbage collector in any place of them.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._lock = threading.RLock()

    def has_room(self, n_bytes: int) -> bool:
        """Whether so much could be held now."""
        return self.held_bytes + n_bytes <= self.max_bytes

    def take(self, n_bytes: int, held_already: int) -> None:
        """Hold so much more. Raises MemoryTakenError with all that the query then would hold."""
        with self._lock:
            if not self.has_room(n_bytes):
                raise MemoryTakenError(held_already + n_bytes)
            self.held_bytes += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Hold so much less."""
        with self._lock:
            self.held_bytes -= n_bytes

    def give_back_with(self, owner: object, n_bytes: int) -> None:
        """Hold so much less once `owner` is gone."""
        weakref.finalize(owner, self.give_back, n_bytes).atexit = False


class TimeLimit:
    """Stops work in a thread, which cannot be killed: it asks here between its steps.

    `deadline` is a `time.monotonic()` value.
    """

    __slots__ = ("_cancelled", "deadline")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._cancelled = False

    @classmethod
    def after(cls, seconds: float) -> Self:
        """A limit so far from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_seconds(self) -> float:
        """The time left, 0 when there is none."""
        return max(self.deadline - time.monotonic(), 0.0)

    def cancel(self) -> None:
        """Make the next check fail; may be called from another thread."""
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
    """Work in a thread (None: of the loop's own), waiting for it no longer than the limit.

    Raises QueryTimeoutError after that; then, and when this is cancelled, the work is told to stop.
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

    An evaluation asks here between nodes, and before it makes an array. Bytes are those of samples,
    of matrices and of labels a query makes, of its tree, and of scratch arrays of operators beyond
    some megabytes. What counts here counts in `shared` too, which all queries have together.
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
        """Raises ExecutionError when one may not make an array of this many samples."""
        if n_samples > self.max_samples:
            raise ExecutionError(TOO_MANY_SAMPLES)
        self.check_bytes(n_samples * bytes_each)

    def check_bytes(self, n_bytes: int) -> None:
        """Raises ExecutionError when this much beside what is held is more than allowed.

        Raises MemoryTakenError when it is more than other queries leave.
        """
        needed = self._kept_bytes + self.held_bytes + n_bytes
        self.peak_bytes = max(self.peak_bytes, needed)
        if needed > self.max_bytes:
            raise ExecutionError(too_much_memory(self.max_bytes))
        if needed > self._taken_bytes + UNSHARED_BYTES:
            self._take(needed)

    def _take(self, n_bytes: int) -> None:
        with self._lock:
            if self._shared is not None:
                self._shared.take(n_bytes - self._taken_bytes, self._taken_bytes)
                self._taken_bytes = n_bytes

    def run(self, work: Callable[[], ResultT]) -> ResultT:
        """Work in this thread; memory that was taken is held until its end, even when closed."""
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
        """Give back what was taken of the shared memory: of `n_bytes` once `result` is gone."""
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
        """As `check_bytes` for what an operator needs in between; some megabytes do not count."""
        self.check_bytes(max(0, n_bytes - UNCOUNTED_SCRATCH_BYTES))

    def keep(self, n_bytes: int) -> None:
        """Count bytes that stay until the query ends; raises ExecutionError beyond the limit."""
        self.check_bytes(n_bytes)
        self._kept_bytes += n_bytes

    def release(self, n_bytes: int) -> None:
        """Count bytes no longer that were to be kept."""
        self._kept_bytes -= n_bytes

    def hold(self, n_samples: int, n_bytes: int = 0) -> None:
        """Set what is in memory now; raises ExecutionError when that is too much."""
        self.held_samples = n_samples
        self.peak_samples = max(self.peak_samples, n_samples)
        self.held_bytes = n_bytes
        self.check_size(n_samples, 0)
