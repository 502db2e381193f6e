/** Reads answers beside the page. */
import type { Done, Task } from "./range_query";
import { readAnswer } from "./read_answer";

const scope = globalThis as unknown as {
  addEventListener: (type: "message", listener: (event: MessageEvent<Task>) => void) => void;
  postMessage: (message: Done, transfer: Transferable[]) => void;
};

scope.addEventListener("message", ({ data: { id, bytes, range } }) => {
  try {
    const answer = readAnswer(bytes, range);
    scope.postMessage({ id, answer }, [answer.data.values.buffer as ArrayBuffer, answer.data.known.buffer as ArrayBuffer]);
  } catch (error) {
    scope.postMessage({ id, fault: String(error) }, []);
  }
});
