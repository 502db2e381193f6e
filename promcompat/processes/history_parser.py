"""The parser of `promcompat import`, apart from the command, which takes long to load."""

import argparse

from promcompat.settings import TENANT_HEADER


def add_import_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The parser of the command."""
    parser = commands.add_parser(
        "import", help="copy the history of a Prometheus or VictoriaMetrics into a running service"
    )
    parser.add_argument("kind", choices=("prometheus", "victoriametrics"))
    parser.add_argument("source", metavar="URL", help="where its HTTP API is")
    parser.add_argument("--to", default="http://127.0.0.1:9201", help="the service")
    parser.add_argument("--match", default='{__name__!=""}', help="the series, as a selector")
    parser.add_argument("--start", required=True, help="first time, RFC 3339 or Unix seconds")
    parser.add_argument("--end", help="last time; default: now")
    parser.add_argument("--checkpoint", metavar="FILE", help="remembers how far the work is")
    parser.add_argument("--tenant", default="", help=f"sent as {TENANT_HEADER}")
    parser.add_argument("--no-check", action="store_true", help="do not compare at the end")
