"""The command line: `promcompat serve`, `migrate`, `maintain`, `worker`, `explain`, `sql`,
`backup`, `restore`."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from pydantic import ValidationError

from promcompat.composition import SHORT, migrate_when_answering, start_database
from promcompat.core.errors import PromcompatError
from promcompat.core.secrets import Redactor
from promcompat.http.server import base_url, bind_socket
from promcompat.logs import set_up_logging
from promcompat.processes.backup import add_backup_parsers, run_backup_command
from promcompat.processes.banner import render_banner
from promcompat.processes.explain import add_explain_parser, run_explain
from promcompat.processes.maintain import maintain
from promcompat.processes.serve import serve
from promcompat.processes.sql_shell import add_sql_parser, run_psql
from promcompat.processes.supervise import WorkerLink, supervise, worker_link
from promcompat.settings import Settings
from promcompat.settings_text import (
    default_text,
    env_name,
    faults_of,
    flag_name,
    secrets_of,
    unknown_variables,
    value_form,
)
from promcompat.version import PROMETHEUS_VERSION, promcompat_version

_LOGGER = logging.getLogger("promcompat")

_DESCRIPTION = """\
promcompat keeps Prometheus metrics in TimescaleDB or PostgreSQL: remote write in, PromQL and SQL
out. Any Prometheus can send to it and Grafana reads it as a Prometheus data source."""

_EXAMPLES = """\
examples:
  promcompat serve
      Everything by itself: installs, starts and stops its own database.
  promcompat serve --database-url postgresql://user:secret@db:5432/metrics --listen :9201
      On a database you run; the schema is brought up to date first.
  PROMCOMPAT_TENANCY=header PROMCOMPAT_WORKERS=4 promcompat serve
      Settings from the environment; a flag wins over its variable.
  promcompat migrate --database-url postgresql://user:secret@db:5432/metrics
      Only bring the schema up to date.
  promcompat worker --temporal-address temporal:7233 --task-queue promcompat
      Do remediations, beside a service and on its database.
  promcompat sql -c "SELECT count(*) FROM metrics"
      Open psql on the database in use; its arguments are passed on.
  promcompat backup metrics.dump
      Back up the service's own database; promcompat restore puts it back.
  promcompat explain 'rate(http_requests_total[5m])' --analyze
      Ask a running service how it answers a query, and what that takes.

