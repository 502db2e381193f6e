"""`promcompat backup` and `restore`: the database into a file and back."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from promcompat.configuration.settings import Settings
from promcompat.database import owner_url
from sql.embedded.backup import back_up, restore
from sql.embedded.client_programs import dump_database, restore_database


def run_backup_command(command: str, settings: Settings, file: Path) -> int:
    """Run one of them; progress goes to standard error. Raises PromcompatError."""
    with _ending_like_ctrl_c():
        return _run(command, settings, file)


@contextmanager
def _ending_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, which clears up what is incomplete.

    By default they end it at once, and leave pg_dump running and its file. What whoever started
    the command has set for them, as nohup does, stays.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()  # Others cannot set any.
    ending = (signal.SIGTERM, signal.SIGHUP) if is_main else ()
    taken = [number for number in ending if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _run(command: str, settings: Settings, file: Path) -> int:
    path = file.expanduser().absolute()
    if settings.database_url is not None:
        url = owner_url(settings)
        if command == "backup":
            _report(f"Writing {path}")
            dump_database(url, path)
        else:
            restore_database(url, path, _report)
            _report("Restored; run promcompat migrate, or start the service, before others use it")
        return 0
    run = back_up if command == "backup" else restore
    run(settings.data_dir, path, _report)
    return 0


def _report(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
