/** A part of the page that may fail by itself: what throws in it is shown in its place, and the rest goes on. */
import { Component, type ComponentChildren } from "preact";

export interface BoundaryProps {
  /** Whenever one of these is another one, what failed is tried again. */
  retryOn: readonly unknown[];
  /** What is shown in place of the children. */
  fallback: (error: Error) => ComponentChildren;
  children: ComponentChildren;
}

interface State {
  error: Error | null;
  /** The `retryOn` with which it failed. */
  failedOn: readonly unknown[];
}

export class Boundary extends Component<BoundaryProps, State> {
  override state: State = { error: null, failedOn: [] };

  override componentDidCatch(problem: unknown): void {
    const error = problem instanceof Error ? problem : new Error(String(problem));
    this.setState({ error, failedOn: this.props.retryOn });
  }

  override render({ retryOn, fallback, children }: BoundaryProps, { error, failedOn }: State) {
    const isSame = retryOn.length === failedOn.length && retryOn.every((one, index) => Object.is(one, failedOn[index]));
    return error && isSame ? fallback(error) : children;
  }
}
