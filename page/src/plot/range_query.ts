/** Range queries as columns. Large answers are read by a worker, so that the page stays usable. */
import type { Answer, Range } from "../api/prometheus";
import { send } from "../api/transport";
import { type PackedData, type PlotData, unpackData } from "./data";
import { readAnswer } from "./read_answer";

/** Reading a megabyte takes some 20 ms; 1,000 series of 1,000 points are 25 of them. */
const LARGE_BYTES = 1_000_000;

export type RangeData = PlotData & { range: Range };

/**
 * Ask for a range, as `queryRange` does. `limit`: how many series the answer has at most; a warning
 * says if there are more.
 */
export async function queryColumns(
  query: string,
  range: Range,
  signal?: AbortSignal,
  limit?: number,
): Promise<Answer<RangeData>> {
  const { start, end, step } = range;
  const form = { query, start, end, step, limit };
  const response = await send("api/v1/query_range", { form, ...(signal && { signal }) });
  const bytes = await response.arrayBuffer();
  const { data, ...notices } =
    bytes.byteLength > LARGE_BYTES
      ? await inWorker(bytes, range, signal)
      : readAnswer(bytes, range);
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

