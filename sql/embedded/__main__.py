"""`python -m sql.embedded`: install, run or find the embedded database without the service."""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from promcompat.core.cache_folder import InstallError, default_cache_folder
from sql.embedded.data_folder import read_owner_url
from sql.embedded.database import EmbeddedDatabase
from sql.embedded.distributions import choose_distribution
from sql.embedded.errors import EmbeddedDatabaseError


def main() -> int:
    """Run one command; progress goes to standard error, results to standard output."""
    arguments = _parse_arguments()
    try:
        match arguments.command:
            case "install":
                _write_line(
                    choose_distribution(None, default_cache_folder(), report_line).description
                )
            case "run":
                _run(arguments.data_folder)
            case "url":
                return _print_url(arguments.data_folder)
    except (EmbeddedDatabaseError, InstallError) as error:
        report_line(f"error: {error}")
        return 1
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sql.embedded", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="download the server programs into the cache")
    run = commands.add_parser("run", help="start the database, stop it on Ctrl-C or SIGTERM")
    url = commands.add_parser("url", help="print the URL of the database in a data folder")
    for command in (run, url):
        command.add_argument("data_folder", type=Path)
    return parser.parse_args()


def _run(data_folder: Path) -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        with EmbeddedDatabase.start(data_folder, report=report_line) as database:
            _write_line(database.owner_url)
            signal.pause()
    except KeyboardInterrupt:
        report_line("Database stopped")


def _print_url(data_folder: Path) -> int:
    url = read_owner_url(data_folder)
    if url is None:
        report_line(f"error: {data_folder} contains no promcompat database")
        return 1
    _write_line(url)
    return 0


def report_line(line: str) -> None:
    """Show progress to a person."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
