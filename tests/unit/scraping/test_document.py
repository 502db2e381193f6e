"""Prometheus' scrape configuration is read, and what is wrong in it is named with its line."""

import asyncio
from pathlib import Path

import pytest

from promcompat.__main__ import main
from promcompat.core.errors import BadDataError
from promcompat.core.model import Labels
from promcompat.scraping.configuration import (
    DEFAULT_PROTOCOLS,
    OAuth2Config,
    ScrapeConfig,
    ScrapeProtocol,
    Secret,
    TlsConfig,
)
from promcompat.scraping.delivery import Delivery
from promcompat.scraping.document import read_config_file
from promcompat.scraping.scraper import Scraper, ScraperOptions
from promcompat.telemetry.telemetry import Telemetry
from tests.unit.scraping.test_delivery import Sink

FULL = """\
global:
  scrape_interval: 30s
  sample_limit: 9
  body_size_limit: 1MB
  external_labels: {cluster: eu}
  scrape_protocols: [PrometheusProto, PrometheusText0.0.4]
alerting: {}
rule_files: [a.yml]
scrape_config_files: [more/*.yml]
scrape_configs:
  - job_name: app
    scrape_interval: 5s
    metrics_path: /m
    scheme: https
    params: {x: [a, b]}
    honor_labels: true
    honor_timestamps: false
    sample_limit: 0
    label_limit: 3
    fallback_scrape_protocol: OpenMetricsText1.0.0
    basic_auth: {username: u, password_file: secret}
    tls_config: {ca_file: /ca, insecure_skip_verify: true, min_version: TLS12}
    http_headers: {X-Key: {values: [k], files: [h]}}
    relabel_configs:
      - {source_labels: [a], regex: x, action: keep}
    static_configs:
      - {targets: ["h:1", "h:2"], labels: {a: x}}
    file_sd_configs:
      - {files: ["t/*.json"], refresh_interval: 1m}
    http_sd_configs:
      - url: "http://sd/"
        oauth2:
          {client_id: a, client_secret: b, token_url: "http://t/", scopes: [x, y],
           endpoint_params: {audience: z}, tls_config: {server_name: n}}
  - job_name: plain
"""


def read(folder: Path, text: str) -> ScrapeConfig:
    path = folder / "prometheus.yml"
    path.write_text(text)
    return read_config_file(path)


def test_protobuf_is_asked_for_first_where_native_histograms_are_scraped(tmp_path: Path) -> None:
    text = """
global: {scrape_native_histograms: true}
scrape_configs:
  - {job_name: a, native_histogram_bucket_limit: 9, native_histogram_min_bucket_factor: 1.1}
  - {job_name: b, scrape_native_histograms: false, always_scrape_classic_histograms: true}
  - {job_name: c, scrape_protocols: [PrometheusText0.0.4]}
"""
    first, second, third = read(tmp_path, text).jobs
    assert first.protocols == (ScrapeProtocol.PROTOBUF, *DEFAULT_PROTOCOLS)
    assert (first.histograms.bucket_limit, first.histograms.min_bucket_factor) == (9, 1.1)
    assert second.protocols == DEFAULT_PROTOCOLS
    assert (second.histograms.has_native, second.histograms.keeps_classic) == (False, True)
    assert third.protocols == (ScrapeProtocol.TEXT_0,)


