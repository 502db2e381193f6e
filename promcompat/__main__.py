"""Runs the commands of `promcompat`; their arguments are in `promcompat.processes.command_line`."""

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from promcompat.configuration.settings import Settings
from promcompat.configuration.text import faults_of, secrets_of, unknown_variables
from promcompat.core.errors import PromcompatError
from promcompat.core.texts.secrets import Redactor
from promcompat.logs import set_up_logging
from promcompat.processes.backup import run_backup_command
from promcompat.processes.command_line import build_parser, version_text
from promcompat.processes.explanation.explain import run_explain
from promcompat.processes.kernel_compilation import compile_at_start, run_compile_kernels
from promcompat.processes.late_imports import without_collection
from promcompat.processes.limits import run_limits
from promcompat.processes.migrate import run_migrate
from promcompat.processes.open_files import open_standard_files
from promcompat.processes.sql_shell import run_psql
from promcompat.processes.tenant import run_tenant
from promcompat.processes.token import run_token

_LOGGER = logging.getLogger("promcompat")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 failed, 2 not understood, 130 ended by Ctrl-C."""
    open_standard_files()
    try:
        code = _run_command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the output, as `head` does: discard what is still buffered.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _run_command(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = build_parser()
    options, others = parser.parse_known_args(given)
    if others and options.command != "sql":
        parser.error(
            f"unrecognized arguments: {' '.join(others)}; promcompat {options.command} --help "
            "lists the known ones"
        )
    match options.command:
        case "version":
            sys.stdout.write(f"{version_text()}\n")
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
    for name, similar in unknown_variables(os.environ).items():
        fields = {"variable": name} | ({"similar_setting": similar} if similar else {})
        _LOGGER.warning("unknown environment variable, no such setting", extra=fields)
    try:
        return _run(options, settings, given, others)
    except PromcompatError as exc:
        sys.stderr.write(redactor.hide(f"promcompat: {exc}\n"))
        return 1


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
    from promcompat.processes.serving.serve import run_serve

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
    from promcompat.processes.history.importing import run_import

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


if __name__ == "__main__":
    sys.exit(main())
