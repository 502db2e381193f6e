/** Colours by name, by palette and by value, as Grafana has them, for both themes. */
import type { Color, FieldSettings, Thresholds } from "./types";

const SHADES = ["super-light-", "light-", "", "semi-dark-", "dark-"];
const HUES: Record<string, string> = {
  red: "FFA6B0 FF7383 F2495C E02F44 C4162A",
  orange: "FFCB7D FFB357 FF9830 FF780A FA6400",
  yellow: "FFF899 FFEE52 FADE2A F2CC0C E0B400",
  green: "C8F2C2 96D98D 73BF69 56A64B 37872D",
  blue: "C0D8FF 8AB8FF 5794F2 3274D9 1F60C4",
  purple: "DEB6F2 CA95E5 B877D9 A352CC 8F3BB8",
};
const DARKEST_GREEN = "19730E";
const PALETTE = [
  "green", "semi-dark-yellow", "blue", "orange", "red", "purple",
  ...["green", "yellow", "blue", "orange", "red", "purple"].map((hue) => `dark-${hue}`),
  ...["green", "yellow", "blue", "orange", "red", "purple"].map((hue) => `super-light-${hue}`),
  ...("447EBC C15C17 890F02 0A437C 6D1F62 584477 B7DBAB F4D598 70DBED F9BA8F F29191 82B5D8 E5A8E2 AEA2E0 " +
    "629E51 E5AC0E 64B0C8 E0752D BF1B00 0A50A1 962D82 614D93 9AC48A F2C96D 65C5DB F9934E EA6460 5195CE D683CE " +
    "806EB7 3F6833 967302 2F575E 99440A 58140C 052B51 511749 3F2B5B E0F9D7 FCEACA CFFAFF F9E2D2 FCE2DE BADFF4 " +
    "F9D9F9 DEDAF7").split(" ").map((hex) => `#${hex}`),
];

/** The colour of a name; other texts are colours already. The light theme is one step darker. */
export function namedColor(name: string, isDark: boolean): string {
  if (name === "transparent") return "rgba(0,0,0,0)";
  if (name === "text") return isDark ? "#e6e8ea" : "#1a1d21";
  const hue = Object.keys(HUES).find((one) => name === one || name.endsWith(`-${one}`));
  const shade = hue ? SHADES.indexOf(name.slice(0, name.length - hue.length)) : -1;
  if (!hue || shade < 0) return /^[0-9A-Fa-f]{6}$/.test(name) ? `#${name}` : name;
  const shades = (HUES[hue] ?? "").split(" ");
  const index = shade + (isDark ? 0 : 1);
  if (index < shades.length) return `#${shades[index]}`;
  return hue === "green" ? `#${DARKEST_GREEN}` : darker(`#${shades.at(-1)}`, 0.8);
}

export function paletteColor(index: number, isDark: boolean): string {
  return namedColor(PALETTE[index % PALETTE.length] ?? "green", isDark);
}

function channels(hex: string): [number, number, number] {
  const number = Number.parseInt(hex.replace("#", "").slice(0, 6), 16);
  return [(number >> 16) & 255, (number >> 8) & 255, number & 255];
}

function hexOf(rgb: number[]): string {
  return `#${rgb.map((value) => Math.round(Math.min(Math.max(value, 0), 255)).toString(16).padStart(2, "0")).join("")}`;
}

function darker(hex: string, by: number): string {
  return hexOf(channels(hex).map((value) => value * by));
}

/** Uniform B-spline through the colours, in RGB. `at` is from 0 to 1. */
export function spline(colors: readonly string[], at: number): string {
  const points = colors.map(channels);
  const n = points.length - 1;
  const t = Math.min(Math.max(at, 0), 1);
  const i = t >= 1 ? n - 1 : Math.floor(t * n);
  const basis = (channel: 0 | 1 | 2) => {
    const value = (index: number) => points[index]?.[channel] ?? 0;
    const [v1, v2] = [value(i), value(i + 1)];
    const v0 = i > 0 ? value(i - 1) : 2 * v1 - v2;
    const v3 = i < n - 1 ? value(i + 2) : 2 * v2 - v1;
    const u = (t - i / n) * n;
    const [u2, u3] = [u * u, u * u * u];
    return ((1 - 3 * u + 3 * u2 - u3) * v0 + (4 - 6 * u2 + 3 * u3) * v1 + (1 + 3 * u + 3 * u2 - 3 * u3) * v2 + u3 * v3) / 6;
  };
  return hexOf([basis(0), basis(1), basis(2)]);
}

const SCHEMES: Record<string, string[]> = {
  "continuous-GrYlRd": ["green", "yellow", "red"],
  "continuous-RdYlGr": ["red", "yellow", "green"],
  "continuous-BlYlRd": ["dark-blue", "super-light-yellow", "dark-red"],
  "continuous-YlRd": ["super-light-yellow", "dark-red"],
  "continuous-BlPu": ["blue", "purple"],
  "continuous-YlBl": ["super-light-yellow", "dark-blue"],
};