def test_every_part_is_read(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.yml").write_text("scrape_configs: [{job_name: third}]")
    config = read(tmp_path, FULL)
    app, plain, third = config.jobs
    assert config.external_labels == Labels.of({"cluster": "eu"})
    assert config.ignored == ["alerting", "rule_files"]
    assert (app.interval_ms, app.timeout_ms, app.metrics_path) == (5_000, 5_000, "/m")
    assert (app.scheme, app.params) == ("https", {"x": ("a", "b")})
    assert (app.honor_labels, app.honor_timestamps) == (True, False)
    assert (app.limits.samples, app.limits.body_bytes, app.limits.labels) == (0, 1 << 20, 3)
    assert app.protocols == (ScrapeProtocol.PROTOBUF, ScrapeProtocol.TEXT_0)
    assert app.fallback_protocol is ScrapeProtocol.OPEN_METRICS_1
    assert app.http.password.file == tmp_path / "secret"
    assert app.http.tls.ca.file == Path("/ca")
    assert [secret.file for secret in app.http.headers["X-Key"]] == [None, tmp_path / "h"]
    assert [len(group.targets) for group in app.static] == [2]
    assert app.files[0].patterns == (str(tmp_path / "t/*.json"),)
    assert app.files[0].refresh_ms == 60_000
    assert app.urls[0].http.oauth2 == OAuth2Config(
        client_id="a",
        client_secret=Secret(text="b"),
        token_url="http://t/",
        scopes=["x", "y"],
        endpoint_params={"audience": "z"},
        tls=TlsConfig(server_name="n"),
    )
    assert (plain.interval_ms, plain.timeout_ms, plain.limits.samples) == (30_000, 10_000, 9)
    assert third.name == "third"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("scrape_intervall: 5s", "unknown key scrape_intervall in a scrape config; did you mean"),
        ("kubernetes_sd_configs: []", "is not supported; use static_configs, file_sd_configs"),
        ("oauth2: {client_id: a}", "oauth2 needs a URL as token_url"),
        ("oauth2: {token_url: 'http://t/'}", "oauth2 needs the id of a client as client_id"),
        ("oauth2: {client_id: a, token_url: ftp://t}", "the token_url is not http://host/"),
        ("oauth2: {grant_type: x}", "grant_type is not supported; leave it out"),
        ("scrape_interval: 5", "not a valid duration string"),
        ("scrape_timeout: 2m", "scrape timeout greater than scrape interval"),
        ("sample_limit: many", "cannot unmarshal !!str `many` into uint"),
        ("target_limit: -1", "cannot unmarshal !!int `-1` into uint"),
        ("native_histogram_bucket_limit: -1", "cannot unmarshal !!int `-1` into uint"),
        ("relabel_configs: [{action: hashmod, modulus: -1}]", "!!int `-1` into uint64"),
        ("scheme: ftp", "'ftp' is not one of: http, https"),
        ("body_size_limit: 3 apples", "'3 apples' is not a size such as 10MB"),
        ("scrape_protocols: [Json]", "'Json' is not one of: PrometheusProto"),
        (
            "scrape_protocols: [PrometheusText0.0.4, PrometheusText0.0.4]",
            "duplicated protocol PrometheusText0.0.4 in scrape_protocols",
        ),
        ("relabel_configs: [{action: hashmod}]", "requires non-zero modulus"),
        ("static_configs: [{targets: ['http://h/']}]", "is not a valid hostname"),
        ("static_configs: [{target: []}]", "did you mean targets?"),
        ("file_sd_configs: [{files: [a.txt]}]", "is not valid for file discovery"),
        ("oauth2: {client_id: a, token_url: 'http://['}", "the token_url is not http://host/"),
        ("http_sd_configs: [{url: ftp://h}]", "is not http://host"),
        ("http_sd_configs: [{url: 'http://['}]", "is not http://host"),
        ("http_sd_configs: [{url: 'http://h:99999'}]", "is not http://host"),
        ("basic_auth: {username: a, username_file: b}", "at most one of username and username"),
        ("authorization: {type: Basic}", "use basic_auth"),
        ("native_histogram_min_bucket_factor: much", "'much' is not a number"),
        ("tls_config: {min_version: SSL3}", "'SSL3' is not one of"),
        ("metric_name_escaping_scheme: x", "'x' is not one of: allow-utf-8, underscores, dots"),
        ("static_configs: [{targets: [a], labels: {'': x}}]", '"" is not a valid label name'),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    text = f"scrape_configs:\n  - job_name: a\n    {line}\n"
    with pytest.raises(BadDataError) as caught:
        read(tmp_path, text)
    assert reason in str(caught.value)
    assert "line 3: " in str(caught.value)
    assert "prometheus.yml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("scrape_configs: [{job_name: a}, {job_name: a}]", "multiple scrape configs"),
        ("scrape_configs: [{}]", "job_name is empty"),
        ("scrape_config: []", "did you mean scrape_config"),
        ("a: [", "yaml: "),
        ("global: {external_labels: {'': x}}", '"" is not a valid label name'),
        (
            "{global: {metric_name_validation_scheme: legacy}, scrape_configs: "
            "[{job_name: a, metric_name_escaping_scheme: allow-utf-8}]}",
            "validation scheme is not set to UTF8",
        ),
    ],
)
def test_bad_documents_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BadDataError, match=reason):
        read(tmp_path, text)


