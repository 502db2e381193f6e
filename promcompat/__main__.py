"""The command line: `promcompat serve`, `migrate`, `migrate-store`, `maintain`, `worker`,
`set-aside`, `tenant`, `token`, `limits`, `explain`, `sql`, `backup`, `restore`, `export`,
`import`, `import-parquet`, `rules`, `dashboards`, `scrape`, `compile-kernels`."""

import argparse
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from promcompat.configuration.settings import Settings
from promcompat.configuration.text import (
    default_text,
    env_name,
    faults_of,
    flag_name,
    secrets_of,
    unknown_variables,
    value_form,
)
from promcompat.core.errors import PromcompatError
from promcompat.core.secrets import Redactor
from promcompat.logs import set_up_logging
from promcompat.processes.backup import (
    add_backup_parsers,
    add_parquet_parsers,
    run_backup_command,
)
from promcompat.processes.dashboard_parser import add_dashboards_parser
from promcompat.processes.explain import add_explain_parser, run_explain
from promcompat.processes.history_parser import add_import_parser
from promcompat.processes.kernel_compilation import compile_at_start, run_compile_kernels
from promcompat.processes.late_imports import without_collection
from promcompat.processes.limits import add_limits_arguments, run_limits
from promcompat.processes.migrate import run_migrate
from promcompat.processes.rule_parsers import add_rules_parser
from promcompat.processes.scrape_parser import add_scrape_parser
from promcompat.processes.sql_shell import add_sql_parser, run_psql
from promcompat.processes.tenant import add_tenant_arguments, run_tenant
from promcompat.processes.token import add_token_arguments, run_token
from promcompat.version import PROMETHEUS_VERSION, promcompat_version

_LOGGER = logging.getLogger("promcompat")

_DESCRIPTION = """\
promcompat stores Prometheus metrics in TimescaleDB or PostgreSQL: it accepts remote write and
answers PromQL and SQL. Any Prometheus can write to it, and Grafana can read from it as a
Prometheus data source."""

_EXAMPLES = """\
examples:
  promcompat serve
      Serve with a database that promcompat installs, starts and stops itself.
  promcompat serve --database-url postgresql://user:secret@db:5432/metrics --listen 127.0.0.1:9300
      Serve with your own database; its schema is brought up to date first.
  PROMCOMPAT_TENANCY=header PROMCOMPAT_WORKERS=4 promcompat serve
      Take settings from the environment; a flag overrides its variable.
  promcompat migrate --database-url postgresql://user:secret@db:5432/metrics
      Only bring the schema up to date.
  promcompat worker --temporal-address temporal:7233 --task-queue promcompat
      Run remediation workflows, alongside a service and on its database.
  promcompat sql -c "SELECT count(*) FROM metrics"
      Open psql on the database in use; further arguments are passed to psql.
  promcompat backup metrics.dump
      Back up the database; promcompat restore restores it.
  promcompat export up.parquet --match up --start 2026-11-01T00:00:00Z
      Write samples into a Parquet file; promcompat import-parquet reads it.
  promcompat import prometheus http://prometheus:9090 --start 2026-10-01T00:00:00Z
      Copy the history of a Prometheus (or victoriametrics, promscale, tsdb) into a running service.
  promcompat rules load rules/*.yml
      Store the rules of Prometheus' rule files; promcompat rules check only checks them.
  promcompat dashboards import node-exporter-full.json
      Store a dashboard of Grafana; promcompat dashboards check says what of it is not supported.
  promcompat scrape prometheus.yml
      Scrape the targets of a Prometheus configuration for a running service, without a Prometheus.
  promcompat token create prometheus-1 --role write
      Make a token, which Prometheus sends as its credentials (PROMCOMPAT_ACCESS=tokens).
  promcompat explain 'rate(http_requests_total[5m])' --analyze
      Show how a running service executes a query, and what it costs.

write to it:   remote_write: [{url: "http://127.0.0.1:9201/api/v1/write"}]
read from it:  Grafana data source of type Prometheus with the URL http://127.0.0.1:9201"""

