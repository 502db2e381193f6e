/** The time range of a view that looks further back than an hour. */
import { useEffect, useState } from "preact/hooks";
import { defaultRange } from "../../time/range";

/** The range of this view where the address names none. */
export function useDefaultRange(from: string): void {
  const [before] = useState(() => {
    const known = defaultRange.peek();
    defaultRange.value = { ...known, from, to: "now" };
    return known;
  });
  useEffect(
    () => () => {
      defaultRange.value = before;
    },
    [before],
  );
}