async def test_changes_of_every_file_of_the_configuration_are_noticed(tmp_path: Path) -> None:
    path, more = tmp_path / "prometheus.yml", tmp_path / "more.yml"
    path.write_text("scrape_config_files: [more*.yml]")
    metrics = Telemetry().scrapes
    scraper = Scraper(ScraperOptions(config_file=path), Delivery(Sink(), metrics), metrics)
    scraper.load()
    for text, fault in (("scrape_configs: [{job: x}]", "did you mean job_name?"), ("{}", "")):
        await asyncio.to_thread(more.write_text, text)
        await scraper.refresh()
        assert fault in scraper.fault
    assert not scraper.fault


@pytest.mark.parametrize("is_relative", [False, True])
async def test_the_jobs_of_a_folder_that_vanishes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    path, folder, now = tmp_path / "prometheus.yml", tmp_path / "mounted", [0.0]
    path.write_text("scrape_config_files: [mounted/*.yml]\nscrape_configs: [{job_name: own}]")
    folder.mkdir()
    (folder / "a.yml").write_text("scrape_configs: [{job_name: a}]")
    metrics = Telemetry().scrapes
    options = ScraperOptions(config_file=Path("prometheus.yml") if is_relative else path)
    scraper = Scraper(options, Delivery(Sink(), metrics), metrics, lambda: now[0])
    scraper.load()
    scraper.start()

    async def jobs() -> list[str]:
        now[0] += 61.0
        await scraper.refresh()
        return sorted(scraper.pools)

    assert await jobs() == ["a", "own"]
    folder.rename(tmp_path / "elsewhere")
    for _ in range(2):
        assert await jobs() == ["a", "own"]
        assert "mounted: No such file or directory; create it" in scraper.fault
    scraper.reload()
    assert await jobs() == ["a", "own"]
    (tmp_path / "elsewhere").rename(folder)
    assert (await jobs(), scraper.fault) == (["a", "own"], "")
    (folder / "a.yml").unlink()
    folder.rmdir()
    assert await jobs() == ["a", "own"]
    folder.mkdir()
    assert (await jobs(), scraper.fault) == (["own"], "")
    (folder / "a.yml").write_text("scrape_configs: [{job_name: a}]")
    assert await jobs() == ["a", "own"]
    (folder / "a.yml").unlink()
    folder.rmdir()
    path.write_text("scrape_configs: [{job_name: own}]")
    assert (await jobs(), scraper.fault) == (["own"], "")
    await scraper.close()


async def test_a_configuration_that_is_being_written_is_not_read_yet(tmp_path: Path) -> None:
    path, text = tmp_path / "prometheus.yml", "scrape_configs: [{job_name: a}]"
    path.write_text(text)
    metrics = Telemetry().scrapes
    scraper = Scraper(ScraperOptions(config_file=path), Delivery(Sink(), metrics), metrics)
    scraper.load()
    scraper.start()
    path.write_text("")
    looking = asyncio.create_task(scraper.refresh())
    await asyncio.sleep(0.2)
    assert not looking.done()
    path.write_text(text.replace("a}", "b}"))
    await looking
    assert list(scraper.pools) == ["a"]
    await scraper.refresh()
    assert list(scraper.pools) == ["b"]
    await scraper.close()


def test_the_command_checks_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prometheus.yml"
    for text, code in (("scrape_configs: [{job_name: x}]", 0), ("scrape_configs: [{job: x}]", 1)):
        path.write_text(text)
        assert main(["scrape", str(path), "--check"]) == code
    output, errors = capsys.readouterr()
    assert output == f"{path} can be used\n"
    assert "line 1: unknown key job in a scrape config; did you mean job_name?" in errors


@pytest.mark.parametrize(
    ("shared", "own", "escaping"),
    [
        ("", "", "allow-utf-8"),
        ("legacy", "", "underscores"),
        ("legacy", "metric_name_validation_scheme: utf8", "underscores"),
        ("", "metric_name_validation_scheme: legacy", "underscores"),
        ("utf8, metric_name_escaping_scheme: dots", "", "dots"),
        ("utf8, metric_name_escaping_scheme: dots", "metric_name_escaping_scheme: ''", "dots"),
        ("legacy", "metric_name_escaping_scheme: values", "values"),
    ],
)
def test_names_are_escaped_as_the_valid_ones_need_it(
    tmp_path: Path, shared: str, own: str, escaping: str
) -> None:
    """Prometheus gives the same, and refuses a job of its own with legacy names without one."""
    text = f"global: {{metric_name_validation_scheme: {shared or 'utf8'}}}\n"
    job = read(tmp_path, text + f"scrape_configs:\n- job_name: a\n  {own}").jobs[0]
    assert job.escaping == escaping
