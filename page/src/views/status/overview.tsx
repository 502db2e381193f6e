/** Figures about what is stored, plots of what the service measures of itself, and its health. */
import type { ComponentChildren } from "preact";
import { native } from "../../api/native";
import { call, query } from "../../api/prometheus";
import { sendForJson } from "../../api/transport";
import { FirstStart, MOST_PAIRS } from "../../catalogue/first_start";
import { hasOtherThanOwn, seriesStatistics } from "../../catalogue/catalogue";
import { formatSeconds } from "../../format/durations";
import { formatCount, formatValue } from "../../format/numbers";
import { hrefOf } from "../../router";
import { range, reload } from "../../time/range";
import { Badge, ErrorBox, Loading } from "../../ui/states";
import { useRequest } from "../../use_request";
import { Health } from "./health";
import { OWN, OwnPlot } from "./own_plot";

export interface Usage {
  series: number;
  samples: number;
  samples_per_day: number;
  bytes: number;
  first_day: string | null;
  last_day: string | null;
  top_metrics: { metric: string; series: number }[];
  limits: { name: string; used: number; limit: number; share: number | null }[];
}

export const readUsage = (signal: AbortSignal) => sendForJson<Usage>("api/v1/usage", { signal });

export function Overview() {
  return (
    <div class="stack">
      <Stored />
      <Own />
      <Health />
    </div>
  );
}

function Tile({ name, children, note }: { name: string; children: ComponentChildren; note?: ComponentChildren }) {
  return (
    <div class="tile">
      <dt>{name}</dt>
      <dd>{children}</dd>
      {note && <dd class="hint">{note}</dd>}
    </div>
  );
}

/** Of the tenant: what is stored, how much that is, and for how long it is kept. */
function Stored() {
  const { end } = range.value;
  const { data, error } = useRequest(
    async (signal) => {
      const [usage, retention, statistics, up, all] = await Promise.all([
        readUsage(signal),
        native.get<{ retention_days: number | null; service_retention_days: number }>("/retention", { signal }),
        seriesStatistics(MOST_PAIRS, signal),
        query("sum(up) or vector(0)", end, signal),
        query("count(up) or vector(0)", end, signal),
      ]);
      return { usage, retention, statistics, up: scalarOf(up.data), all: scalarOf(all.data) };
    },
    [end],
  );
  if (error) return <ErrorBox error={error} title="What is stored could not be read." />;
  if (!data) return <Loading />;
  const { usage, retention, up, all } = data;
  const perSample = usage.samples > 0 ? usage.bytes / usage.samples : 0;
  const days = retention.retention_days ?? retention.service_retention_days;
  return (
    <>
      {!hasOtherThanOwn(data.statistics) && <FirstStart onArrival={reload} />}
      <section aria-label="Stored">
        <dl class="tiles">
          <Tile name="Series" note={<a href={hrefOf("metrics-explorer", { tab: "cardinality" })}>cardinality</a>}>
            {formatCount(usage.series)}
          </Tile>
          <Tile name="Samples" note={usage.first_day ? `since ${usage.first_day}` : "none yet"}>
            {formatValue(usage.samples)}
          </Tile>
          <Tile name="On disk" note={perSample > 0 && `${formatValue(perSample, "none", 1)} bytes per sample`}>
            {formatValue(usage.bytes, "bytes")}
          </Tile>
          <Tile
            name="Disk per day"
            note={usage.samples_per_day > 0 ? `${formatValue(usage.samples_per_day)} samples per day` : "known after a whole day"}
          >
            {usage.samples_per_day > 0 ? formatValue(perSample * usage.samples_per_day, "bytes") : "–"}
          </Tile>
          <Tile name="Retention" note={retention.retention_days === null ? "of the service" : "of this tenant"}>
            {days ? `${formatCount(days)} days` : "forever"}
          </Tile>
          <Tile name="Targets" note={<a href={hrefOf("status", { tab: "targets" })}>targets</a>}>
            <Badge tone={up === all ? "good" : "critical"}>
              {up} of {all} up
            </Badge>
          </Tile>
        </dl>
      </section>
    </>
  );
}

function scalarOf(data: Awaited<ReturnType<typeof query>>["data"]): number {
  return data.resultType === "vector" ? Number(data.result[0]?.value?.[1] ?? 0) : 0;
}

/** Plots of the service's own metrics, where it scrapes them into this tenant. */
function Own() {
  const { end } = range.value;
  const { data } = useRequest(
    async (signal) => {
      const [found, build] = await Promise.all([
        query(`max(time() - process_start_time_seconds{${OWN}})`, end, signal),
        call<{ revision: string }>("status/buildinfo", { signal }),
      ]);
      const uptime = found.data.resultType === "vector" ? found.data.result[0]?.value?.[1] : undefined;
      return { uptime, revision: build.data.revision };
    },
    [end],
  );
  if (!data) return null;
  if (data.uptime === undefined) {
    return (
      <p class="hint">
        {data.revision}. The service does not scrape its own metrics into this tenant in this time range, so there are no plots of them
        here; <code>PROMCOMPAT_SCRAPE_SELF</code> says whether it does, and <code>/metrics</code> has them.
      </p>
    );
  }
  return (
    <section aria-label="The service" class="stack">
      <h2>
        The service <span class="hint">{data.revision}, up for {formatSeconds(Number(data.uptime))}</span>
      </h2>
      <div class="own-plots">
        <OwnPlot name="Samples stored" expression="sum(rate(promcompat_storage_rows_committed_total{$own}[$window]))" unit="cps" />
        <OwnPlot
          name="Requests"
          expression={'sum by (code) (rate(promcompat_http_request_duration_seconds_count{$own}[$window]))'}
          unit="reqps"
          stacked
        />
        <OwnPlot
          name="Time of requests, 95 %"
          expression="histogram_quantile(0.95, sum by (le) (rate(promcompat_http_request_duration_seconds_bucket{$own}[$window])))"
          unit="s"
        />
        <OwnPlot name="Samples read by queries" expression="sum(rate(promcompat_query_samples_total{$own}[$window]))" unit="cps" />
        <OwnPlot name="Head: samples in memory" expression="max(promcompat_head_samples{$own})" unit="short" />
        <OwnPlot name="Lag of the head" expression="max(promcompat_head_lag_seconds{$own})" unit="s" />
        <OwnPlot name="Not drained into blocks yet" expression="max(promcompat_storage_undrained_bytes{$own})" unit="bytes" />
        <OwnPlot name="Samples drained into blocks" expression="sum(rate(promcompat_blocks_samples_drained_total{$own}[$window]))" unit="cps" />
        <OwnPlot
          name="Refused samples"
          expression={'sum by (reason) (rate(promcompat_discarded_samples_total{$own}[$window])) or sum(rate(promcompat_storage_rows_rejected_total{$own}[$window]))'}
          unit="cps"
        />
        <OwnPlot name="Memory" expression="sum(process_resident_memory_bytes{$own})" unit="bytes" />
        <OwnPlot name="CPU" expression="sum(rate(process_cpu_seconds_total{$own}[$window]))" unit="none" />
        <OwnPlot name="Alerts" expression={"sum by (state) (promcompat_alerts{$own})"} unit="short" />
      </div>
    </section>
  );
}
