"""The parser of `promcompat import`, apart from the command, which takes long to load."""

import argparse

from promcompat.configuration.settings import TENANT_HEADER


def add_import_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The parser of the command."""
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
    parser.add_argument("--to", default="http://127.0.0.1:9201", help="the service")
    parser.add_argument("--match", default='{__name__!=""}', help="the series, as a selector")
    parser.add_argument(
        "--start", help="first time, RFC 3339 or Unix seconds; default of tsdb: that of its blocks"
    )
    parser.add_argument("--end", help="last time; default: now, or that of the blocks")
    parser.add_argument("--checkpoint", metavar="FILE", help="remembers how far the work is")
    parser.add_argument("--tenant", default="", help=f"sent as {TENANT_HEADER}")
    parser.add_argument("--no-check", action="store_true", help="do not compare at the end")
