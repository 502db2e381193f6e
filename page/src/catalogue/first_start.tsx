/** What to do while nothing is measured yet: the settings of senders, with this server's address. */
import { useEffect, useState } from "preact/hooks";
import { hasTenants, session, usesTokens } from "../session";
import { CopyButton } from "../ui/copy";
import { Tabs } from "../ui/tabs";
import { useRequest } from "../use_request";
import "./catalogue.css";
import { hasOtherThanOwn, seriesStatistics } from "./catalogue";

interface Recipe {
  id: string;
  name: string;
  where: string;
  text: string;
}

/** The address of the service, as the browser reaches it, without a slash at its end. */
export function serviceAddress(): string {
  return new URL(".", window.location.href).href.replace(/\/$/, "");
}

const AGAIN_MS = 2000;
/** Enough pairs of labels and values to find the job of the service among them. */
export const MOST_PAIRS = 1000;
const TOKEN_FILE = "/etc/promcompat-token";

function recipes(): Recipe[] {
  const base = serviceAddress();
  const tenant = hasTenants ? session.value.tenant || "TENANT" : "";
  const lines = (...found: (string | false)[]) => found.filter((line) => line !== false).join("\n");
  const curlHeaders = lines(
    usesTokens && '  -H "Authorization: Bearer $TOKEN" \\',
    tenant !== "" && `  -H 'X-Scope-OrgID: ${tenant}' \\`,
  );
  return [
    {
      id: "prometheus",
      name: "Prometheus",
      where: "Add to prometheus.yml, and reload Prometheus:",
      text: lines(
        "remote_write:",
        `  - url: ${base}/api/v1/write`,
        usesTokens && `    authorization: {credentials_file: ${TOKEN_FILE}}`,
        tenant !== "" && `    headers: {X-Scope-OrgID: ${tenant}}`,
      ),
    },
    {
      id: "scrape",
      name: "No agent",
      where: "promcompat scrapes by itself. Write prometheus.yml, and start the service with it:",
      text: lines(
        "# prometheus.yml",
        "scrape_configs:",
        "  - job_name: node",
        "    static_configs: [{targets: ['localhost:9100']}]",
        "",
        "# shell",
        "PROMCOMPAT_SCRAPE_CONFIG=prometheus.yml promcompat serve",
      ),
    },
    {
      id: "vmagent",
      name: "vmagent",
      where: "Start vmagent with these options:",
      text: lines(
        "vmagent -promscrape.config=prometheus.yml \\",
        usesTokens && `  -remoteWrite.bearerTokenFile=${TOKEN_FILE} \\`,
        tenant !== "" && `  -remoteWrite.headers='X-Scope-OrgID: ${tenant}' \\`,
        `  -remoteWrite.url=${base}/api/v1/write`,
      ),
    },
    {
      id: "otel",
      name: "OpenTelemetry Collector",
      where: "Add the exporter to the configuration of the Collector, and to its pipelines of metrics:",
      text: lines(
        "exporters:",
        "  otlphttp/promcompat:",
        `    endpoint: ${base}/otlp`,
        (usesTokens || tenant !== "") && "    headers:",
        usesTokens && "      Authorization: Bearer ${env:PROMCOMPAT_TOKEN}",
        tenant !== "" && `      X-Scope-OrgID: ${tenant}`,
        "service:",
        "  pipelines:",
        "    metrics:",
        "      exporters: [otlphttp/promcompat]",
      ),
    },
    {
      id: "curl",
      name: "curl",
      where: "Send one sample from a shell:",
      text: lines(
        `curl ${base}${base.endsWith("/prometheus") ? "/.." : ""}/api/v1/metrics/ingest \\`,
        curlHeaders !== "" && curlHeaders,
        "  -H 'Content-Type: application/json' \\",
        `  -d '{"name": "queue_length", "value": 42, "labels": {"queue": "mail"}}'`,
      ),
    },
  ];
}

/** `onArrival` is called once there are samples of others than the service itself. */
export function FirstStart({ onArrival }: { onArrival: () => void }) {
  const { data, error, isLoading, reload } = useRequest((signal) => seriesStatistics(MOST_PAIRS, signal), []);
  useEffect(() => {
    if (isLoading) return;
    if (data && hasOtherThanOwn(data)) return onArrival();
    const timer = window.setInterval(() => document.hidden || reload(), AGAIN_MS);
    return () => window.clearInterval(timer);
  }, [data, isLoading]);
  const all = recipes();
  const [selected, setSelected] = useState("prometheus");
  const shown = all.find(({ id }) => id === selected) ?? all[0];
  return (
    <section class="card first-start" aria-label="How to send the first samples">
      <h2>No data of yours yet</h2>
      <p>
        Send samples by any of these, and this page turns into the picture of what is measured as soon as the
        first one arrives.
      </p>
      <Tabs label="Senders" tabs={all} selected={selected} onSelect={setSelected}>
        {shown && (
          <>
            <p>{shown.where}</p>
            <pre tabIndex={0} aria-label={`Settings for ${shown.name}`}>
              {shown.text}
            </pre>
            <CopyButton text={shown.text} />
          </>
        )}
      </Tabs>
      {usesTokens && (
        <p class="hint">
          Senders need a token with the role <code>write</code>. Whoever operates the service makes it:{" "}
          <code>promcompat token create prometheus-1 --role write</code>
        </p>
      )}
      {hasTenants && (
        <p class="hint">
          <code>X-Scope-OrgID</code> names the tenant; the first write of a new one makes it.
        </p>
      )}
      <p class="hint" role="status">
        {error ? error.message : "Waiting for the first sample…"}
      </p>
    </section>
  );
}
