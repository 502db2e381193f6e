"""Errors that say which stored page cannot be decoded."""

from promcompat.core.errors import PromcompatError


class StoredPageError(PromcompatError):
    """A stored page cannot be decoded, so a query that needs it has no answer (500).

    Leaving it out would be a wrong answer that nobody notices.
    """


def damaged_page(
    *, is_block: bool, first_series: int, first_ms: int, last_arrival: int, reason: str
) -> StoredPageError:
    """The error with what finds the row of the page."""
    place = "sample_block with series_id" if is_block else "sample_run with first_series"
    return StoredPageError(
        f"stored samples are damaged: the page of {place} = {first_series}, "
        f"first_ms = {first_ms} and last_arrival = {last_arrival} cannot be decoded ({reason}). "
        "Other series and times can be queried; see docs/runbooks/damaged-page.md"
    )
