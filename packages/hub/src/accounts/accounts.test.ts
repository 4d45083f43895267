import { getMigrations } from "better-auth/db/migration";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cookieOf, PASSWORD, postJson, startTestHub, type TestHub } from "../testing/test-hub.ts";
import { createAuth } from "./auth.ts";
import { deleteExpired } from "./clean-up.ts";

let hub: TestHub;
beforeAll(async () => {
  hub = await startTestHub();
  await hub.signUp("operator@example.test");
});
afterAll(() => hub?.close());

const get = (path: string, headers: Record<string, string> = {}) => fetch(`${hub.url}${path}`, { headers });
const me = async (headers: Record<string, string>) => {
  const response = await get("/api/v1/me", headers);
  return { status: response.status, body: await response.json() };
};

describe("sign-up", () => {
  test("opens a ledger account with the signup credit as a transfer", async () => {
    const { cookie } = await hub.signUp();
    expect((await me({ cookie })).body.balance).toEqual({
      posted_micro: "100000000",
      held_micro: "0",
      available_micro: "100000000",
    });
    const { entries } = await (await get("/api/v1/ledger", { cookie })).json();
    expect(entries).toMatchObject([
      { amount_micro: "100000000", counterparty: "hub:signup", code: "signup" },
    ]);
  });

  test("makes the first account the operator and nobody else", async () => {
    await hub.signUp();
    const { rows } = await hub.pool.query(`SELECT "email" FROM "user" WHERE "role" = 'operator'`);
    expect(rows).toEqual([{ email: "operator@example.test" }]);
  });

  test("works for a program that sends no Origin", async () => {
    const response = await postJson(`${hub.url}/api/auth/sign-up/email`, {
      email: "program@example.test",
      password: PASSWORD,
      name: "P",
    });
    expect(response.status).toBe(200);
  });

  test("is refused from another site", async () => {
    const response = await postJson(
      `${hub.url}/api/auth/sign-up/email`,
      { email: "evil@example.test", password: PASSWORD, name: "P" },
      { origin: "https://evil.example", "sec-fetch-site": "cross-site" },
    );
    expect(response.status).toBe(403);
  });

  test("names a password that is too short", async () => {
    const response = await postJson(`${hub.url}/api/auth/sign-up/email`, {
      email: "short@example.test",
      password: "short",
      name: "P",
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "PASSWORD_TOO_SHORT" });
  });
});

describe("forerunner: role was writable by its own user", () => {
  const raised = { role: "operator", signupGranted: true, id: "usr_mine", emailVerified: true };

  test("at sign-up", async () => {
    const email = "raised@example.test";
    const body = { email, password: PASSWORD, name: "R", ...raised };
    await postJson(`${hub.url}/api/auth/sign-up/email`, body);
    const { rows } = await hub.pool.query(
      `SELECT "role", "emailVerified" FROM "user" WHERE "email" = $1 OR "id" = 'usr_mine'`,
      [email],
    );
    for (const row of rows) expect(row).toEqual({ role: "consumer", emailVerified: false });
  });

  test("by updating itself", async () => {
    const { cookie, userId } = await hub.signUp();
    await postJson(
      `${hub.url}/api/auth/update-user`,
      { name: "Renamed", ...raised },
      { cookie, origin: hub.url },
    );
    expect((await me({ cookie })).body.user).toMatchObject({ id: userId, role: "consumer" });
  });
});

