"""The parser of `promcompat dashboards`, apart from what its commands import."""

import argparse


def add_dashboards_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command with its own commands."""
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
        command.add_argument("--tenant", help="default: the tenant of a service without tenants")
        where = command.add_mutually_exclusive_group()
        where.add_argument("--database-url", help="postgresql:// URL [PROMCOMPAT_DATABASE_URL]")
        where.add_argument("--data-dir", help="folder of the service's own database")
