/** Menus (`details` of the class `menu`): they close by a press beside them and by Escape. */

/** Let them close so, until what is returned is called. */
export function closeMenus(): () => void {
  document.addEventListener("pointerdown", closeOthers);
  document.addEventListener("keydown", closeByEscape);
  return () => {
    document.removeEventListener("pointerdown", closeOthers);
    document.removeEventListener("keydown", closeByEscape);
  };
}

function closeOthers({ target }: Event): void {
  for (const menu of openMenus()) if (!menu.contains(target as Node | null)) menu.open = false;
}

function closeByEscape(event: KeyboardEvent): void {
  if (event.key !== "Escape" || event.defaultPrevented) return;
  const menu = openMenus().findLast((one) => one.contains(event.target as Node | null));
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary")?.focus();
}

function openMenus(): HTMLDetailsElement[] {
  return [...document.querySelectorAll<HTMLDetailsElement>("details.menu[open]")];
}
