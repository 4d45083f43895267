import { afterAll, beforeAll, expect, test } from "vitest";
import { PASSWORD, postJson, startTestHub, type TestHub } from "../testing/test-hub.ts";

let hub: TestHub;
beforeAll(async () => {
  hub = await startTestHub({ GFE_LOGINS_MAX: "3", GFE_SIGNUP_CREDITS: "0" });
});
afterAll(() => hub?.close());

test("forerunner: no login throttling: after three bad passwords even the right one has to wait", async () => {
  const { email } = await hub.signUp();
  const signIn = (password: string, headers: Record<string, string> = {}) =>
    postJson(`${hub.url}/api/auth/sign-in/email`, { email, password }, headers);
  for (let i = 0; i < 3; i++) expect((await signIn(`wrong password ${i}`)).status).toBe(401);
  const refused = await signIn(PASSWORD);
  expect(refused.status).toBe(429);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  // No header that a caller can send makes it somebody else.
  for (const header of ["x-forwarded-for", "x-gfe-client-address", "x-real-ip", "forwarded"])
    expect((await signIn(PASSWORD, { [header]: "203.0.113.9" })).status).toBe(429);
});

test("a signup credit of 0 opens the account and moves nothing", async () => {
  const { cookie } = await hub.signUp();
  const response = await fetch(`${hub.url}/api/v1/ledger`, { headers: { cookie } });
  expect(await response.json()).toEqual({ entries: [], next: null });
  const { rows } = await hub.pool.query(`SELECT "id" FROM "user" WHERE NOT "signupGranted"`);
  expect(rows).toEqual([]);
});