_COMMANDS_WITH_SETTINGS = {
    "serve": "serve until Ctrl-C or SIGTERM",
    "migrate": "bring the database schema up to date and exit",
    "migrate-store": "move the samples of an older installation from rows into blocks and exit",
    "set-aside": "show, retry or drop the arrivals that could not be drained, and exit",
    "maintain": "do everything once that maintenance does every hour, then exit",
    "worker": "run remediation workflows for Temporal until Ctrl-C or SIGTERM",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0 done, 1 failed, 2 not understood."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = build_parser()
    options, others = parser.parse_known_args(given)
    if others and options.command != "sql":
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    match options.command:
        case "version":
            sys.stdout.write(f"{_version_text()}\n")
            return 0
        case "explain":
            return run_explain(vars(options))
        case "compile-kernels":
            return run_compile_kernels()
        case "rules" if options.rules_command in ("check", "test"):
            return _check_rules(options)
        case "dashboards" if options.dashboards_command == "check":
            return _check_dashboards(options)
        case "import":
            return _import_history(options)
        case "scrape":
            return _scrape(options)
        case _:
            return _run_with_settings(options, given, others)


def _run_with_settings(options: Namespace, given: Sequence[str], others: Sequence[str]) -> int:
    """`given` are all arguments, `others` those that are psql's."""
    texts = {name: vars(options).get(name) for name in Settings.model_fields}
    try:
        settings = Settings(**{name: text for name, text in texts.items() if text is not None})
    except ValidationError as exc:
        sys.stderr.writelines(f"promcompat: {fault}\n" for fault in faults_of(exc))
        return 2
    redactor = Redactor(secrets_of(settings))
    set_up_logging(settings.log_level, settings.log_format, redactor)
    for name in unknown_variables(os.environ):
        _LOGGER.warning("unknown environment variable, no such setting", extra={"variable": name})
    try:
        return _run(options, settings, given, others)
    except PromcompatError as exc:
        sys.stderr.write(redactor.hide(f"promcompat: {exc}\n"))
        return 1
    except KeyboardInterrupt:
        return 130


def _run(
    options: Namespace, settings: Settings, given: Sequence[str], others: Sequence[str]
) -> int:
    match options.command:
        case "serve":
            return _serve(settings, given)
        case "worker":
            return _work(settings)
        case "sql":
            return run_psql(settings, others)
        case "dashboards":
            return _run_dashboards(options, settings)
        case _:
            return _run_once(options, settings)


def _run_once(options: Namespace, settings: Settings) -> int:
    """The commands that do one thing to a database."""
    match options.command:
        case "migrate":
            return run_migrate(settings)
        case "migrate-store":
            return _migrate_store(settings)
        case "set-aside":
            return _set_aside(settings, retries=options.retry, dropped=options.drop)
        case "maintain":
            return _maintain(settings, is_dry_run=options.dry_run)
        case "tenant":
            return run_tenant(options, settings)
        case "token":
            return run_token(options, settings)
        case "limits":
            return run_limits(options, settings)
        case "rules":
            return _run_rules(options, settings)
        case "export" | "import-parquet":
            return _move_parquet(options, settings)
        case _:
            return run_backup_command(options.command, settings, Path(options.file))


# These import their processes late, because the kernels are among what is imported: other commands
# need not wait for numba (or for Temporal's libraries), and the progress of compiling is logged.
def _serve(settings: Settings, given: Sequence[str]) -> int:
    compile_at_start()
    from promcompat.processes.serve import run_serve

    return run_serve(settings, given)


def _maintain(settings: Settings, *, is_dry_run: bool) -> int:
    compile_at_start()
    with without_collection():
        from promcompat.processes.maintain import run_maintain

    return run_maintain(settings, is_dry_run=is_dry_run)


def _set_aside(settings: Settings, *, retries: bool, dropped: Sequence[int]) -> int:
    compile_at_start()
    with without_collection():
        from promcompat.processes.set_aside import run_set_aside

    return run_set_aside(settings, retries=retries, dropped=dropped)


def _migrate_store(settings: Settings) -> int:
    compile_at_start()
    with without_collection():
        from promcompat.processes.migrate_store import run_migrate_store

    return run_migrate_store(settings)


def _work(settings: Settings) -> int:
    compile_at_start()
    with without_collection():
        from promcompat.processes.worker import run_work

    return run_work(settings)


def _move_parquet(options: Namespace, settings: Settings) -> int:
    compile_at_start()
    from promcompat.processes.parquet import run_parquet_command

    return run_parquet_command(options, settings)


def _import_history(options: Namespace) -> int:
    compile_at_start()
    from promcompat.processes.history_import import run_import

    try:
        return run_import(options)
    except PromcompatError as exc:
        sys.stderr.write(f"promcompat: {exc}\n")
        return 1


def _scrape(options: Namespace) -> int:
    from promcompat.scraping.document import read_config_file

    try:
        read_config_file(Path(options.config))
        if options.check:
            sys.stdout.write(f"{options.config} can be used\n")
            return 0
        set_up_logging("info", "logfmt", Redactor())
        compile_at_start()
        from promcompat.processes.scrape import run_scrape

        return run_scrape(options)
    except PromcompatError as exc:
        sys.stderr.write(f"promcompat: {exc}\n")
        return 1


def _check_rules(options: Namespace) -> int:
    compile_at_start()
    from promcompat.processes.rules import run_check, run_tests

    run = run_check if options.rules_command == "check" else run_tests
    return run(options.files)


def _run_rules(options: Namespace, settings: Settings) -> int:
    compile_at_start()
    from promcompat.processes.rules import run_rules_command

    return run_rules_command(options, settings)


def _check_dashboards(options: Namespace) -> int:
    compile_at_start()
    from promcompat.processes.dashboards import run_check

    try:
        return run_check(options)
    except PromcompatError as exc:
        sys.stderr.write(f"promcompat: {exc}\n")
        return 1


def _run_dashboards(options: Namespace, settings: Settings) -> int:
    compile_at_start()
    from promcompat.processes.dashboards import run_dashboards_command

    return run_dashboards_command(options, settings)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line; its flags are the fields of Settings."""
    parser = argparse.ArgumentParser(
        prog="promcompat",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=_version_text(), help="print the version and exit"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in _COMMANDS_WITH_SETTINGS.items():
        command = commands.add_parser(
            name,
            help=help_text,
            usage=f"promcompat {name} [--SETTING VALUE ...]",
            description=_DESCRIPTION,
            epilog=_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "set-aside":
            _add_set_aside_options(command)
        _add_settings(command)
        if name == "maintain":
            _add_maintain_arguments(command)
    tenant_text = "tenants: how long their samples are kept, and which roles read them in SQL"
    tenant = commands.add_parser("tenant", help=tenant_text, description=tenant_text)
    _add_settings(tenant)
    add_tenant_arguments(tenant)
    token_text = "tokens: who may use the service, where PROMCOMPAT_ACCESS is tokens"
    token = commands.add_parser("token", help=token_text, description=token_text)
    _add_settings(token)
    add_token_arguments(token)
    limits_text = "limits of tenants: show them, and override them for a tenant"
    limits = commands.add_parser("limits", help=limits_text, description=limits_text)
    _add_settings(limits)
    add_limits_arguments(limits)
    add_explain_parser(commands)
    add_sql_parser(commands)
    add_backup_parsers(commands)
    add_parquet_parsers(commands)
    add_import_parser(commands)
    add_rules_parser(commands)
    add_dashboards_parser(commands)
    add_scrape_parser(commands)
    compile_text = "compile what services run as machine code; without it, they do so at start"
    commands.add_parser("compile-kernels", help=compile_text, description=compile_text)
    commands.add_parser("version", help="print the version and exit")
    return parser


def _add_set_aside_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--retry", action="store_true", help="try to move all of them now")
    command.add_argument(
        "--drop",
        metavar="ID",
        type=int,
        action="append",
        default=[],
        help="delete this arrival with its samples; may be repeated",
    )


def _add_maintain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="run once and exit, as without it")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what each step would do, and do nothing"
    )


def _version_text() -> str:
    return f"promcompat {promcompat_version()} (Prometheus {PROMETHEUS_VERSION})"


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "settings (each can also be set by the environment variable in brackets)"
    )
    for name, field in Settings.model_fields.items():
        default = default_text(name)
        shown = f" Default: {default}." if default else ""
        group.add_argument(
            flag_name(name),
            metavar=value_form(name),
            help=f"{field.description}{shown} [{env_name(name)}]".replace("%", "%%"),
        )


if __name__ == "__main__":
    sys.exit(main())
