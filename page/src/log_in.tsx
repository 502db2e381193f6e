/** Asks for a token and a tenant where the service wants them. */
import { hasTenants, logIn, session, usesTokens } from "./session";
import { Dialog } from "./ui/dialog";

export function LogIn({ reason }: { reason: string }) {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(data.get(name) ?? "").trim();
    logIn({ token: text("token"), tenant: text("tenant") });
  };
  return (
    <Dialog title="Log in">
      <form class="log-in" onSubmit={submit}>
        <p role="alert">{reason}</p>
        {usesTokens && (
          <label>
            Token
            <input name="token" type="password" autocomplete="current-password" required autofocus />
          </label>
        )}
        {hasTenants && (
          <label>
            Tenant{usesTokens && " (if the token has several)"}
            <input name="tenant" defaultValue={session.value.tenant} required={!usesTokens} />
          </label>
        )}
        <p class="hint">
          Whoever operates the service makes tokens with <code>promcompat token create</code>. This tab
          forgets the token when it is closed.
        </p>
        <button type="submit">Log in</button>
      </form>
    </Dialog>
  );
}
