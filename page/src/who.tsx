/** Who uses the page, as the service sees them: name, roles, tenants. */
import { computed, effect, signal } from "@preact/signals";
import { native } from "./api/native";
import { isAbort } from "./api/transport";
import { hasTenants, logIn, logOut, session, usesTokens } from "./session";
import { Badge } from "./ui/states";

export type Role = "read" | "write" | "edit" | "operate" | "admin";

interface Principal {
  name: string;
  roles: Role[];
  /** null: every tenant. */
  tenants: string[] | null;
  tenant: string;
}

/** null until the service has said it, and while access is not restricted. */
export const principal = signal<Principal | null>(null);

/**
 * Whether to offer what needs a role. The service decides; this only leaves out buttons that would
 * be refused.
 */
export function may(role: Role): boolean {
  return !usesTokens || (principal.value?.roles.includes(role) ?? false);
}

effect(() => {
  const { token, tenant } = session.value;
  principal.value = null;
  if (!(usesTokens ? token : tenant)) return;
  const controller = new AbortController();
  native
    .get<Principal>("/whoami", { signal: controller.signal })
    .then((found) => (principal.value = found))
    .catch((error: unknown) => {
      // A wrong token opens the log-in; whatever else is wrong, the view says so too.
      if (!isAbort(error)) principal.value = null;
    });
  return () => controller.abort();
});

const name = computed(() => {
  const parts = [usesTokens && principal.value?.name, hasTenants && tenantInUse.value];
  return parts.filter(Boolean).join(" · ") || "Session";
});
const tenantInUse = computed(() => principal.value?.tenant ?? session.value.tenant);

export function Who() {
  if (!session.value.token && !session.value.tenant) return null;
  return (
    <details class="menu">
      <summary>{name.value}</summary>
      <div class="menu-box stack who">
        {usesTokens && principal.value && (
          <div>
            <strong>{principal.value.name}</strong>
            <div class="row" aria-label="Roles" role="group">
              {principal.value.roles.map((role) => (
                <Badge key={role}>{role}</Badge>
              ))}
            </div>
          </div>
        )}
        {hasTenants && <TenantForm />}
        <button type="button" onClick={logOut}>
          Log out
        </button>
      </div>
    </details>
  );
}

function TenantForm() {
  const known = principal.value?.tenants ?? [];
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const tenant = new FormData(event.currentTarget as HTMLFormElement).get("tenant");
    logIn({ ...session.value, tenant: String(tenant).trim() });
  };
  return (
    <form class="row" onSubmit={submit}>
      <label>
        Tenant
        {known.length > 0 ? (
          <select name="tenant" value={tenantInUse.value}>
            {known.map((tenant) => (
              <option key={tenant} value={tenant}>
                {tenant}
              </option>
            ))}
          </select>
        ) : (
          <input name="tenant" key={tenantInUse.value} defaultValue={tenantInUse.value} required />
        )}
      </label>
      <button type="submit">Switch</button>
    </form>
  );
}
