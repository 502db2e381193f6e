import assert from "node:assert/strict";
import { test } from "node:test";
import { setZone } from "../time/zone";
import { timeLabels, timeTicks } from "./time_ticks";

function labels(from, to, width = 500, zone = "Europe/Berlin") {
  setZone(zone);
  try {
    const range = { start: Date.parse(from) / 1000, end: Date.parse(to) / 1000 };
    return timeLabels(timeTicks(range, width)).map((lines) => lines.join("|"));
  } finally {
    setZone();
  }
}

test("labels are round times of the zone, with no more of the date than differs", () => {
  assert.deepEqual(labels("2026-11-29T04:35:00Z", "2026-11-29T10:00:00Z"), [
    "06:00|2026-11-29", "07:00", "08:00", "09:00", "10:00", "11:00",
  ]);
  assert.deepEqual(labels("2026-11-30T10:00:00Z", "2026-12-02T10:00:00Z", 400), [
    "12:00|2026-11-30", "00:00|Dec 1", "12:00", "00:00|Dec 2",
  ]);
  assert.deepEqual(labels("2026-11-29T04:35:00Z", "2026-11-29T04:35:20Z", 300), [
    "05:35:00|2026-11-29", "05:35:05", "05:35:10", "05:35:15", "05:35:20",
  ]);
  assert.deepEqual(labels("2026-12-29T12:00:00Z", "2027-01-02T12:00:00Z", 400), [
    "Dec 30|2026", "Dec 31", "Jan 1|2027", "Jan 2",
  ]);
  assert.deepEqual(labels("2026-05-10T00:00:00Z", "2027-02-10T00:00:00Z", 400), ["Jul|2026", "Oct", "Jan|2027"]);
  assert.deepEqual(labels("2019-05-10T00:00:00Z", "2026-02-10T00:00:00Z", 300), ["2020", "2022", "2024", "2026"]);
});

test("labels stay round where the clock of the zone is changed", () => {
  // Berlin has 02:00 twice on 25 October, and no 02:00 on 29 March.
  assert.deepEqual(labels("2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z", 350), [
    "01:00|2026-10-25", "02:00", "02:00", "03:00", "04:00",
  ]);
  assert.deepEqual(labels("2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z", 250), ["01:00|2026-03-29", "03:00", "04:00", "05:00"]);
  assert.deepEqual(labels("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 350), [
    "00:00|2026-10-25", "06:00", "12:00", "18:00", "00:00|Oct 26",
  ]);
  assert.deepEqual(labels("2026-10-23T22:00:00Z", "2026-10-27T23:00:00Z", 350), ["Oct 24|2026", "Oct 25", "Oct 26", "Oct 27", "Oct 28"]);
});
