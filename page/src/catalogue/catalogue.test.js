import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.document ??= { documentElement: { dataset: {} } };
const { metricsOf, summaryOf } = await import("./catalogue");

test("the rate of a metric has the unit of what it counts", () => {
  const names = ["order_seconds_bucket", "order_seconds_count", "order_seconds_sum", "sent_bytes_total"];
  const metrics = metricsOf(names.map((name) => ({ name, value: 2 })), {}, new Map());
  assert.deepEqual(metrics.map((metric) => summaryOf(metric, "5m").unit), ["cps", "cps", "s/s", "binBps"]);
});
