"""The settings of alerting: rules, alerts, and who is notified."""

from pathlib import Path

from pydantic import Field, PositiveInt, SecretStr, field_validator
from pydantic_settings import BaseSettings

from promcompat.configuration.types import (
    DAY_MS,
    DurationMs,
    LabelList,
    Names,
    PublicUrl,
    Urls,
    check_urls,
    parse_labels,
    split_list,
)
from promcompat.core.model import Labels


class AlertingSettings(BaseSettings):
    """Rules and dashboards in files, and how alerts are sent and kept."""

    alerting: bool = Field(
        True,
        description="Evaluate alert rules, watch thresholds and notify. Off: rules are only "
        "stored.",
    )
    external_url: PublicUrl = Field(
        "",
        description="URL under which people reach this service; notifications link to it "
        "(Prometheus: --web.external-url). Default: the listen address, with the name of the "
        "machine if it listens on every interface.",
    )
    alertmanager_urls: Urls = Field(
        "", description="Addresses of the Alertmanagers that alerts are sent to, comma-separated."
    )
    external_labels: LabelList = Field(
        "",
        description="Labels that alerts get when they are sent to Alertmanagers, unless they have "
        "them, as name=value,name=value (Prometheus: external_labels). Templates see them too.",
    )
    alert_relabel_file: Path | None = Field(
        None,
        description="File with a YAML list of relabelling rules for alerts on their way to "
        "Alertmanagers (Prometheus: alert_relabel_configs).",
    )
    rule_files: Names = Field(
        (),
        description="Rule files of Prometheus, as comma-separated patterns such as "
        "/etc/rules/*.yml. They are loaded at start and whenever they change; their rules belong "
        "to the tenant `default`.",
    )
    rules_for_grace_period: DurationMs = Field(
        600_000,
        description="How long an alert that was pending before an outage of this service waits "
        "after it at least, unless its `for` is shorter "
        "(Prometheus: --rules.alert.for-grace-period).",
    )
    rules_for_outage_tolerance: DurationMs = Field(
        3_600_000,
        description="After a longer outage, `for` of pending alerts begins anew "
        "(Prometheus: --rules.alert.for-outage-tolerance).",
    )
    dashboard_folder: Path | None = Field(
        None,
        description="Folder with dashboards as JSON files, of promcompat or of Grafana, also in "
        "folders below it. They are loaded at start and whenever they change; they belong to the "
        "tenant `default`, and are not changed by the API.",
    )
    webhook_urls: SecretStr | None = Field(
        None, description="Addresses of the webhooks that alerts are sent to, comma-separated."
    )
    alert_max_sample_age: DurationMs = Field(
        3_600_000,
        description="How old a sample may be to raise the alert of a threshold; older ones, such "
        "as those of a backfill, raise none. 0: any age. PromQL rules only look at the present.",
    )
    alert_retention: DurationMs = Field(
        365 * DAY_MS, description="How long ended alerts and their history are kept."
    )
    threshold_expiry: DurationMs = Field(
        DAY_MS,
        description="Time without a sample after which the alert of a threshold ends. 0: never.",
    )
    notification_retry: DurationMs = Field(
        DAY_MS, description="How long a notification that a webhook does not accept is sent again."
    )
    max_waiting_notifications: PositiveInt = Field(
        10_000,
        description="Notifications that may wait for one webhook; beyond that, the oldest of the "
        "tenants with most of them are dropped.",
    )

    @field_validator("webhook_urls")
    @classmethod
    def _check_webhook_urls(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_urls(value.get_secret_value())
        return value

    @property
    def alertmanager_url_list(self) -> tuple[str, ...]:
        """The addresses of Alertmanagers."""
        return split_list(self.alertmanager_urls)

    @property
    def webhook_url_list(self) -> tuple[str, ...]:
        """The addresses of webhooks."""
        return () if self.webhook_urls is None else split_list(self.webhook_urls.get_secret_value())

    @property
    def external_label_set(self) -> Labels:
        """The labels of alerts that are sent."""
        return parse_labels(self.external_labels)
