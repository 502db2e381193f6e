/** The time range, the refresh and the zone of a view, where the address names none. */
import { useEffect, useMemo, useRef } from "preact/hooks";
import { defaultRange, type TimeSettings, USUAL_SETTINGS } from "./range";
import { setZone } from "./zone";

/** They hold from the first time that the view is drawn, as what it asks then is for its own range. */
export function useTimeSettings(settings: TimeSettings, timezone?: string): void {
  const own = useRef(settings);
  useMemo(() => {
    own.current = settings;
    defaultRange.value = settings;
    setZone(timezone);
  }, [JSON.stringify([settings, timezone])]);
  useEffect(
    () => () => {
      // The next view may have put its own in place already.
      if (defaultRange.peek() !== own.current) return;
      defaultRange.value = USUAL_SETTINGS;
      setZone();
    },
    [],
  );
}
