/** A request whose answer a component shows. */
import { useEffect, useRef, useState } from "preact/hooks";
import { Latest, isAbort } from "./api/transport";
import { askedAgain, readAtMs } from "./time/range";

export interface RequestState<T> {
  /** The newest answer; it stays while the next one is loaded. */
  data: T | undefined;
  error: Error | undefined;
  isLoading: boolean;
}

/** An answer that is asked for again and again comes sooner than that, or not at all. */
const PATIENCE_MS = 30_000;

/**
 * Start `ask` when the component appears and whenever one of `inputs` changes; null asks nothing.
 * A request that another one follows is aborted, and so is one whose component disappears. One that has failed
 * is started anew when the page is refreshed, and each one when everything is asked again.
 *
 * `reload` asks again at once, and `poll` unless an answer is awaited.
 */
export function useRequest<T>(
  ask: ((signal: AbortSignal) => Promise<T>) | null,
  inputs: readonly unknown[],
): RequestState<T> & { reload: () => void; poll: () => void } {
  const [state, setState] = useState<RequestState<T>>({
    data: undefined,
    error: undefined,
    isLoading: ask !== null,
  });
  const [count, setCount] = useState(0);
  const retries = useRef({ readAtMs: readAtMs.peek(), count: 0 }).current;
  const refreshedAtMs = state.error ? readAtMs.value : readAtMs.peek();
  if (state.error && refreshedAtMs !== retries.readAtMs) retries.count += 1;
  retries.readAtMs = refreshedAtMs;
  const startedAtMs = useRef(0);
  const latest = useRef(new Latest()).current;
  useEffect(() => {
    if (!ask) {
      setState({ data: undefined, error: undefined, isLoading: false });
      return;
    }
    setState((before) => ({ ...before, isLoading: true }));
    startedAtMs.current = Date.now();
    latest
      .run(ask)
      .then((data) => setState({ data, error: undefined, isLoading: false }))
      .catch((error: unknown) => {
        if (isAbort(error)) return;
        const shown = error instanceof Error ? error : new Error(String(error));
        setState({ data: undefined, error: shown, isLoading: false });
      });
    return () => latest.abort();
  }, [...inputs, count, retries.count, askedAgain.value]);
  const reload = () => setCount((before) => before + 1);
  const poll = () => {
    if (!state.isLoading || Date.now() - startedAtMs.current > PATIENCE_MS) reload();
  };
  return { ...state, reload, poll };
}
