"""The stacks of all threads of a process that does not respond, in its log."""

import faulthandler
import signal
import sys
from typing import Final

STACKS_SIGNAL: Final = signal.SIGUSR1


def write_stacks_on_signal() -> None:
    """Let SIGUSR1 write where each thread is to standard error; the process goes on.

    The signal is handled at once, by code in C: also while the event loop runs a loop without end,
    or waits for something in C. Nothing is written if standard error is closed.
    """
    if sys.stderr is not None:
        faulthandler.register(STACKS_SIGNAL, file=sys.stderr, all_threads=True)
    else:
        signal.signal(STACKS_SIGNAL, signal.SIG_IGN)
