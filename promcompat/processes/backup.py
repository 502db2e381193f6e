"""`promcompat backup` and `promcompat restore`: the service's own database into a file and back."""

import argparse
import sys
from pathlib import Path

from promcompat.core.errors import PromcompatError
from promcompat.settings import Settings
from sql.embedded.backup import back_up, restore


class BackupCommandError(PromcompatError):
    """The command is not for this database; the message says what to use instead."""


def add_backup_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands."""
    for name, text in (
        ("backup", "back up the service's own database to a file, whether it is running or not"),
        ("restore", "replace the service's own database by such a backup"),
    ):
        parser = commands.add_parser(name, help=text, description=text)
        parser.add_argument("file", help="the backup file, in pg_dump's custom format")
        parser.add_argument("--data-dir", help="folder of the service's own database")


def run_backup_command(command: str, settings: Settings, file: Path) -> int:
    """Run one of them; progress goes to standard error. Raises PromcompatError."""
    if settings.database_url is not None:
        raise BackupCommandError(
            f"{command} is for the service's own database, but PROMCOMPAT_DATABASE_URL is set; "
            "use pg_dump and pg_restore as described in docs/operations.md"
        )
    run = back_up if command == "backup" else restore
    run(settings.data_dir.expanduser(), file.expanduser().absolute(), _report)
    return 0


def _report(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
