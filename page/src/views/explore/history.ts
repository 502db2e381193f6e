/** The expressions that were run in this browser, the newest first. */
import { signal } from "@preact/signals";
import { ofBrowser } from "../../stores";

const KEY = "promcompat.history";
const MOST = 100;

function stored(): string[] {
  try {
    const read: unknown = JSON.parse(ofBrowser.get(KEY) ?? "[]");
    return Array.isArray(read) ? read.filter((item) => typeof item === "string") : [];
  } catch {
    return [];
  }
}

export const history = signal<string[]>(stored());

export function remember(expression: string): void {
  if (!expression.trim()) return;
  const next = [expression, ...stored().filter((other) => other !== expression)].slice(0, MOST);
  history.value = next;
  ofBrowser.set(KEY, JSON.stringify(next));
}

export function forgetAll(): void {
  history.value = [];
  ofBrowser.remove(KEY);
}
