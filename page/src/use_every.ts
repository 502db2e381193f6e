/** What a view does again and again while it is shown. */
import { useEffect, useRef } from "preact/hooks";
import { refreshMs } from "./time/range";

/**
 * Call `act` as often as the page is to be refreshed, or else every `usualMs`; a hidden page waits, and
 * catches up when it is shown.
 */
export function useEvery(usualMs: number, act: () => void): void {
  const everyMs = refreshMs.value || usualMs;
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    let lastAt = Date.now();
    const run = () => {
      if (document.hidden) return;
      lastAt = Date.now();
      latest.current();
    };
    const onShown = () => Date.now() - lastAt >= everyMs && run();
    const timer = window.setInterval(run, everyMs);
    document.addEventListener("visibilitychange", onShown);
    return () => {
      window.clearInterval(timer);
      document.removeEventListener("visibilitychange", onShown);
    };
  }, [everyMs]);
}
