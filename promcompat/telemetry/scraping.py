"""What the scraper counts; names follow Prometheus' own metrics of scrapes."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from promcompat.telemetry.instruments import reload_gauge

_COUNTERS = {
    "duplicates": (
        "sample_duplicate_timestamp",
        "Scraped samples dropped because their series had another value at that time.",
    ),
    "out_of_order": (
        "sample_out_of_order",
        "Scraped samples dropped because their series had a later one.",
    ),
    "out_of_bounds": (
        "sample_out_of_bounds",
        "Scraped samples dropped because they are too far in the future.",
    ),
    "exemplars_out_of_order": (
        "exemplar_out_of_order",
        "Scraped exemplars not stored: out of order, or invalid.",
    ),
    "over_sample_limit": ("exceeded_sample_limit", "Scrapes that exceeded sample_limit."),
    "over_body_limit": ("exceeded_body_size_limit", "Scrapes that exceeded body_size_limit."),
    "over_bucket_limit": (
        "exceeded_native_histogram_bucket_limit",
        "Scrapes that exceeded native_histogram_bucket_limit.",
    ),
    "over_label_limits": ("exceeded_label_limits", "Scrapes that exceeded a limit of labels."),
}


class ScrapeMetrics:
    """Scrapes, what was not stored of them, and what waits to be stored."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"promcompat_{name}", text, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            # Only of live workers: one that has ended says nothing about the present.
            return Gauge(f"promcompat_{name}", text, registry=registry, multiprocess_mode="livemax")

        self.scrapes = Counter(
            "promcompat_target_scrapes", "Scrapes by outcome.", ("outcome",), registry=registry
        )
        for outcome in ("up", "down"):
            self.scrapes.labels(outcome)
        self._dropped = {
            name: counter(f"target_scrapes_{metric}", text)
            for name, (metric, text) in _COUNTERS.items()
        }
        self.samples_stored = counter("scrape_samples_stored", "Scraped samples stored.")
        self.samples_refused = counter(
            "scrape_samples_refused", "Scraped samples refused, or sent together with such a one."
        )
        self.samples_lost = counter(
            "scrape_samples_lost", "Scraped samples lost because they could not be stored in time."
        )
        self.discovery_failures = counter(
            "scrape_discovery_failures", "Lists of targets that could not be read."
        )
        self.targets = gauge("scrape_targets", "Targets that this service scrapes.")
        self.waiting_samples = gauge(
            "scrape_waiting_samples",
            "Scraped samples that wait to be stored; histograms count by their size.",
        )
        self.reload_successful = reload_gauge(
            "promcompat_scrape_config_last_reload_successful",
            "1 if the scrape configuration could be read when it changed last.",
            registry,
        )

    def count(self, name: str, number: int = 1) -> None:
        """Count what a scrape dropped, or why it failed."""
        if number:
            self._dropped[name].inc(number)
