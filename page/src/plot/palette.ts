/** Colours of series: at least 3:1 against the background of both themes. */
const COLOURS = [
  "#2f7ed8", "#d9480f", "#2b8a3e", "#9c36b5", "#b08900", "#0c8599", "#e03131", "#5f3dc4",
  "#74841a", "#c2255c", "#1971c2", "#a8612c", "#087f5b", "#7048e8", "#868e96",
];

/** The colour of the series with this number. */
export function seriesColour(index: number): string {
  return COLOURS[index % COLOURS.length] ?? "#868e96";
}
