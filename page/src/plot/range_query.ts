/** Range queries as columns. Large answers are read by a worker, so that the page stays usable. */
import type { Answer, Range } from "../api/prometheus";
import { send } from "../api/transport";
import { type PackedData, type PlotData, unpackData } from "./data";
import { readAnswer } from "./read_answer";

/** Reading a megabyte takes some 20 ms; 1,000 series of 1,000 points are 25 of them. */
const LARGE_BYTES = 1_000_000;

export type RangeData = PlotData & { range: Range };

/** More lines than anybody tells apart; whoever wants more may ask for `MOST_SERIES`. */
export const USUAL_SERIES = 1000;
export const MOST_SERIES = 10_000;
const TRUNCATED = /results truncated due to limit/;

/** Whether there are more series than the limit, and the other warnings. */
export function splitWarnings(warnings: readonly string[]): { isTruncated: boolean; others: string[] } {
  const others = warnings.filter((text) => !TRUNCATED.test(text));
  return { isTruncated: others.length < warnings.length, others };
}

/**
 * Ask for a range, as `queryRange` does. `limit`: how many series the answer has at most; a warning
 * says if there are more.
 */
export async function queryPacked(
  query: string,
  range: Range,
  signal?: AbortSignal,
  limit?: number,
): Promise<Answer<PackedData>> {
  const { start, end, step } = range;
  const form = { query, start, end, step, limit };
  const response = await send("api/v1/query_range", { form, ...(signal && { signal }) });
  const bytes = await response.arrayBuffer();
  return bytes.byteLength > LARGE_BYTES ? inWorker(bytes, range, signal) : readAnswer(bytes, range);
}

/** The same as columns for a plot. */
export async function queryColumns(
  query: string,
  range: Range,
  signal?: AbortSignal,
  limit?: number,
): Promise<Answer<RangeData>> {
  const { data, ...notices } = await queryPacked(query, range, signal, limit);
  return { ...notices, data: { ...unpackData(data, range), range } };
}

export interface Task {
  id: number;
  bytes: ArrayBuffer;
  range: Range;
}

export type Done = { id: number } & ({ answer: Answer<PackedData> } | { fault: string });

let worker: Worker | null = null;
let lastId = 0;
const waiting = new Map<number, (done: Done) => void>();

function inWorker(bytes: ArrayBuffer, range: Range, signal?: AbortSignal): Promise<Answer<PackedData>> {
  if (!worker) {
    worker = new Worker(new URL("./range_worker.ts", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }: MessageEvent<Done>) => {
      waiting.get(data.id)?.(data);
      waiting.delete(data.id);
    });
    // It could not be loaded, or is out of memory: nobody would answer who waits for it.
    worker.addEventListener("error", ({ message }) => {
      const fault = message || "The part of the page that reads large answers could not be loaded; reload the page.";
      worker?.terminate();
      worker = null;
      const unanswered = [...waiting];
      waiting.clear();
      for (const [id, settle] of unanswered) settle({ id, fault });
    });
  }
  const id = ++lastId;
  const task: Task = { id, bytes, range };
  worker.postMessage(task, [bytes]);
  return new Promise((resolve, reject) => {
    waiting.set(id, (done) => {
      if (signal?.aborted) reject(new DOMException("superseded", "AbortError"));
      else if ("fault" in done) reject(new Error(done.fault));
      else resolve(done.answer);
    });
  });
}

