/** Alerts: what fires and why, what is silenced, and the rules behind it. */
import { navigate, place } from "../../router";
import { useTimeSettings } from "../../time/use_settings";
import { Tabs } from "../../ui/tabs";
import { AlertDetail } from "./alert_detail";
import { AlertList } from "./alert_list";
import { RuleList } from "./rule_list";
import { RulePage } from "./rule_page";
import { SilenceList } from "./silences";
import "./alerts.css";

const TABS = [
  { id: "alerts", name: "Alerts" },
  { id: "silences", name: "Silences" },
  { id: "rules", name: "Rules" },
];

export default function Alerts() {
  useTimeSettings({ from: "now-24h", to: "now", refresh: "" });
  const { path, query } = place.value;
  const tab = path === "rules" ? "rules" : query.get("tab") === "silences" ? "silences" : "alerts";
  const select = (next: string) => {
    if (next === "rules") navigate("rules");
    else navigate("alerts", { tab: next === "silences" ? next : null });
  };
  return (
    <div class="stack">
      <h1>Alerts</h1>
      <Tabs label="Parts of alerting" tabs={TABS} selected={tab} onSelect={select}>
        {tab === "alerts" && <AlertsTab id={query.get("alert")} />}
        {tab === "silences" && <SilenceList />}
        {tab === "rules" && <RulesTab id={query.get("rule")} />}
      </Tabs>
    </div>
  );
}

function AlertsTab({ id }: { id: string | null }) {
  return id ? <AlertDetail key={id} id={id} /> : <AlertList />;
}

function RulesTab({ id }: { id: string | null }) {
  return id ? <RulePage key={id} id={id} /> : <RuleList />;
}
