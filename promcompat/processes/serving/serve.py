"""`promcompat serve`: serves in this process, or in worker processes that it keeps alive."""

import socket
from collections.abc import Callable, Sequence
from functools import partial

import uvloop

from promcompat.composition.network import check_listening, tls_files
from promcompat.configuration.settings import Settings
from promcompat.configuration.types import split_listen_address
from promcompat.core.cache_folder import check_temporary_folder
from promcompat.http.listening import base_url, bind_socket
from promcompat.listeners.line_sockets import listening_for_lines
from promcompat.processes.late_imports import without_collection
from promcompat.processes.open_files import raise_open_files
from promcompat.processes.serving.banner import print_banner
from promcompat.processes.serving.stacks import write_stacks_on_signal
from promcompat.processes.serving.supervise import WorkerLink, supervise, worker_link


def run_serve(settings: Settings, arguments: Sequence[str]) -> int:
    """Serve in this process, or in workers that get its `arguments`; the exit code.

    Raises PromcompatError when the service cannot start.
    """
    write_stacks_on_signal()
    raise_open_files(settings.max_connections)
    link = worker_link()
    if link is not None:
        bound = bind_socket(*split_listen_address(link.listen), share_port=True)
        return _serve_here(settings, bound, link.report_ready, link)
    _check_files(settings)
    # Bound alone first, so that a port in use is reported before anything else is started.
    bound = bind_socket(*settings.listen_address)
    check_listening(settings, bound)
    uvloop.run(_check_line_addresses(settings))
    is_tls = settings.uses_tls
    if settings.workers == 1:
        announce = partial(print_banner, settings, base_url(bound, is_tls=is_tls))
        return _serve_here(settings, bound, announce)
    if files := tls_files(settings):
        files.load()  # What is wrong with them is said here, and not by each worker.
    check_temporary_folder()
    host, port = bound.getsockname()[:2]
    bound.close()
    with bind_socket(host, port, share_port=True) as reserved:
        announce = partial(print_banner, settings, base_url(reserved, is_tls=is_tls))
        return uvloop.run(supervise(settings, reserved, announce, arguments))


async def _check_line_addresses(settings: Settings) -> None:
    """Raises ListenerError. Later, a worker cannot tell another program there from a worker."""
    for address in (settings.graphite_listen, settings.statsd_listen):
        if address is not None:
            async with listening_for_lines(*split_listen_address(address), lambda _: None):
                pass


def _check_files(settings: Settings) -> None:
    """Raises BadDataError for files that cannot be used."""
    files = (
        settings.limits_file,
        settings.alert_relabel_file,
        settings.scrape_config,
        settings.rule_files,
    )
    if any(files):
        # Late, because what reads them takes the parent of workers memory that it does not need.
        with without_collection():
            from promcompat.composition.start_check import check_start

        check_start(settings)


def _serve_here(
    settings: Settings,
    bound: socket.socket,
    announce: Callable[[str], None],
    link: WorkerLink | None = None,
) -> int:
    # Late, because the parent of workers needs nothing of what serves.
    with without_collection():
        from promcompat.processes.serving.process import serve

    return uvloop.run(serve(settings, bound, announce, link))
