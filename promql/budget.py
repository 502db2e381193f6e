"""What one query may still use: time, and samples held in memory."""

import time

from promcompat.core.errors import ExecutionError, QueryCanceledError, QueryTimeoutError

TOO_MANY_SAMPLES = "query processing would load too many samples into memory in query execution"


class QueryBudget:
    """Counts the samples a query holds and stops it once it is out of time or cancelled.

    An evaluation runs in a thread that cannot be killed, so it asks here between nodes.
    `deadline` is a `time.monotonic()` value.
    """

    __slots__ = ("_cancelled", "deadline", "held_samples", "max_samples", "peak_samples")

    def __init__(self, deadline: float, max_samples: int) -> None:
        self.deadline = deadline
        self.max_samples = max_samples
        self.held_samples = 0
        self.peak_samples = 0
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

    def check_size(self, n_samples: int) -> None:
        """Raises ExecutionError when an array of this many samples is more than allowed."""
        if n_samples > self.max_samples:
            raise ExecutionError(TOO_MANY_SAMPLES)

    def hold(self, n_samples: int) -> None:
        """Set how many samples are in memory now; raises ExecutionError when they are too many."""
        self.held_samples = n_samples
        self.peak_samples = max(self.peak_samples, n_samples)
        self.check_size(n_samples)
