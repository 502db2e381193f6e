/** The time range of the page, its refresh, and the buttons that move it. */
import { useRef, useState } from "preact/hooks";
import { formatTime } from "../format/times";
import { zone } from "./zone";
import { parseTime } from "./relative";
import { askAgain, defaultRange, from, range, refresh, setRange, setRefresh, shift, to, zoomOut } from "./range";

const QUICK: [string, string, string][] = [
  ["Last 5 minutes", "now-5m", "now"],
  ["Last 15 minutes", "now-15m", "now"],
  ["Last 30 minutes", "now-30m", "now"],
  ["Last hour", "now-1h", "now"],
  ["Last 3 hours", "now-3h", "now"],
  ["Last 6 hours", "now-6h", "now"],
  ["Last 12 hours", "now-12h", "now"],
  ["Last 24 hours", "now-24h", "now"],
  ["Last 2 days", "now-2d", "now"],
  ["Last 7 days", "now-7d", "now"],
  ["Last 30 days", "now-30d", "now"],
  ["Last 90 days", "now-90d", "now"],
  ["Last year", "now-1y", "now"],
  ["Today", "now/d", "now/d"],
  ["Yesterday", "now-1d/d", "now-1d/d"],
  ["This week", "now/w", "now/w"],
  ["This month", "now/M", "now/M"],
];
const REFRESHES = ["5s", "10s", "30s", "1m", "5m", "15m", "30m", "1h"];

/** A range in words: a quick one by its name, else its two ends. */
export function rangeName(fromText: string, toText: string): string {
  const quick = QUICK.find(([, start, end]) => start === fromText && end === toText);
  if (quick) return quick[0];
  return `${shownTime(fromText)} – ${shownTime(toText)}`;
}

function shownTime(text: string): string {
  return /^\d+$/.test(text) ? formatTime(Number(text) / 1000) : text;
}

export function TimePicker() {
  const details = useRef<HTMLDetailsElement>(null);
  if (defaultRange.value.hidesPicker) return null;
  const refreshes = ["", ...(defaultRange.value.refreshChoices ?? REFRESHES)];
  const close = () => {
    if (details.current) details.current.open = false;
  };
  const pick = (start: string, end: string) => {
    setRange(start, end);
    close();
  };
  return (
    <div class="time-picker" role="group" aria-label="Time range">
      <button type="button" class="icon" aria-label="Earlier" onClick={() => shift(-1)}>
        ‹
      </button>
      <details ref={details} class="menu">
        <summary>
          {rangeName(from.value, to.value)}
          {zone.value && <span class="hint"> {zone.value}</span>}
        </summary>
        <div class="menu-box time-menu">
          <CustomRange onPick={pick} />
          <div class="quick-ranges">
            {QUICK.map(([name, start, end]) => (
              <button
                type="button"
                class="quiet"
                key={name}
                aria-current={from.value === start && to.value === end}
                onClick={() => pick(start, end)}
              >
                {name}
              </button>
            ))}
          </div>
        </div>
      </details>
      <button type="button" class="icon" aria-label="Later" onClick={() => shift(1)}>
        ›
      </button>
      <button type="button" class="icon" aria-label="Zoom out" onClick={zoomOut}>
        −
      </button>
      <button type="button" class="icon" aria-label="Ask again now" onClick={askAgain}>
        ↻
      </button>
      <select
        aria-label="Refresh"
        value={refresh.value}
        onChange={(event) => setRefresh(event.currentTarget.value)}
      >
        {(refreshes.includes(refresh.value) ? refreshes : [...refreshes, refresh.value]).map((every) => (
          <option key={every} value={every}>
            {every ? `every ${every}` : "no refresh"}
          </option>
        ))}
      </select>
    </div>
  );
}

function CustomRange({ onPick }: { onPick: (from: string, to: string) => void }) {
  const [error, setError] = useState("");
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const [start, end] = [String(data.get("from")), String(data.get("to"))];
    try {
      const now = Date.now();
      if (parseTime(start, now) >= parseTime(end, now, true)) {
        throw new RangeError("The range must start before it ends.");
      }
      setError("");
      onPick(storable(start, now), storable(end, now));
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
  };
  return (
    <form class="custom-range" onSubmit={submit} key={`${from.value} ${to.value}`}>
      <label>
        From
        <input name="from" defaultValue={shownTime(from.value)} spellcheck={false} />
      </label>
      <label>
        To
        <input name="to" defaultValue={shownTime(to.value)} spellcheck={false} />
      </label>
      {error && <p role="alert">{error}</p>}
      <button type="submit">Apply</button>
      <p class="hint">
        {formatTime(range.value.start)} – {formatTime(range.value.end)} {zone.value}
      </p>
    </form>
  );
}

/** Relative texts stay as they are; times become milliseconds, which every zone reads alike. */
function storable(text: string, now: number): string {
  return text.trim().startsWith("now") ? text.replace(/\s/g, "") : String(parseTime(text, now));
}
