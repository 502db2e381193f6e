"""The scraper of a serving process."""

from typing import Final
from urllib.parse import urlsplit

from promcompat.composition.network import ServiceAddress
from promcompat.composition.outgoing import scrape_policy
from promcompat.configuration.settings import Settings
from promcompat.core.errors import BadDataError
from promcompat.database import database_url
from promcompat.http.context import DEFAULT_TENANT
from promcompat.metrics.exemplar_service import ExemplarService
from promcompat.metrics.metric_service import MetricService
from promcompat.scraping.configuration import HttpConfig, JobConfig, Secret, TargetGroup, TlsConfig
from promcompat.scraping.delivery import Delivery
from promcompat.scraping.scrape_service import ScrapeService
from promcompat.scraping.scraper import Scraper, ScraperOptions
from promcompat.scraping.sinks import StoreSink
from promcompat.telemetry.scraping import ScrapeMetrics
from sql.database.database import Database
from sql.repositories.scrape_election import PostgresScrapeElection

OWN_JOB: Final = "promcompat"
_OWN_INTERVAL_MS: Final = 15_000


def build_scraping(
    settings: Settings,
    database: Database,
    metrics: MetricService,
    exemplars: ExemplarService,
    counters: ScrapeMetrics,
    address: ServiceAddress,
) -> ScrapeService:
    """What scrapes into the tenant `default`, this service at its address too.

    Raises BadDataError when the configuration cannot be used.
    """
    sink = StoreSink(metrics, exemplars, DEFAULT_TENANT, counters)
    scraper = Scraper(
        ScraperOptions(
            config_file=settings.scrape_config,
            own_jobs=own_jobs(settings, address),
            policy=scrape_policy(settings),
        ),
        Delivery(sink, counters),
        counters,
    )
    try:
        scraper.load()
    except BadDataError as exc:
        raise BadDataError(f"the scrape configuration cannot be used: {exc}") from exc
    election = PostgresScrapeElection(database_url(settings), database)
    return ScrapeService(scraper, election, address.external_url)


def own_jobs(settings: Settings, address: ServiceAddress) -> tuple[JobConfig, ...]:
    """The job that scrapes this service's own metrics, unless it is turned off.

    Its `instance` is of the external URL: every replica reaches itself as 127.0.0.1, which is in no
    certificate.
    """
    if not settings.scrapes_itself or not address.own_url:
        return ()
    labels = {"instance": urlsplit(address.external_url).netloc.rpartition("@")[2]}
    own = urlsplit(address.own_url)
    target = TargetGroup([{"__address__": own.netloc}], labels, "own")
    http = HttpConfig(
        credentials=Secret(text=address.own_secret),
        tls=TlsConfig(insecure_skip_verify=own.scheme == "https"),
    )
    return (
        JobConfig(
            name=OWN_JOB,
            interval_ms=_OWN_INTERVAL_MS,
            scheme=own.scheme,
            http=http,
            static=[target],
        ),
    )
