"""The parser of `promcompat rules`, apart from what its commands import."""

import argparse


def add_rules_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command with its own commands."""
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
        command.add_argument("--tenant", help="default: the tenant of a service without tenants")
        where = command.add_mutually_exclusive_group()
        where.add_argument("--database-url", help="postgresql:// URL [PROMCOMPAT_DATABASE_URL]")
        where.add_argument("--data-dir", help="folder of the service's own database")
