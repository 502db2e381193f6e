"""`promcompat backup` and `restore`: the database into a file and back."""

import sys
from pathlib import Path

from promcompat.configuration.settings import Settings
from promcompat.database import owner_url
from sql.embedded.backup import back_up, restore
from sql.embedded.client_programs import dump_database, restore_database


def run_backup_command(command: str, settings: Settings, file: Path) -> int:
    """Run one of them; progress goes to standard error. Raises PromcompatError."""
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
