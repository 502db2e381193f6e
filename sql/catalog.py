"""The identifiers and the bounds of the database; Python takes table and column names from here."""

from typing import Final

SCHEMA: Final = "promcompat"
"""Where all our tables, views and functions live."""

TENANT_TABLE: Final = "tenant"
SERIES_TABLE: Final = "series"
SAMPLE_TABLE: Final = "sample"
STAGING_TABLE: Final = "sample_staging"
METADATA_TABLE: Final = "metric_metadata"

SAMPLE_COLUMNS: Final = ("series_id", "ts", "value")
STAGING_COLUMNS: Final = ("row_number", *SAMPLE_COLUMNS)

METRIC_NAME_COLUMN: Final = "metric_name"
LABELS_COLUMN: Final = "labels"

MS_PER_HOUR: Final = 3_600_000
MS_PER_DAY: Final = 24 * MS_PER_HOUR
MIN_TIMESTAMP_MS: Final = -210_866_803_200_000
"""The first millisecond of timestamptz: 4714-11-24 BC, 00:00 UTC."""
MAX_TIMESTAMP_MS: Final = 9_223_371_331_200_000 - 1
"""The last millisecond of TimescaleDB's range: 294247-01-01, 23:59:59.999 UTC."""


def is_storable_text(text: str) -> bool:
    """Whether PostgreSQL can hold the text: no NUL, no lone surrogate."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
