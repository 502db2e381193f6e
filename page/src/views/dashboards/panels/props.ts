/** What every panel gets. */
import type { Mark } from "../../../plot/plot";
import type { Lookup } from "../logic/interpolation";
import type { Panel } from "../logic/types";
import type { PanelData } from "../panel_data";

export interface PanelProps {
  panel: Panel;
  data: PanelData;
  lookup: Lookup;
  /** Unix seconds. */
  range: { start: number; end: number };
  /** Pixels for the content. */
  width: number;
  height: number;
  marks?: Mark[];
  cursorKey?: string;
}
