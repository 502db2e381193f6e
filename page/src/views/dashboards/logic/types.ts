/** The document of a dashboard (docs/dashboards.md, `Dashboard` in /openapi.json), and data for it. */

export interface Color {
  mode: string;
  fixed?: string;
  series_by?: "last" | "min" | "max";
}
export interface ThresholdStep {
  value?: number | null;
  color: string;
}
export interface Thresholds {
  mode?: "absolute" | "percentage";
  steps: ThresholdStep[];
}
export interface Mapping {
  kind: "value" | "range" | "regex" | "special";
  match?: string;
  start?: number;
  end?: number;
  text?: string;
  color?: string;
}
export interface Link {
  title?: string;
  url: string;
  new_tab?: boolean;
}
export interface Cell {
  type: "auto" | "text" | "background" | "gauge" | "sparkline" | "json";
  mode?: "basic" | "gradient" | "lcd";
  apply_to_row?: boolean;
  wrap?: boolean;
}
export interface FieldSettings {
  unit?: string;
  decimals?: number;
  min?: number;
  max?: number;
  own_range?: boolean;
  no_value?: string;
  display_name?: string;
  color?: Color;
  thresholds?: Thresholds;
  mappings?: Mapping[];
  links?: Link[];
  draw?: "line" | "bars" | "points";
  line_width?: number;
  line_style?: { style: "solid" | "dash" | "dot"; dash?: number[] };
  line_interpolation?: "linear" | "smooth" | "step_before" | "step_after";
  fill_opacity?: number;
  fill_below_to?: string;
  gradient?: "none" | "opacity" | "hue" | "scheme";
  points?: "auto" | "never" | "always";
  point_size?: number;
  span_nulls?: boolean | number;
  insert_nulls?: boolean | number;
  stacking?: { mode: "none" | "normal" | "percent"; group?: string };
  transform?: "negative_y" | "constant";
  axis?: "auto" | "left" | "right" | "hidden";
  axis_label?: string;
  axis_soft_min?: number;
  axis_soft_max?: number;
  axis_scale?: { type: "linear" | "log" | "symlog"; base?: 2 | 10 };
  axis_centered?: boolean;
  thresholds_drawn?: string;
  hidden?: { graph?: boolean; legend?: boolean; tooltip?: boolean };
  column_hidden?: boolean;
  align?: "auto" | "left" | "center" | "right";
  width?: number;
  cell?: Cell;
  footer?: string[];
}
export interface Matcher {
  by: "name" | "names" | "regexp" | "query" | "type" | "value";
  name?: string;
  names?: string[];
  exclude?: boolean;
  calc?: string;
  operator?: string;
  operand?: number;
}
export interface Override {
  matcher: Matcher;
  settings: FieldSettings;
}
export interface Transformation {
  id: string;
  // The options are those of Grafana, and differ for each id.
  options?: Record<string, any>;
  queries?: string[];
  disabled?: boolean;
}
export interface Query {
  ref: string;
  expr: string;
  legend?: string;
  auto_legend?: boolean;
  format?: "time_series" | "table" | "heatmap";
  instant?: boolean;
  range?: boolean;
  min_step?: string;
  step_factor?: number;
  hidden?: boolean;
  exemplars?: boolean;
}
export interface Grid {
  x: number;
  y: number;
  width: number;
  height: number;
}
export interface Reduce {
  calcs?: string[];
  fields?: string;
  values?: boolean;
  limit?: number;
}
export interface PanelOptions {
  legend?: {
    mode?: "list" | "table" | "hidden";
    placement?: "bottom" | "right";
    calcs?: string[];
    values?: string[];
    sort_by?: string;
    sort_desc?: boolean;
    width?: number;
  };
  tooltip?: { mode?: "single" | "multi" | "none"; sort?: "none" | "asc" | "desc"; hide_zeros?: boolean };
  reduce?: Reduce;
  orientation?: "auto" | "horizontal" | "vertical";
  justify?: "auto" | "center";
  value_mode?: "color" | "text" | "hidden";
  color_mode?: "none" | "value" | "background" | "background_solid";
  graph_mode?: "none" | "area";
  text_mode?: "auto" | "value" | "value_and_name" | "name" | "none";
  percent_change?: boolean;
  threshold_markers?: boolean;
  threshold_labels?: boolean;
  bar_mode?: "basic" | "gradient" | "lcd";
  show_unfilled?: boolean;
  pie?: "pie" | "donut";
  pie_labels?: string[];
  pie_sort?: "asc" | "desc" | "none";
  show_header?: boolean;
  sort_by?: { name: string; desc?: boolean }[];
  frame?: number;
  pagination?: boolean;
  footer?: { calcs: string[]; fields?: string[] };
  heatmap?: Heatmap;
  bucket_count?: number;
  bucket_size?: number;
  bucket_offset?: number;
  combine?: boolean;
  show_value?: "auto" | "always" | "never";
  merge_values?: boolean;
  text?: { mode?: "markdown" | "html" | "code"; content?: string };
  dashboards?: { tags?: string[]; search?: string; max_items?: number };
  alerts?: { states?: string[]; name?: string; labels?: string; max_items?: number; sort?: string };
}
export interface Heatmap {
  calculate?: boolean;
  x_buckets?: { size?: number; size_text?: string; count?: number };
  y_buckets?: { size?: number; count?: number; log?: 2 | 10 };
  color?: {
    mode?: "scheme" | "opacity";
    scheme?: string;
    fill?: string;
    scale?: "exponential" | "linear";
    exponent?: number;
    steps?: number;
    reverse?: boolean;
    min?: number;
    max?: number;
  };
  y_axis?: { unit?: string; decimals?: number; min?: number; max?: number; reverse?: boolean };
  hide_up_to?: number;
  cell_unit?: string;
}
export interface Panel {
  id: number;
  type: string;
  title?: string;
  description?: string;
  transparent?: boolean;
  grid: Grid;
  repeat?: { variable: string; direction?: "horizontal" | "vertical"; max_per_row?: number };
  queries?: Query[];
  panel_source?: number;
  min_interval?: string;
  max_data_points?: number;
  time_from?: string;
  time_shift?: string;
  hide_time?: boolean;
  transformations?: Transformation[];
  fields?: FieldSettings;
  overrides?: Override[];
  options?: PanelOptions;
  links?: Link[];
}
export interface Row {
  title?: string | null;
  collapsed?: boolean;
  repeat?: string | null;
  panels?: Panel[];
}
export interface Variable {
  name: string;
  kind: "query" | "custom" | "interval" | "textbox" | "constant" | "datasource" | "adhoc";
  label?: string;
  description?: string;
  hide?: "no" | "label" | "variable";
  in_url?: boolean;
  query?: string;
  options?: Option[];
  regex?: string;
  sort?: string;
  refresh?: "load" | "time";
  multi?: boolean;
  include_all?: boolean;
  all_value?: string | null;
  current?: string | string[];
  auto_count?: number;
  auto_min?: string;
  filters?: Filter[];
}
export interface Option {
  text: string;
  value: string;
}
export interface Filter {
  key: string;
  operator: "=" | "!=" | "=~" | "!~";
  value: string;
}
export interface Annotation {
  name: string;
  enabled?: boolean;
  hidden?: boolean;
  color?: string;
  expr: string;
  step?: string;
  title?: string;
  text?: string;
  tags?: string[];
  value_is_time?: boolean;
  panels?: number[];
  exclude_panels?: boolean;
}
export interface DashboardLink {
  kind: "url" | "dashboards";
  title?: string;
  tooltip?: string;
  url?: string;
  tags?: string[];
  as_dropdown?: boolean;
  keep_time?: boolean;
  include_variables?: boolean;
  new_tab?: boolean;
}
export interface Dashboard {
  schema_version?: 1;
  title: string;
  description?: string;
  tags?: string[];
  time?: { start?: string; end?: string };
  refresh?: string;
  refresh_choices?: string[];
  now_delay?: string;
  timezone?: string;
  week_start?: "" | "monday" | "saturday" | "sunday";
  hide_time_picker?: boolean;
  tooltip?: "own" | "crosshair" | "shared";
  variables?: Variable[];
  annotations?: Annotation[];
  links?: DashboardLink[];
  rows?: Row[];
}

/** A value of a field; numbers may be NaN or infinite in tables. */
export type Value = number | string | null;

/** A column of a frame. */
export interface Field {
  name: string;
  type: "time" | "number" | "string";
  values: Value[];
  labels?: Record<string, string>;
  /** The name by the legend of its query. */
  legendName?: string;
  settings: FieldSettings;
}

/** The answer of a query, or what a transformation makes of it. Times are Unix ms. */
export interface Frame {
  ref: string;
  format: "time_series" | "table" | "heatmap";
  fields: Field[];
}

export function lengthOf(frame: Frame): number {
  return frame.fields[0]?.values.length ?? 0;
}
