/** Where the axis of a plot begins and ends. */
import uPlot from "uplot";

export interface RangeProps {
  stacked?: boolean;
  logarithmic?: boolean;
  /** Where it begins, with values above that. */
  min?: number;
  thresholds?: readonly { value: number }[];
}

/** The ends of the axis of values from `low` to `high`, which are null if there are none. */
export function yRange(props: RangeProps, low: number | null, high: number | null): uPlot.Range.MinMax {
  const limits = (props.thresholds ?? []).map(({ value }) => value);
  let bottom = Math.min(low ?? 0, ...(low === null ? limits : []));
  let top = Math.max(high ?? 1, ...(low === null ? limits : []));
  if (props.logarithmic) {
    return uPlot.rangeLog(bottom > 0 ? bottom : 1e-3, top > 0 ? top : 1, 10, true);
  }
  // A threshold that is near the values is worth some of the height.
  for (const value of limits) {
    const room = Math.max(top - bottom, Math.abs(top) * 0.5, 1e-9);
    if (value > top && value - top < room) top = value;
    if (value < bottom && bottom - value < room) bottom = value;
  }
  if (props.stacked || (bottom > 0 && bottom < top * 0.3)) bottom = Math.min(bottom, 0);
  const pad = (top - Math.min(bottom, props.min ?? bottom)) * 0.08 || Math.abs(top) * 0.1 || 1;
  // Zero stays the end of an axis on whose one side everything is.
  const least = bottom >= 0 ? Math.max(bottom - pad, 0) : bottom - pad;
  const most = top <= 0 ? Math.min(top + pad, 0) : top + pad;
  return [props.min ?? least, Math.max(most, least + pad)];
}
