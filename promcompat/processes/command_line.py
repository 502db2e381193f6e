"""The command line of `promcompat`: every command with its arguments.

It imports no command, because most of them take long to load; `promcompat.__main__` does.
"""

import argparse
from typing import Final, TypeAlias

from promcompat.configuration.settings import TENANT_HEADER, Settings
from promcompat.configuration.text import default_text, env_name, flag_name, value_form
from promcompat.core.access import Role
from promcompat.version import PROMETHEUS_VERSION, promcompat_version

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
DEFAULT_URL: Final = "http://127.0.0.1:9201"
"""The address of a service with default settings."""

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
  promcompat sql -c "SELECT count(*) FROM series"
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


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="promcompat",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=version_text(), help="print the version and exit"
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
    _add_tenant_parser(commands)
    _add_token_parser(commands)
    _add_limits_parser(commands)
    _add_explain_parser(commands)
    _add_sql_parser(commands)
    _add_backup_parsers(commands)
    _add_parquet_parsers(commands)
    _add_import_parser(commands)
    _add_rules_parser(commands)
    _add_dashboards_parser(commands)
    _add_scrape_parser(commands)
    compile_text = "compile what services run as machine code; without it, they do so at start"
    commands.add_parser("compile-kernels", help=compile_text, description=compile_text)
    commands.add_parser("version", help="print the version and exit")
    return parser


def version_text() -> str:
    """The versions of promcompat and of the Prometheus that it is compatible with."""
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


def _add_actions(commands: _Commands, name: str, actions: str, text: str) -> _Commands:
    """A command with settings and actions; its usage leaves the settings out, which are many."""
    parser = commands.add_parser(
        name,
        help=text,
        usage=f"promcompat {name} [--SETTING VALUE ...] {actions} ...",
        description=text,
    )
    _add_settings(parser)
    return parser.add_subparsers(
        dest="action", required=True, metavar=actions, prog=f"promcompat {name}"
    )


