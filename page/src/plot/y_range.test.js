import assert from "node:assert/strict";
import { test } from "node:test";
import { yRange } from "./y_range";

test("there is room above and below values, also from an end that is fixed", () => {
  assert.deepEqual(yRange({}, 100, 200), [92, 208]);
  assert.deepEqual(yRange({ min: 0 }, 290, 300), [0, 324]);
});

test("an axis has a beginning and an end whatever is drawn", () => {
  for (const [low, high] of [[null, null], [0, 0], [7, 7], [-7, -7]]) {
    for (const props of [{}, { stacked: true }, { logarithmic: true }, { thresholds: [{ value: 7 }, { value: -1 }] }]) {
      const [least, most] = yRange(props, low, high);
      assert.ok(Number.isFinite(least) && Number.isFinite(most) && least < most, JSON.stringify({ props, low, high, least, most }));
    }
  }
});
