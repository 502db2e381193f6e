"""Where Temporal is, for who must know it without its client."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalOptions:
    """`timeout_seconds` bounds each call, connecting included."""

    address: str
    namespace: str = "default"
    api_key: str | None = field(default=None, repr=False)
    uses_tls: bool = False
    timeout_seconds: float = 5.0