def _add_tenant(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tenant", help="default: the tenant of a service without tenants")


def _add_database(command: argparse.ArgumentParser) -> None:
    where = command.add_mutually_exclusive_group()
    where.add_argument("--database-url", help="postgresql:// URL [PROMCOMPAT_DATABASE_URL]")
    where.add_argument("--data-dir", help="folder of the service's own database")


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


def _add_tenant_parser(commands: _Commands) -> None:
    text = "tenants: how long their samples are kept, and which roles read them in SQL"
    actions = _add_actions(commands, "tenant", "list|grant|revoke|set-retention", text)
    actions.add_parser(
        "list", help="list the tenants, their retention and the roles that read them"
    )
    grant = actions.add_parser("grant", help="let a role of the database read a tenant in SQL")
    revoke = actions.add_parser("revoke", help="take a tenant back from a role")
    for action in (grant, revoke):
        action.add_argument("tenant", metavar="TENANT", help="the name of the tenant")
        action.add_argument("role", metavar="ROLE", help="the name of the role")
    grant.add_argument(
        "--create", action="store_true", help="make the role, and print an address for it"
    )
    setting = actions.add_parser(
        "set-retention",
        help="say how many days the samples of a tenant are kept",
        description=(
            "Say how many days the samples of a tenant are kept: fewer or more than "
            "PROMCOMPAT_RETENTION_DAYS. A metric's own retention_days counts before that."
        ),
    )
    setting.add_argument("tenant", metavar="TENANT", help="the name of the tenant")
    setting.add_argument(
        "days", metavar="DAYS", help="a number of days, 0 (forever), or default (as the service)"
    )


def _add_token_parser(commands: _Commands) -> None:
    text = "tokens: who may use the service, where PROMCOMPAT_ACCESS is tokens"
    actions = _add_actions(commands, "token", "list|create|revoke", text)
    actions.add_parser("list", help="list the tokens that are not revoked")
    create = actions.add_parser("create", help="make a token and print it")
    create.add_argument("name", metavar="NAME", help="what the token is for, such as prometheus-1")
    create.add_argument(
        "--role",
        action="append",
        required=True,
        choices=sorted(role.value for role in Role),
        help="what the token may do; may be repeated",
    )
    tenants = create.add_mutually_exclusive_group()
    tenants.add_argument(
        "--tenant",
        action="append",
        metavar="TENANT",
        help="a tenant that the token has access to; may be repeated. Default: default",
    )
    tenants.add_argument(
        "--all-tenants", action="store_true", help="the token has access to every tenant"
    )
    create.add_argument(
        "--expires-in", metavar="DURATION", help="such as 90d. Default: it never expires"
    )
    revoke = actions.add_parser("revoke", help="make a token useless, within seconds")
    revoke.add_argument("name", metavar="NAME", help="the name of the token")


def _add_limits_parser(commands: _Commands) -> None:
    text = "limits of tenants: show them, and override them for a tenant"
    actions = _add_actions(commands, "limits", "list|set|unset", text)
    listing = actions.add_parser("list", help="show the limits of a tenant, and what each is about")
    setting = actions.add_parser("set", help="override limits of a tenant")
    unset = actions.add_parser("unset", help="remove overrides of a tenant")
    for action in (listing, setting, unset):
        action.add_argument("tenant", metavar="TENANT", help="the name of the tenant")
    setting.add_argument(
        "values", metavar="LIMIT=VALUE", nargs="+", help="such as ingestion_rate=50000"
    )
    unset.add_argument(
        "names", metavar="LIMIT", nargs="*", help="the names of limits; none: all overrides"
    )


def _add_explain_parser(commands: _Commands) -> None:
    text = "show how a query is executed, and with --analyze what it costs"
    parser = commands.add_parser("explain", help=text, description=text)
    parser.add_argument("query", metavar="EXPR", help="a PromQL expression")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--url",
        default=DEFAULT_URL,
        help="a running service that explains it. Default: %(default)s",
    )
    where.add_argument("--database-url", help="plan the query on this database, without a service")
    parser.add_argument("--time", help="time of an instant query: Unix seconds or RFC 3339")
    parser.add_argument("--start", help="start of a range query, with --end and --step")
    parser.add_argument("--end", help="end of a range query")
    parser.add_argument("--step", help="step of a range query: seconds or a duration such as 1m")
    parser.add_argument("--analyze", action="store_true", help="run the query and measure it")
    parser.add_argument(
        "--database-plan",
        action="store_true",
        help="include PostgreSQL's EXPLAIN of each statement",
    )
    parser.add_argument("--json", action="store_true", help="print the service's response as it is")
    parser.add_argument("--tenant", help="the tenant, sent as X-Scope-OrgID")


def _add_sql_parser(commands: _Commands) -> None:
    text = "open psql on the database in use; other arguments, such as -c, are passed to psql"
    parser = commands.add_parser(
        "sql",
        help=text,
        usage="promcompat sql [--database-url URL | --data-dir FOLDER] [PSQL-ARGUMENT ...]",
        description=text,
        allow_abbrev=False,
        add_help=False,  # -h is psql's.
    )
    parser.add_argument("--help", action="help", help="show this help and exit")
    _add_database(parser)


def _add_backup_parsers(commands: _Commands) -> None:
    for name, text in (
        ("backup", "back up the database to a file, whether the service is running or not"),
        ("restore", "replace the service's own database by a backup, or fill an empty database"),
    ):
        parser = commands.add_parser(name, help=text, description=text)
        parser.add_argument("file", help="the backup file, in pg_dump's custom format")
        _add_database(parser)


def _add_parquet_parsers(commands: _Commands) -> None:
    export = commands.add_parser("export", help="write samples of a tenant into a Parquet file")
    export.add_argument("--match", default="", help="PromQL selector; default: every series")
    export.add_argument("--start", default="", help="first time, RFC 3339 or Unix seconds")
    export.add_argument("--end", default="", help="last time, inclusive")
    back = commands.add_parser("import-parquet", help="write the samples of such a file")
    for parser in (export, back):
        parser.add_argument("file", help="the Parquet file")
        _add_tenant(parser)
        _add_database(parser)


