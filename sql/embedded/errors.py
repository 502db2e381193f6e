"""Why the embedded database could not be installed or started."""

from promcompat.core.errors import PromcompatError


class EmbeddedDatabaseError(PromcompatError):
    """The embedded database cannot start; the message says why and what to do."""


class DataFolderInUseError(EmbeddedDatabaseError):
    """Another live promcompat holds the data folder."""
