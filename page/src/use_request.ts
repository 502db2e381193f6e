/** A request whose answer a component shows. */
import { useEffect, useRef, useState } from "preact/hooks";
import { Latest, isAbort } from "./api/transport";

export interface RequestState<T> {
  /** The newest answer; it stays while the next one is loaded. */
  data: T | undefined;
  error: Error | undefined;
  isLoading: boolean;
}

/**
 * Start `ask` when the component appears and whenever one of `inputs` changes; null asks nothing.
 * A request that another one follows is aborted, and so is one whose component disappears.
 */
export function useRequest<T>(
  ask: ((signal: AbortSignal) => Promise<T>) | null,
  inputs: readonly unknown[],
): RequestState<T> & { reload: () => void } {
  const [state, setState] = useState<RequestState<T>>({
    data: undefined,
    error: undefined,
    isLoading: ask !== null,
  });
  const [count, setCount] = useState(0);
  const latest = useRef(new Latest()).current;
  useEffect(() => {
    if (!ask) {
      setState({ data: undefined, error: undefined, isLoading: false });
      return;
    }
    setState((before) => ({ ...before, isLoading: true }));
    latest
      .run(ask)
      .then((data) => setState({ data, error: undefined, isLoading: false }))
      .catch((error: unknown) => {
        if (isAbort(error)) return;
        const shown = error instanceof Error ? error : new Error(String(error));
        setState({ data: undefined, error: shown, isLoading: false });
      });
    return () => latest.abort();
  }, [...inputs, count]);
  return { ...state, reload: () => setCount((before) => before + 1) };
}