def _add_import_parser(commands: _Commands) -> None:
    parser = commands.add_parser(
        "import", help="copy the history of another system into a running service"
    )
    parser.add_argument("kind", choices=("prometheus", "victoriametrics", "promscale", "tsdb"))
    parser.add_argument(
        "source",
        metavar="URL|FOLDER",
        help="where its HTTP API is; of promscale: its database, postgresql://…; of tsdb: a "
        "snapshot or the data folder of a Prometheus",
    )
    parser.add_argument("--to", default=DEFAULT_URL, help="the service")
    parser.add_argument("--match", default='{__name__!=""}', help="the series, as a selector")
    parser.add_argument(
        "--start", help="first time, RFC 3339 or Unix seconds; default of tsdb: that of its blocks"
    )
    parser.add_argument("--end", help="last time; default: now, or that of the blocks")
    parser.add_argument("--checkpoint", metavar="FILE", help="remembers how far the work is")
    parser.add_argument("--tenant", default="", help=f"sent as {TENANT_HEADER}")
    parser.add_argument("--no-check", action="store_true", help="do not compare at the end")


def _add_rules_parser(commands: _Commands) -> None:
    text = "check, test, load and export rule files of Prometheus"
    parser = commands.add_parser("rules", help=text, description=text)
    own = parser.add_subparsers(dest="rules_command", required=True, metavar="COMMAND")
    check = own.add_parser("check", help="check rule files, as promtool check rules does")
    check.add_argument("files", nargs="+", metavar="FILE", help="a rule file")
    test = own.add_parser("test", help="run unit tests of rules, as promtool test rules does")
    test.add_argument("files", nargs="+", metavar="FILE", help="a file of tests")
    load = own.add_parser(
        "load",
        help="make files the rules of their namespaces, in place of what these had before",
    )
    load.add_argument("files", nargs="+", metavar="FILE", help="a rule file, also one of mimirtool")
    load.add_argument(
        "--namespace",
        default="",
        help="default: what the file states, else its name without its ending",
    )
    export = own.add_parser("export", help="print the rules of each namespace as YAML")
    export.add_argument("--namespace", default="", help="default: all of them")
    backfill = own.add_parser(
        "backfill",
        help="evaluate recording rules over a past range, and replace what is there",
    )
    backfill.add_argument("--start", required=True, help="first time, RFC 3339 or Unix seconds")
    backfill.add_argument("--end", required=True, help="last time, inclusive")
    backfill.add_argument("--namespace", default="", help="default: all of them")
    backfill.add_argument("--group", default="", help="only the group of this name")
    backfill.add_argument("--rule", default="", help="only the rules of this name")
    backfill.add_argument("--dry-run", action="store_true", help="only count")
    for command in (load, export, backfill):
        _add_tenant(command)
        _add_database(command)


def _add_dashboards_parser(commands: _Commands) -> None:
    text = "import, check, export and list dashboards"
    parser = commands.add_parser("dashboards", help=text, description=text)
    own = parser.add_subparsers(dest="dashboards_command", required=True, metavar="COMMAND")
    check = own.add_parser(
        "check", help="say what of files of Grafana is not supported, and store nothing"
    )
    load = own.add_parser("import", help="store files of Grafana, or of an export")
    for command in (check, load):
        command.add_argument("files", nargs="+", metavar="FILE", help="a JSON file")
        command.add_argument(
            "--input",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="the value of one of the file's __inputs; may be repeated",
        )
    load.add_argument("--uid", help="for one file; default: that of the file, else its name")
    export = own.add_parser("export", help="print a dashboard, or write all into a folder")
    what = export.add_mutually_exclusive_group(required=True)
    what.add_argument("uid", nargs="?", help="the dashboard to print")
    what.add_argument("--folder", help="write every dashboard into this folder, as UID.json")
    listing = own.add_parser("list", help="list the dashboards")
    for command in (load, export, listing):
        _add_tenant(command)
        _add_database(command)


def _add_scrape_parser(commands: _Commands) -> None:
    text = "scrape what a Prometheus configuration names, and send it to a running service"
    parser = commands.add_parser("scrape", help=text, description=text)
    parser.add_argument("config", metavar="FILE", help="prometheus.yml, read again when it changes")
    parser.add_argument(
        "--remote-write",
        metavar="URL",
        default=f"{DEFAULT_URL}/api/v1/write",
        help="where samples are sent; default: %(default)s",
    )
    parser.add_argument("--tenant", default="", help=f"sent as {TENANT_HEADER}")
    parser.add_argument("--check", action="store_true", help="only read the file, and exit")