describe("sessions", () => {
  test("are http-only, same-site cookies", async () => {
    const { email } = await hub.signUp();
    const response = await postJson(`${hub.url}/api/auth/sign-in/email`, { email, password: PASSWORD });
    const cookie = response.headers.getSetCookie().find((line) => line.includes("session_token"));
    expect(cookie).toMatch(/HttpOnly/i);
    expect(cookie).toMatch(/SameSite=Lax/i);
    expect((await me({ cookie: cookieOf(response) })).status).toBe(200);
  });

  test("serve as a bearer token for programs", async () => {
    const { email } = await hub.signUp();
    const response = await postJson(`${hub.url}/api/auth/sign-in/email`, { email, password: PASSWORD });
    const token = response.headers.get("set-auth-token")!;
    expect((await me({ authorization: `Bearer ${token}` })).status).toBe(200);
  });

  test("are never read from the address", async () => {
    const { cookie } = await hub.signUp();
    const token = decodeURIComponent(/session_token=([^;]+)/.exec(cookie)![1]!);
    for (const name of ["token", "session", "access_token", "session_token", "gfe.session_token"]) {
      const response = await get(`/api/v1/me?${name}=${encodeURIComponent(token)}`);
      expect(response.status).toBe(401);
    }
  });

  test("end with sign-out", async () => {
    const { cookie } = await hub.signUp();
    await postJson(`${hub.url}/api/auth/sign-out`, {}, { cookie, origin: hub.url });
    expect((await me({ cookie })).status).toBe(401);
  });

  test("change nothing for a page of another site, or one that hides where it is", async () => {
    const { cookie } = await hub.signUp();
    const forged: Record<string, string>[] = [{ cookie, origin: "https://evil.example" }, { cookie }];
    for (const headers of forged) {
      const response = await postJson(`${hub.url}/api/v1/keys`, { label: "stolen" }, headers);
      expect(response.status).toBe(403);
      expect(await response.json()).toMatchObject({ code: "origin_refused" });
    }
    const own = await postJson(`${hub.url}/api/v1/keys`, { label: "mine" }, { cookie, origin: hub.url });
    expect(own.status).toBe(201);
  });
});

describe("a sign-up that a crash cut short", () => {
  const cutShort = async (userId: string) => {
    await hub.pool.query(`UPDATE "user" SET "signupGranted" = false WHERE "id" = $1`, [userId]);
    const { rows } = await hub.pool.query(`SELECT "signupGranted" FROM "user" WHERE "id" = $1`, [userId]);
    expect(rows).toEqual([{ signupGranted: false }]);
  };

  test("is completed by the next log-in, and credited once", async () => {
    const { userId, email } = await hub.signUp();
    await cutShort(userId);
    const response = await postJson(`${hub.url}/api/auth/sign-in/email`, { email, password: PASSWORD });
    const { rows } = await hub.pool.query(`SELECT "signupGranted" FROM "user" WHERE "id" = $1`, [userId]);
    expect(rows).toEqual([{ signupGranted: true }]);
    expect((await me({ cookie: cookieOf(response) })).body.balance.posted_micro).toBe("100000000");
  });
});

test("expired sessions and codes are deleted, the others stay", async () => {
  const gone = await hub.signUp();
  const stays = await hub.signUp();
  await hub.pool.query(`UPDATE "session" SET "expiresAt" = now() - interval '2 hours' WHERE "userId" = $1`, [
    gone.userId,
  ]);
  await postJson(`${hub.url}/api/auth/device/code`, { client_id: "gfe-cli" });
  await hub.pool.query(`UPDATE "deviceCode" SET "expiresAt" = now() - interval '2 hours'`);
  expect(await deleteExpired(hub.pool)).toBe(2);
  expect((await me({ cookie: gone.cookie })).status).toBe(401);
  expect((await me({ cookie: stays.cookie })).status).toBe(200);
});

test("the tables have what the authentication library expects", async () => {
  const auth = createAuth({
    pool: hub.pool,
    baseUrl: hub.url,
    secret: "0".repeat(32),
    trustedOrigins: [],
    loginsMax: 3,
    oauth: {},
    onUser: async () => {},
    log: () => {},
  });
  const { toBeCreated, toBeAdded } = await getMigrations(auth.options);
  expect(toBeCreated).toEqual([]);
  expect(toBeAdded).toEqual([]);
});

test("a wrong password tells nothing of whether the account exists", async () => {
  const { email } = await hub.signUp();
  const answers = await Promise.all(
    [email, "nobody@example.test"].map(async (address) => {
      const response = await postJson(`${hub.url}/api/auth/sign-in/email`, {
        email: address,
        password: "wrong password",
      });
      return { status: response.status, body: await response.json() };
    }),
  );
  expect(answers[0]).toEqual(answers[1]);
  expect(answers[0]!.status).toBe(401);
});
