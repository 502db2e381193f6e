"""The settings of ingest: scraping, remote write, OTLP and exemplars."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings

from promcompat.configuration.types import DAY_MS, MEBIBYTE, DurationMs, Names


class IngestSettings(BaseSettings):
    """What is scraped, what a remote write may send, how OTLP is translated, which exemplars stay.

    Names and defaults of OTLP are those of Prometheus' section `otlp`.
    """

    scrape_config: Path | None = Field(
        None,
        description="Prometheus configuration file whose scrape_configs this service scrapes, into "
        "the tenant `default`. It is read again on SIGHUP and when it changes; of several workers "
        "and replicas one scrapes.",
    )
    scrape_self: bool | None = Field(
        None,
        description="Scrape this service's own /metrics every 15 seconds, into the tenant "
        "`default`. Default: true, unless tenancy=header or clients must show certificates.",
    )
    write_max_body_bytes: PositiveInt = Field(
        32 * MEBIBYTE,
        description="Largest remote-write body as sent, compressed; a larger one is refused with "
        "413.",
    )
    write_max_decoded_bytes: PositiveInt = Field(
        32 * MEBIBYTE,
        description="Largest remote-write body after decompression; a larger one is refused with "
        "400.",
    )
    write_max_series: PositiveInt = Field(
        250_000,
        description="Most series and metadata entries of a remote-write request; a request with "
        "more is refused with 400.",
    )
    otlp_translation_strategy: Literal[
        "UnderscoreEscapingWithSuffixes",
        "UnderscoreEscapingWithoutSuffixes",
        "NoUTF8EscapingWithSuffixes",
        "NoTranslation",
    ] = Field(
        "UnderscoreEscapingWithSuffixes",
        description="How names of OpenTelemetry become names of Prometheus, by the words of "
        "Prometheus' otlp.translation_strategy: whether characters such as dots become "
        "underscores, and whether names get their unit and _total.",
    )
    otlp_promote_resource_attributes: Names = Field(
        (),
        description="Resource attributes that become labels of every series, comma-separated "
        "(Prometheus: otlp.promote_resource_attributes).",
    )
    otlp_promote_all_resource_attributes: bool = Field(
        False,
        description="Make labels of all resource attributes (Prometheus: "
        "otlp.promote_all_resource_attributes).",
    )
    otlp_ignore_resource_attributes: Names = Field(
        (),
        description="Resource attributes that do not become labels although all others do "
        "(Prometheus: otlp.ignore_resource_attributes).",
    )
    otlp_keep_identifying_resource_attributes: bool = Field(
        False,
        description="Keep service.name, service.namespace and service.instance.id as labels of "
        "target_info, beside job and instance (Prometheus: "
        "otlp.keep_identifying_resource_attributes).",
    )
    otlp_promote_scope_metadata: bool = Field(
        False,
        description="Make labels of the name, version, schema URL and attributes of scopes "
        "(Prometheus: otlp.promote_scope_metadata).",
    )
    otlp_convert_histograms_to_nhcb: bool = Field(
        False,
        description="Make native histograms with custom buckets of histograms with explicit bounds "
        "(Prometheus: otlp.convert_histograms_to_nhcb).",
    )
    otlp_delta: Literal["refuse", "cumulative"] = Field(
        "refuse",
        description="What happens to sums and histograms of deltas. cumulative: they are added up "
        "in memory, up to 512 MB, which needs one worker and one replica; a restart begins at "
        "zero, as a counter does. refuse: they are reported as rejected.",
    )
    max_exemplars_per_series: PositiveInt = Field(
        1_000, description="Most exemplars of a series that are kept, the newest ones."
    )
    exemplar_retention: DurationMs = Field(15 * DAY_MS, description="How long exemplars are kept.")
