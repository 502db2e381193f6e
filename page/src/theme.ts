/** Light or dark: as the system, or as chosen. */
import { effect, signal } from "@preact/signals";
import { ofBrowser } from "./stores";

export type Choice = "system" | "light" | "dark";
const KEY = "promcompat.theme";
const dark = window.matchMedia("(prefers-color-scheme: dark)");

export const choice = signal<Choice>((ofBrowser.get(KEY) as Choice | null) ?? "system");
export const isDark = signal(false);

function apply(): void {
  isDark.value = choice.value === "dark" || (choice.value === "system" && dark.matches);
  document.documentElement.dataset.theme = isDark.value ? "dark" : "light";
}

dark.addEventListener("change", apply);
effect(() => {
  ofBrowser.set(KEY, choice.value);
  apply();
});

/** Of system, light and dark the next one. */
export function nextTheme(): void {
  const order: Choice[] = ["system", "light", "dark"];
  choice.value = order[(order.indexOf(choice.value) + 1) % order.length] ?? "system";
}

/** The value of a colour of `styles.css`, such as `--line`, in the theme in use. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
