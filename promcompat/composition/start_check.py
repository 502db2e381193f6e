"""The files and addresses that the settings name, read before a service waits for its database."""

from collections.abc import Callable, Iterator, Sequence

from promcompat.alerting.rule_file_watch import names_of, read_rule_files
from promcompat.alerting.rule_files.rule_document import RuleFileError
from promcompat.composition.limits import current_limits
from promcompat.composition.options import outgoing_labels
from promcompat.composition.outgoing import notification_policy
from promcompat.configuration.settings import Settings
from promcompat.core.errors import BadDataError
from promcompat.scraping.document import read_config_file


def check_start(settings: Settings) -> None:
    """Raises BadDataError with the faults of all files and addresses, a line each.

    They are read again by what uses them: a database may take long to answer.
    """
    checks: Sequence[Callable[[Settings], object]] = (
        current_limits,
        outgoing_labels,
        notification_policy,
        _check_scrape_config,
        _check_rule_files,
    )
    if faults := [fault for check in checks for fault in _faults_of(check, settings)]:
        raise BadDataError("\n".join(faults))


def _faults_of(check: Callable[[Settings], object], settings: Settings) -> Iterator[str]:
    try:
        check(settings)
    except RuleFileError as exc:
        yield from (f"PROMCOMPAT_RULE_FILES {fault}" for fault in exc.faults)
    except BadDataError as exc:
        yield str(exc)


def _check_scrape_config(settings: Settings) -> None:
    if settings.scrape_config is not None:
        try:
            read_config_file(settings.scrape_config)
        except BadDataError as exc:
            raise BadDataError(f"PROMCOMPAT_SCRAPE_CONFIG {exc}") from exc


def _check_rule_files(settings: Settings) -> None:
    if settings.alerting:
        read_rule_files(names_of(settings.rule_files))
