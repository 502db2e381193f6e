import assert from "node:assert/strict";
import { test } from "node:test";

// What the page finds in a browser when it starts; it has no store here, which it can do without.
globalThis.document = { documentElement: { dataset: { access: "tokens" } } };
const { send } = await import("./transport");
const { logIn, logInReason } = await import("../session");

test("only a refusal of the token in use is a reason to log in again", async () => {
  for (const hasChanged of [true, false]) {
    let settle;
    globalThis.fetch = () => new Promise((resolve) => (settle = resolve));
    const asked = send("api/v1/query");
    if (hasChanged) logIn({ token: "new", tenant: "" });
    settle(new Response("refused", { status: 401 }));
    await assert.rejects(asked, { message: "refused" });
    assert.equal(logInReason.value, hasChanged ? "" : "refused");
  }
});
