/** Who uses the page: a token and a tenant, which last as long as the tab. */
import { signal } from "@preact/signals";
import { ofTab } from "./stores";

const { access = "off", tenancy = "single", root = "." } = document.documentElement.dataset;

/** Whether the service asks for tokens, and whether it has several tenants. */
export const usesTokens = access === "tokens";
export const hasTenants = tenancy === "header";

/** Where the native API is, relative to the page. */
export const nativeRoot = root === ".." ? ".." : ".";

const TOKEN = "promcompat.token";
const TENANT = "promcompat.tenant";

export interface Session {
  token: string;
  tenant: string;
}

export const session = signal<Session>({
  token: ofTab.get(TOKEN) ?? "",
  tenant: ofTab.get(TENANT) ?? "",
});

/** Why the page asks for a token or a tenant; empty while it does not. */
export const logInReason = signal(missing());

/** What is known to be missing before anything is asked; a gateway adds the tenant by itself. */
function missing(): string {
  if (usesTokens && !session.peek().token) return "The service asks for a token.";
  if (access === "off" && hasTenants && !session.peek().tenant) return "The service has several tenants.";
  return "";
}

export function logIn(next: Session): void {
  ofTab.set(TOKEN, next.token);
  ofTab.set(TENANT, next.tenant);
  session.value = next;
  logInReason.value = "";
}

export function logOut(): void {
  ofTab.remove(TOKEN);
  ofTab.remove(TENANT);
  session.value = { token: "", tenant: "" };
  logInReason.value = "You have logged out.";
}

/** The headers by which the service knows who asks. */
export function sessionHeaders(): Record<string, string> {
  const { token, tenant } = session.peek();
  return {
    ...(token && { Authorization: `Bearer ${token}` }),
    ...(hasTenants && tenant && { "X-Scope-OrgID": tenant }),
  };
}
