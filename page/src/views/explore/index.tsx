/** Explore: expressions as plots, tables, samples and explanations, several beside each other. */
import { useEffect } from "preact/hooks";
import { Overview } from "../../catalogue/overview";
import { place } from "../../router";
import { askAgain, range } from "../../time/range";
import "./explore.css";
import { remember } from "./history";
import { PanelView } from "./panel";
import { EMPTY, type Panel, adoptRange, readPanels, writePanels } from "./state";

export default function Explore() {
  useEffect(adoptRange, []);
  const panels = readPanels(place.value.query);
  const put = (index: number, change: Partial<Panel>) => {
    const next = panels.map((panel, other) => (other === index ? { ...panel, ...change } : panel));
    if (change.expression !== undefined) {
      remember(change.expression);
      // The same expression again means: with the current time.
      if (change.expression === panels[index]?.expression) askAgain();
    }
    writePanels(next);
  };
  return (
    <div class="stack">
      <h1>Explore</h1>
      <div class={`panels ${panels.length > 1 ? "is-many" : ""}`}>
        {panels.map((panel, index) => (
          <PanelView
            key={index}
            panel={panel}
            number={index + 1}
            range={range.value}
            isNarrow={panels.length > 1}
            onChange={(change) => put(index, change)}
            {...(panels.length > 1 && {
              onRemove: () => writePanels(panels.filter((_, other) => other !== index)),
            })}
          />
        ))}
      </div>
      <div class="row">
        <button type="button" onClick={() => writePanels([...panels, EMPTY])}>
          Add a query
        </button>
        <span class="hint">A drag over a plot zooms all of them.</span>
      </div>
      {panels.every((panel) => !panel.expression) && <Overview />}
    </div>
  );
}
