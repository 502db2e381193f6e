"""`promcompat backup` and `restore`: the database into a file and back; their parsers, and those of
`export` and `import-parquet`."""

import argparse
import sys
from pathlib import Path

from promcompat.configuration.settings import Settings
from promcompat.database import owner_url
from sql.embedded.backup import back_up, restore
from sql.embedded.client_programs import dump_database, restore_database


def add_backup_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands."""
    for name, text in (
        ("backup", "back up the database to a file, whether the service is running or not"),
        ("restore", "replace the service's own database by a backup, or fill an empty database"),
    ):
        parser = commands.add_parser(name, help=text, description=text)
        parser.add_argument("file", help="the backup file, in pg_dump's custom format")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--database-url", help="postgresql:// URL [PROMCOMPAT_DATABASE_URL]")
        where.add_argument("--data-dir", help="folder of the service's own database")


def add_parquet_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands."""
    export = commands.add_parser("export", help="write samples of a tenant into a Parquet file")
    export.add_argument("--match", default="", help="PromQL selector; default: every series")
    export.add_argument("--start", default="", help="first time, RFC 3339 or Unix seconds")
    export.add_argument("--end", default="", help="last time, inclusive")
    back = commands.add_parser("import-parquet", help="write the samples of such a file")
    for parser in (export, back):
        parser.add_argument("file", help="the Parquet file")
        parser.add_argument("--tenant", help="default: the tenant of a service without tenants")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--database-url", help="postgresql:// URL [PROMCOMPAT_DATABASE_URL]")
        where.add_argument("--data-dir", help="folder of the service's own database")


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
    run(settings.data_dir.expanduser(), path, _report)
    return 0


def _report(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