send to it:    remote_write: [{url: "http://127.0.0.1:9201/api/v1/write"}]
read from it:  Grafana data source of type Prometheus with the URL http://127.0.0.1:9201"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0 done, 1 failed, 2 not understood."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = build_parser()
    known, others = parser.parse_known_args(given)
    options = vars(known)
    if others and options["command"] != "sql":
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    command = options.pop("command")
    file = Path(options.pop("file", ""))
    if command == "version":
        sys.stdout.write(f"{_version_text()}\n")
        return 0
    if command == "explain":
        return run_explain(options)
    try:
        settings = Settings(**{name: text for name, text in options.items() if text is not None})
    except ValidationError as exc:
        sys.stderr.writelines(f"promcompat: {fault}\n" for fault in faults_of(exc))
        return 2
    redactor = Redactor(secrets_of(settings))
    set_up_logging(settings.log_level, settings.log_format, redactor)
    for name in unknown_variables(os.environ):
        _LOGGER.warning("no setting has this variable", extra={"variable": name})
    try:
        if command == "sql":
            run_psql(settings, others)
        if command in ("backup", "restore"):
            return run_backup_command(command, settings, file)
        return _run(command, settings, given)
    except PromcompatError as exc:
        sys.stderr.write(redactor.hide(f"promcompat: {exc}\n"))
        return 1
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line; its flags are the fields of Settings."""
    parser = argparse.ArgumentParser(
        prog="promcompat",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=_version_text(), help="print the version and end"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in (
        ("serve", "serve until Ctrl-C or SIGTERM"),
        ("migrate", "bring the database's schema up to date and end"),
        ("maintain", "apply retention and compute metrics_hourly, once, and end"),
        ("worker", "do remediations that Temporal hands out, until Ctrl-C or SIGTERM"),
    ):
        command = commands.add_parser(
            name,
            help=help_text,
            usage=f"promcompat {name} [--SETTING VALUE ...]",
            description=_DESCRIPTION,
            epilog=_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_settings(command)
    add_explain_parser(commands)
    add_sql_parser(commands)
    add_backup_parsers(commands)
    commands.add_parser("version", help="print the version and end")
    return parser


def _version_text() -> str:
    return f"promcompat {promcompat_version()} (Prometheus {PROMETHEUS_VERSION})"


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings (each also a variable of the environment)")
    for name, field in Settings.model_fields.items():
        default = default_text(name)
        shown = f" Default: {default}." if default else ""
        group.add_argument(
            flag_name(name),
            metavar=value_form(name),
            help=f"{field.description}{shown} [{env_name(name)}]".replace("%", "%%"),
        )


def _run(command: str, settings: Settings, given: Sequence[str]) -> int:
    match command:
        case "migrate":
            return _migrate(settings)
        case "maintain":
            return _maintain(settings)
        case "worker":
            # Here, as no other command needs Temporal's libraries.
            from promcompat.processes.worker import work

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(work(settings))
        case _:
            return _serve(settings, given)


def _migrate(settings: Settings) -> int:
    database = start_database(settings)
    try:
        url = database.url if database else _given_url(settings)
        version = asyncio.run(migrate_when_answering(settings, url, SHORT))
    finally:
        if database:
            database.stop()
    sys.stdout.write(f"The database has schema version {version}.\n")
    return 0


def _maintain(settings: Settings) -> int:
    report = asyncio.run(maintain(settings))
    if report.is_skipped:
        sys.stdout.write("Another process does maintenance right now.\n")
    else:
        sys.stdout.write(
            f"{report.n_deleted} samples deleted, {report.n_chunks_dropped} chunks dropped, "
            f"{report.n_hours_computed} hours computed, {report.n_series_removed} series removed.\n"
        )
    for failure in report.failures:
        sys.stderr.write(f"promcompat: {failure.task}: {failure.subject}: {failure.reason}\n")
    return 1 if report.failures else 0


def _serve(settings: Settings, arguments: Sequence[str]) -> int:
    link = worker_link()
    if link is not None:
        return _serve_as_worker(link.settings(settings), link)
    host, port = settings.listen_address
    # Bound alone first: a port that is taken is told before anything else is started.
    bound = bind_socket(host, port)
    if settings.workers > 1:
        address, port = bound.getsockname()[:2]
        bound.close()
        return _serve_with_workers(settings, address, port, arguments)

    def announce(database: str) -> None:
        _show(render_banner(settings, base_url(bound), database))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings, bound, announce))


def _serve_as_worker(settings: Settings, link: WorkerLink) -> int:
    bound = bind_socket(*settings.listen_address, share_port=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            serve(
                settings,
                bound,
                link.report_ready,
                migrates=False,
                listens_early=False,
                follow=link.follow,
            )
        )


def _serve_with_workers(settings: Settings, host: str, port: int, arguments: Sequence[str]) -> int:
    # Never listens, only keeps the port ours while workers come and go.
    reserved = bind_socket(host, port, share_port=True)
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    database = start_database(settings)
    try:
        url = database.url if database else _given_url(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(migrate_when_answering(settings, url))
            return runner.run(
                supervise(
                    settings,
                    listen,
                    url,
                    lambda text: _show(render_banner(settings, base_url(reserved), text)),
                    arguments,
                )
            )
    finally:
        if database:
            database.stop()
        reserved.close()


def _given_url(settings: Settings) -> str:
    return settings.database_url.get_secret_value() if settings.database_url else ""


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
