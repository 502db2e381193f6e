/** What an empty query offers: the metrics that there are, or how to send the first samples. */
import { useEffect, useState } from "preact/hooks";
import { labelValues } from "../../api/prometheus";
import { formatCount } from "../../format/numbers";
import { promqlName } from "../../format/series";
import { hasTenants, session } from "../../session";
import { CopyButton } from "../../ui/copy";
import { ErrorBox, Loading } from "../../ui/states";
import { useRequest } from "../../use_request";

const MOST_NAMES = 60;
const LOOK_AGAIN_MS = 3000;

export function Start({ onPick }: { onPick: (expression: string) => void }) {
  const { data: names, error, reload } = useRequest((signal) => labelValues("__name__", [], signal), []);
  const [filter, setFilter] = useState("");
  const isEmpty = names?.length === 0;
  useEffect(() => {
    if (!isEmpty) return;
    const timer = window.setInterval(reload, LOOK_AGAIN_MS);
    return () => window.clearInterval(timer);
  }, [isEmpty]);
  if (error) return <ErrorBox error={error} />;
  if (!names) return <Loading what="Looking for metrics" />;
  if (!names.length) return <FirstSamples />;
  const found = names.filter((name) => name.toLowerCase().includes(filter.toLowerCase()));
  return (
    <div class="start">
      <p>
        {formatCount(names.length)} {names.length === 1 ? "metric is" : "metrics are"} stored. Write an
        expression, or start with one of them:
      </p>
      <input
        aria-label="Find a metric"
        placeholder="Find a metric"
        value={filter}
        onInput={(event) => setFilter(event.currentTarget.value)}
      />
      <ul class="metric-names">
        {found.slice(0, MOST_NAMES).map((name) => (
          <li key={name}>
            <button type="button" class="quiet mono" onClick={() => onPick(expressionOf(name, names))}>
              {name}
            </button>
          </li>
        ))}
      </ul>
      {found.length > MOST_NAMES && <p class="hint">and {formatCount(found.length - MOST_NAMES)} more</p>}
    </div>
  );
}

/** What is worth drawing of a metric, by the conventions of names. */
function expressionOf(name: string, names: readonly string[]): string {
  const metric = promqlName(name) === name ? name : `{${promqlName(name)}}`;
  if (name.endsWith("_bucket")) return `sum by (le) (rate(${metric}[5m]))`;
  const isCounter =
    name.endsWith("_total") || (/_(count|sum)$/.test(name) && names.includes(name.replace(/_(count|sum)$/, "_bucket")));
  return isCounter ? `rate(${metric}[5m])` : metric;
}

function FirstSamples() {
  const base = new URL(".", window.location.href).href.replace(/\/$/, "");
  const tenant = hasTenants ? `\n    headers: {X-Scope-OrgID: ${session.value.tenant || "TENANT"}}` : "";
  const prometheus = `remote_write:\n  - url: ${base}/api/v1/write${tenant}`;
  const header = hasTenants ? ` -H 'X-Scope-OrgID: ${session.value.tenant || "TENANT"}'` : "";
  const curl = `curl ${base}/api/v1/import/prometheus${header} -d 'queue_length{queue="mail"} 42'`;
  return (
    <div class="start">
      <h2>Nothing is stored yet</h2>
      <p>This page shows the metrics as soon as the first samples come.</p>
      {(
        [
          ["Prometheus and vmagent", prometheus],
          ["OpenTelemetry, over HTTP", `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=${base}/api/v1/otlp/v1/metrics`],
          ["A first sample by hand", curl],
        ] as const
      ).map(([name, text]) => (
        <section key={name}>
          <h3>{name}</h3>
          <pre>{text}</pre>
          <CopyButton text={text} />
        </section>
      ))}
    </div>
  );
}
