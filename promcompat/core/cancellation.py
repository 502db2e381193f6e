"""Cancellations that an error has replaced.

Clean-up that fails while a task is cancelled, such as the end of a transaction on a connection that
is lost, raises its own error in place of CancelledError. Whoever handles that error and goes on
would never end.
"""

import asyncio


def is_cancelled() -> bool:
    """Whether the running task has been cancelled, even if an error has replaced CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
