/** The settings of the service, without secrets, and what runs. */
import { call } from "../../api/prometheus";
import { formatTime } from "../../format/times";
import { place, setQuery } from "../../router";
import { Empty, ErrorBox, Loading } from "../../ui/states";
import { Table } from "../../ui/table";
import { useRequest } from "../../use_request";

interface Runtime {
  startTime: string;
  serverTime: string;
  hostname: string;
  database: string;
  CWD: string;
}

export function Settings() {
  const { data, error } = useRequest(
    async (signal) => {
      const [flags, runtime, build] = await Promise.all([
        call<Record<string, string>>("status/flags", { signal }),
        call<Runtime>("status/runtimeinfo", { signal }),
        call<Record<string, string>>("status/buildinfo", { signal }),
      ]);
      return { flags: Object.entries(flags.data), runtime: runtime.data, build: build.data };
    },
    [],
  );
  const search = place.value.query.get("search") ?? "";
  if (error) return <ErrorBox error={error} title="The settings could not be read." />;
  if (!data) return <Loading />;
  const { runtime, build } = data;
  const rows = data.flags.filter((pair) => pair.join(" ").toLowerCase().includes(search.toLowerCase()));
  const about: [string, string][] = [
    ["Version", build.revision ?? ""],
    ["Speaks as Prometheus", build.version ?? ""],
    ["Python", (build.goVersion ?? "").replace(/^python/, "")],
    ["Database", runtime.database],
    ["Machine", runtime.hostname],
    ["Folder", runtime.CWD],
    ["Started", formatTime(Date.parse(runtime.startTime) / 1000)],
    ["Time of the server", formatTime(Date.parse(runtime.serverTime) / 1000)],
  ];
  return (
    <div class="stack">
      <dl class="facts">
        {about.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <label>
        Search in the settings
        <input
          type="search"
          value={search}
          onInput={(event) => setQuery({ search: event.currentTarget.value }, { replace: true })}
        />
      </label>
      {rows.length > 0 ? (
        <Table
          label="Settings"
          rows={rows}
          keyOf={([name]) => name}
          pageLength={200}
          columns={[
            { name: "Setting", value: ([name]) => name, show: ([name]) => <span class="mono">{name}</span> },
            { name: "Value", value: ([, value]) => value, show: ([, value]) => <span class="mono">{value || "–"}</span> },
          ]}
        />
      ) : (
        <Empty title="No setting matches." />
      )}
    </div>
  );
}
