/** The limits of the tenant, how much of them is used, and what refused something. */
import { sendForJson } from "../../api/transport";
import { formatCount, formatValue } from "../../format/numbers";
import { hasTenants } from "../../session";
import { Badge, ErrorBox, Loading } from "../../ui/states";
import { Table } from "../../ui/table";
import { useRequest } from "../../use_request";
import { principal } from "../../who";
import { readUsage } from "./overview";

interface Limit {
  name: string;
  value: number | string;
  source: string;
  default: number | string;
  unit: string;
  bounds: string;
  setting: string;
}

const NEAR = 0.8;

/** Whether a limit bounds nothing: 0, or a duration of 0. */
function isOff({ value }: Limit): boolean {
  return value === 0 || value === "0s";
}

export function Limits() {
  const { data, error } = useRequest(
    async (signal) => {
      const [usage, limits] = await Promise.all([
        readUsage(signal),
        sendForJson<{ limits: Limit[] }>("api/v1/limits", { signal }),
      ]);
      return { limits: limits.limits, used: new Map(usage.limits.map((one) => [one.name, one])) };
    },
    [],
  );
  if (error) return <ErrorBox error={error} title="The limits could not be read." />;
  if (!data) return <Loading />;
  return (
    <div class="stack">
      <p>
        {hasTenants ? (
          <>
            Limits of the tenant <strong>{principal.value?.tenant ?? "of this session"}</strong>.
          </>
        ) : (
          "This service has one tenant, default."
        )}{" "}
        <span class="hint">
          An override counts before the file of limits, and that before the setting. <code>promcompat limits set</code>{" "}
          changes them.
        </span>
      </p>
      <Table
        label="Limits"
        rows={data.limits}
        keyOf={({ name }) => name}
        columns={[
          {
            name: "Limit",
            value: ({ name }) => name,
            show: ({ name, bounds }) => (
              <>
                <span class="mono">{name}</span>
                <div class="hint">{bounds}</div>
              </>
            ),
          },
          {
            name: "Value",
            value: (limit) => (isOff(limit) ? null : typeof limit.value === "number" ? limit.value : null),
            show: (limit) => (isOff(limit) ? <span class="hint">none</span> : shown(limit)),
            isNumber: true,
          },
          {
            name: "Used",
            value: ({ name }) => data.used.get(name)?.share,
            show: ({ name }) => {
              const used = data.used.get(name);
              if (!used) return "";
              if (used.share === null) return formatCount(used.used);
              return (
                <Badge tone={used.share >= 1 ? "critical" : used.share >= NEAR ? "warning" : "good"}>
                  {formatCount(used.used)} ({formatValue(used.share, "percentunit", 0)})
                </Badge>
              );
            },
            isNumber: true,
          },
          {
            name: "From",
            value: ({ source }) => source,
            show: ({ source, setting }) => (source === "setting" ? <code>{setting}</code> : <Badge>{source}</Badge>),
          },
        ]}
      />
    </div>
  );
}

function shown({ value, unit }: Limit): string {
  if (typeof value === "string") return value;
  return unit === "bytes" ? formatValue(value, "bytes") : `${formatCount(value)} ${unit === "–" ? "" : unit}`;
}
