"""What one query may still use: time, samples and bytes held in memory."""

import time

from promcompat.core.errors import ExecutionError, QueryCanceledError, QueryTimeoutError

TOO_MANY_SAMPLES = "query processing would load too many samples into memory in query execution"

DEFAULT_MAX_BYTES = 2 << 30
UNCOUNTED_SCRATCH_BYTES = 32 << 20
"""What a query may take beside what is counted: operators work on pieces of some megabytes."""
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


class QueryBudget:
    """Counts the samples and bytes a query holds; stops it once it is out of time or cancelled.

    An evaluation runs in a thread that cannot be killed, so it asks here between nodes, and before
    it makes an array. `deadline` is a `time.monotonic()` value. Bytes are those of samples, of
    matrices and of labels a query makes, and scratch arrays of operators beyond some megabytes.
    """

    __slots__ = (
        "_cancelled",
        "_kept_bytes",
        "deadline",
        "held_bytes",
        "held_samples",
        "max_bytes",
        "max_samples",
        "peak_bytes",
        "peak_samples",
    )

    def __init__(
        self, deadline: float, max_samples: int, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        self.deadline = deadline
        self.max_samples = max_samples
        self.max_bytes = max_bytes
        self._kept_bytes = 0
        self.held_bytes = 0
        self.held_samples = 0
        self.peak_samples = 0
        self.peak_bytes = 0
        self._cancelled = False

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

    def check_size(self, n_samples: int, bytes_each: int = BYTES_PER_CELL) -> None:
        """Raises ExecutionError when one may not make an array of this many samples."""
        if n_samples > self.max_samples:
            raise ExecutionError(TOO_MANY_SAMPLES)
        self.check_bytes(n_samples * bytes_each)

    def check_bytes(self, n_bytes: int) -> None:
        """Raises ExecutionError when this much beside what is held is more than allowed."""
        needed = self._kept_bytes + self.held_bytes + n_bytes
        self.peak_bytes = max(self.peak_bytes, needed)
        if needed > self.max_bytes:
            raise ExecutionError(too_much_memory(self.max_bytes))

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
