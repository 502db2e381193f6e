/** Metrics: what is measured, and one metric with its chart, labels and definition. */
import { place } from "../../router";
import { Detail } from "./detail";
import { List } from "./list";
import "./metrics.css";

export default function Metrics() {
  const name = place.value.query.get("metric");
  return name ? <Detail key={name} name={name} /> : <List />;
}
