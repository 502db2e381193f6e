"""The parser of `promcompat scrape`, apart from the command, which takes long to load."""

import argparse

from promcompat.configuration.settings import TENANT_HEADER


def add_scrape_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The parser of the command."""
    text = "scrape what a Prometheus configuration names, and send it to a running service"
    parser = commands.add_parser("scrape", help=text, description=text)
    parser.add_argument("config", metavar="FILE", help="prometheus.yml, read again when it changes")
    parser.add_argument(
        "--remote-write",
        metavar="URL",
        default="http://127.0.0.1:9201/api/v1/write",
        help="where samples are sent; default: %(default)s",
    )
    parser.add_argument("--tenant", default="", help=f"sent as {TENANT_HEADER}")
    parser.add_argument("--check", action="store_true", help="only read the file, and exit")
