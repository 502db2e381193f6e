/** Status: how the service is, what it stores, what it is asked, and how it is set up. */
import { place, setQuery } from "../../router";
import { Tabs } from "../../ui/tabs";
import { Limits } from "./limits";
import { Overview } from "./overview";
import { Queries } from "./queries";
import { Settings } from "./settings";
import "./status.css";
import { Targets } from "./targets";

const TABS = [
  { id: "overview", name: "Overview", Component: Overview },
  { id: "targets", name: "Targets", Component: Targets },
  { id: "queries", name: "Queries", Component: Queries },
  { id: "limits", name: "Limits", Component: Limits },
  { id: "settings", name: "Settings", Component: Settings },
];

export default function Status() {
  const asked = place.value.query.get("tab");
  const tab = TABS.find(({ id }) => id === asked) ?? TABS[0];
  return (
    <div class="stack">
      <h1>Status</h1>
      <Tabs
        label="Status"
        tabs={TABS}
        selected={tab?.id ?? ""}
        onSelect={(id) => setQuery({ tab: id === "overview" ? null : id, search: null })}
      >
        {tab && <tab.Component />}
      </Tabs>
    </div>
  );
}
