/**
 * The address is the state of the page: a view reads its parameters and writes them back.
 *
 * Addresses have one segment (`./graph?…`), so the page works below any path of a proxy.
 */
import { computed, signal } from "@preact/signals";

export interface Place {
  /** The last segment of the path, `""` for the start page. */
  path: string;
  query: URLSearchParams;
}

function readPlace(): Place {
  const { pathname, search } = window.location;
  return {
    path: pathname.slice(pathname.lastIndexOf("/") + 1),
    query: new URLSearchParams(search),
  };
}

/** Where the page is. It changes by `navigate`, `setQuery` and the browser's buttons. */
export const place = signal<Place>(readPlace());

/** The last segment alone, for who does not depend on the parameters. */
export const path = computed(() => place.value.path);

/** Whether the page may go to another place; see `guardLeaving`. */
let mayGo: ((next: Place) => boolean) | null = null;

/**
 * Ask before the page is left, as long as there is something that would be lost: `guard` gets the next place
 * and says whether to go there. Returns what ends it.
 */
export function guardLeaving(guard: (next: Place) => boolean): () => void {
  const ask = (event: BeforeUnloadEvent) => event.preventDefault();
  mayGo = guard;
  window.addEventListener("beforeunload", ask);
  return () => {
    if (mayGo === guard) mayGo = null;
    window.removeEventListener("beforeunload", ask);
  };
}

window.addEventListener("popstate", () => {
  const next = readPlace();
  if (mayGo && !mayGo(next)) {
    // The browser has gone there already.
    const { path, query } = place.peek();
    window.history.pushState(null, "", hrefOf(path, query));
    return;
  }
  place.value = next;
});

export type QueryChange = Record<string, string | number | boolean | null | undefined>;

/** The parameters with some of them changed; null, undefined, "" and false remove one. */
export function changedQuery(query: URLSearchParams, change: QueryChange): URLSearchParams {
  const changed = new URLSearchParams(query);
  for (const [name, value] of Object.entries(change)) {
    if (value === null || value === undefined || value === "" || value === false) {
      changed.delete(name);
    } else {
      changed.set(name, value === true ? "1" : String(value));
    }
  }
  return changed;
}

export function hrefOf(path: string, query: URLSearchParams | QueryChange = {}): string {
  const all = query instanceof URLSearchParams ? query : changedQuery(new URLSearchParams(), query);
  // Commas, colons and the like are legal in a query, and expressions are full of them.
  const text = all
    .toString()
    .replace(/%(2C|3A|2F|28|29|7E|21|24|27|2A|40|5B|5D)/gi, (found) => decodeURIComponent(found));
  return `./${path}${text ? `?${text}` : ""}`;
}

function go(href: string, replace: boolean): void {
  const url = new URL(href, window.location.href);
  if (mayGo && !mayGo({ path: url.pathname.slice(url.pathname.lastIndexOf("/") + 1), query: url.searchParams })) return;
  window.history[replace ? "replaceState" : "pushState"](null, "", href);
  place.value = readPlace();
}

/** Open another view. `replace`: without an entry in the browser's history. */
export function navigate(path: string, query: URLSearchParams | QueryChange = {}, options: { replace?: boolean } = {}): void {
  go(hrefOf(path, query), options.replace ?? false);
}

/** Change parameters of this view. `replace`: without an entry in the browser's history. */
export function setQuery(change: QueryChange, options: { replace?: boolean } = {}): void {
  const { path, query } = place.peek();
  const href = hrefOf(path, changedQuery(query, change));
  if (href !== hrefOf(path, query)) go(href, options.replace ?? false);
}

/** Let links within the page change the view without loading the page again. */
export function followLinks(event: MouseEvent): void {
  const link = (event.target as Element | null)?.closest?.("a");
  if (!link || event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const href = link.getAttribute("href") ?? "";
  if (!href.startsWith("./") || link.target || link.hasAttribute("download")) return;
  if (!isView(href.slice(2).split(/[?#]/, 1)[0] ?? "")) return;
  event.preventDefault();
  go(href, false);
  window.scrollTo(0, 0);
}

let isView: (path: string) => boolean = () => false;

/** Which paths are views; other relative links lead to the service itself. */
export function setViewTest(test: (path: string) => boolean): void {
  isView = test;
}