export function continuousColor(mode: string, at: number, isDark: boolean): string {
  const hue = { blues: "blue", reds: "red", greens: "green", purples: "purple" }[mode.replace("continuous-", "")];
  const names = SCHEMES[mode];
  if (names) return spline(names.map((name) => namedColor(name, isDark)), at);
  const background = isDark ? "#181b1f" : "#ffffff";
  return spline([background, namedColor(`dark-${hue ?? "blue"}`, isDark)], at);
}

/** Of heatmaps: d3's sequential schemes by their ends. */
const HEATMAP_SCHEMES: Record<string, string[]> = {
  Oranges: ["#fff5eb", "#fee6ce", "#fdd0a2", "#fdae6b", "#fd8d3c", "#f16913", "#d94801", "#a63603", "#7f2704"],
  Blues: ["#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b"],
  Greens: ["#f7fcf5", "#e5f5e0", "#c7e9c0", "#a1d99b", "#74c476", "#41ab5d", "#238b45", "#006d2c", "#00441b"],
  Reds: ["#fff5f0", "#fee0d2", "#fcbba1", "#fc9272", "#fb6a4a", "#ef3b2c", "#cb181d", "#a50f15", "#67000d"],
  Purples: ["#fcfbfd", "#efedf5", "#dadaeb", "#bcbddc", "#9e9ac8", "#807dba", "#6a51a3", "#54278f", "#3f007d"],
  Greys: ["#ffffff", "#f0f0f0", "#d9d9d9", "#bdbdbd", "#969696", "#737373", "#525252", "#252525", "#000000"],
  Spectral: ["#9e0142", "#d53e4f", "#f46d43", "#fdae61", "#fee08b", "#ffffbf", "#e6f598", "#abdda4", "#66c2a5", "#3288bd", "#5e4fa2"],
  RdYlGn: ["#a50026", "#d73027", "#f46d43", "#fdae61", "#fee08b", "#ffffbf", "#d9ef8b", "#a6d96a", "#66bd63", "#1a9850", "#006837"],
  RdYlBu: ["#a50026", "#d73027", "#f46d43", "#fdae61", "#fee090", "#ffffbf", "#e0f3f8", "#abd9e9", "#74add1", "#4575b4", "#313695"],
  Turbo: ["#23171b", "#4a58dd", "#2f9df5", "#27d7c4", "#4df884", "#95fb51", "#dedd32", "#ffa423", "#f65f18", "#ba2208", "#900c00"],
  Viridis: ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"],
  Magma: ["#000004", "#1d1147", "#51127c", "#822681", "#b63679", "#e65164", "#fb8861", "#fec287", "#fcfdbf"],
};

export function heatmapColor(scheme: string, at: number, isDark: boolean): string {
  const colors = HEATMAP_SCHEMES[scheme] ?? HEATMAP_SCHEMES["Oranges"] ?? [];
  const isSequential = !["Spectral", "RdYlGn", "RdYlBu", "Turbo", "Viridis", "Magma"].includes(scheme);
  return spline(colors, isDark && isSequential ? 1 - at : at);
}

const DEFAULT_THRESHOLDS: Thresholds = { steps: [{ color: "green" }, { value: 80, color: "red" }] };

/** The step of a value: the last one that is not above it; the first is the base. */
export function thresholdColor(value: number | null, thresholds: Thresholds | undefined, min: number, max: number): string {
  const { mode, steps } = thresholds ?? DEFAULT_THRESHOLDS;
  const at = value === null ? -Infinity : mode === "percentage" ? ((value - min) / (max - min || 1)) * 100 : value;
  let color = steps[0]?.color ?? "#808080";
  for (const step of steps.slice(1)) if (at >= (step.value ?? -Infinity)) color = step.color;
  return color;
}

/** The colour of one value by the mode; `index` is the position among all series. */
export function colorOf(
  settings: FieldSettings, fallback: Color, value: number | null, index: number,
  limits: { min: number; max: number }, isDark: boolean,
): string {
  const color = settings.color ?? fallback;
  if (color.mode === "fixed") return namedColor(color.fixed ?? "#808080", isDark);
  if (color.mode === "shades") return shade(namedColor(color.fixed ?? "blue", isDark), index);
  if (color.mode === "thresholds") return namedColor(thresholdColor(value, settings.thresholds, limits.min, limits.max), isDark);
  if (color.mode.startsWith("continuous-")) {
    const at = value === null ? 0 : (value - limits.min) / (limits.max - limits.min || 1);
    return continuousColor(color.mode, at, isDark);
  }
  return paletteColor(index, isDark);
}

function shade(base: string, index: number): string {
  if (!base.startsWith("#")) return base;
  const step = [0, -0.18, 0.18, -0.32, 0.32][index % 5] ?? 0;
  return hexOf(channels(base).map((value) => (step < 0 ? value * (1 + step) : value + (255 - value) * step)));
}

/** A colour that text has: nearer to that of other text, so that it can be read on the background. */
export function textColor(color: string): string {
  return `color-mix(in srgb, ${color} 60%, var(--text))`;
}

/** Black or white, whichever is read better on a colour. */
export function readableOn(background: string): string {
  if (!background.startsWith("#")) return "#000000";
  const [r, g, b] = channels(background).map((value) => {
    const part = value / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * (r ?? 0) + 0.7152 * (g ?? 0) + 0.0722 * (b ?? 0) > 0.179 ? "#000000" : "#ffffff";
}
