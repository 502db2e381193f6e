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
    for command in (load, export):
        command.add_argument("--tenant", help="default: the tenant of a service without tenants")
        where = command.add_mutually_exclusive_group()
        where.add_argument("--database-url", help="postgresql:// URL [PROMCOMPAT_DATABASE_URL]")
        where.add_argument("--data-dir", help="folder of the service's own database")
