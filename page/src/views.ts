/**
 * The views, in the order of the navigation. A view is a folder of `views` whose `index.tsx` has a
 * component as its default export; it is loaded when it is first opened.
 *
 * Its paths are also in `PAGE_PATHS` of `promcompat/http/route_roles.py`, which serves them.
 */
import type { ComponentType } from "preact";

export interface View {
  name: string;
  /** The address, one segment, and others that show the same view. */
  paths: readonly string[];
  /** Whether the header has the time range. */
  hasTime: boolean;
  load: () => Promise<{ default: ComponentType }>;
}

export const VIEWS: readonly View[] = [
  {
    name: "Explore",
    paths: ["explore", "", "graph", "query"],
    hasTime: true,
    load: () => import("./views/explore/index"),
  },
  {
    name: "Metrics",
    paths: ["metrics-explorer"],
    hasTime: true,
    load: () => import("./views/metrics/index"),
  },
  {
    name: "Alerts",
    paths: ["alerts", "rules"],
    hasTime: true,
    load: () => import("./views/alerts/index"),
  },
  {
    name: "Repairs",
    paths: ["repairs"],
    hasTime: true,
    load: () => import("./views/repairs/index"),
  },
  {
    name: "Dashboards",
    paths: ["dashboards"],
    hasTime: true,
    load: () => import("./views/dashboards/index"),
  },
  {
    name: "Status",
    paths: ["status"],
    hasTime: true,
    load: () => import("./views/status/index"),
  },
];

export function viewOf(path: string): View | undefined {
  return VIEWS.find((view) => view.paths.includes(path));
}
