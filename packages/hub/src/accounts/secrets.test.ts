import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { cookieOf, PASSWORD, postJson, startTestHub, type TestHub } from "../testing/test-hub.ts";
import { createAccounts } from "./accounts.ts";
import { createSecretStore, KEYS_PER_USER_MAX } from "./secrets.ts";

let hub: TestHub;
let owner: { userId: string; cookie: string };
beforeAll(async () => {
  hub = await startTestHub();
  owner = await hub.signUp();
});
afterAll(() => hub?.close());

const as = ({ cookie }: { cookie: string }) => ({ cookie, origin: hub.url });
const get = (path: string, headers: Record<string, string> = {}) => fetch(`${hub.url}${path}`, { headers });

async function makeKey(fields: Record<string, unknown> = {}, user = owner) {
  const response = await postJson(`${hub.url}/api/v1/keys`, { label: "k", ...fields }, as(user));
  return (await response.json()) as { key: { id: string; prefix: string }; secret: string };
}

/** A store of its own, as another hub has, that counts what it asks the database. */
function storeOf(nowMs = () => Date.now()) {
  const query = vi.spyOn(hub.pool, "query");
  query.mockClear();
  const store = createSecretStore("api_keys", hub.pool, nowMs);
  return { store, asked: () => query.mock.calls.filter(([sql]) => String(sql).startsWith("SELECT")).length };
}

describe("a secret", () => {
  test("is in no table, whole or in its last half; its hash is", async () => {
    const { key, secret } = await makeKey();
    const token = await postJson(`${hub.url}/api/v1/agent-tokens`, { label: "rig" }, as(owner));
    const { secret: agentSecret } = (await token.json()) as { secret: string };
    const { rows: tables } = await hub.pool.query<{ name: string }>(
      `SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name FROM pg_tables
       WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`,
    );
    expect(tables.length).toBeGreaterThan(10);
    for (const { name } of tables) {
      for (const part of [secret, agentSecret, PASSWORD].map((text) => text.slice(-20))) {
        const { rows } = await hub.pool.query(`SELECT 1 FROM ${name} t WHERE strpos(t::text, $1) > 0`, [
          part,
        ]);
        expect({ table: name, found: rows.length }).toEqual({ table: name, found: 0 });
      }
    }
    const { rows } = await hub.pool.query(`SELECT length(hash) AS length FROM api_keys WHERE id = $1`, [
      key.id,
    ]);
    expect(rows).toEqual([{ length: 32 }]);
  });

  test("is shown once: lists have its beginning only", async () => {
    const { key, secret } = await makeKey();
    const text = await (await get("/api/v1/keys", as(owner))).text();
    expect(text).toContain(key.prefix);
    expect(text).not.toContain(secret);
    expect(secret).toMatch(/^gfe_sk_[\w-]{43}$/);
    expect(secret.startsWith(key.prefix)).toBe(true);
  });

  test("opens the door as Bearer or x-api-key, and never from the address", async () => {
    const { secret } = await makeKey();
    expect((await get("/api/v1/me", { authorization: `Bearer ${secret}` })).status).toBe(200);
    expect((await get("/api/v1/me", { "x-api-key": secret })).status).toBe(200);
    for (const name of ["key", "api_key", "token", "authorization", "x-api-key"])
      expect((await get(`/api/v1/me?${name}=${secret}`)).status).toBe(401);
  });

  test("does what its scopes say and no more", async () => {
    const { secret } = await makeKey({ scopes: ["read"] });
    const authorization = `Bearer ${secret}`;
    expect((await get("/api/v1/me", { authorization })).status).toBe(200);
    const refused = await postJson(`${hub.url}/api/v1/keys`, { label: "more" }, { authorization });
    expect(refused.status).toBe(403);
    expect(await refused.json()).toMatchObject({ code: "scope_missing" });
  });

  test("of an agent is no API key", async () => {
    const token = await postJson(`${hub.url}/api/v1/agent-tokens`, { label: "rig" }, as(owner));
    const { secret } = (await token.json()) as { secret: string };
    expect(secret).toMatch(/^gfe_at_/);
    expect((await get("/api/v1/me", { authorization: `Bearer ${secret}` })).status).toBe(401);
  });

  test("cannot be revoked, nor seen, by another account", async () => {
    const { key, secret } = await makeKey();
    const other = await hub.signUp();
    const revoked = await fetch(`${hub.url}/api/v1/keys/${key.id}`, { method: "DELETE", headers: as(other) });
    expect(revoked.status).toBe(404);
    expect(await (await get("/api/v1/keys", as(other))).json()).toEqual({ keys: [] });
    expect((await get("/api/v1/me", { authorization: `Bearer ${secret}` })).status).toBe(200);
  });
});

describe("what cannot be made", () => {
  test.each([
    [{ scopes: ["everything"] }, "scopes"],
    [{ scopes: [] }, "scopes"],
    [{ expires_at: "2020-01-01T00:00:00Z" }, "expires_at"],
    [{ expires_at: "soon" }, "expires_at"],
    [{ budget_micro: "-1" }, "budget_micro"],
    [{ label: "" }, "label"],
  ])("%j names the field", async (fields, param) => {
    const response = await postJson(`${hub.url}/api/v1/keys`, { label: "k", ...fields }, as(owner));
    expect(response.status).toBe(400);
    expect((await response.json()).param).toContain(param);
  });

  test("more than the limit", async () => {
    const user = await hub.signUp();
    const { store } = storeOf();
    for (let i = 0; i < KEYS_PER_USER_MAX; i++) await store.create(user.userId, { label: `${i}` });
    await expect(store.create(user.userId, { label: "one more" })).rejects.toMatchObject({
      code: "conflict",
    });
    await store.close();
  });
});

describe("an expired or revoked key says so", () => {
  test("revoked: at once, though it was just used", async () => {
    const { key, secret } = await makeKey();
    const authorization = `Bearer ${secret}`;
    expect((await get("/api/v1/me", { authorization })).status).toBe(200);
    const revoked = await fetch(`${hub.url}/api/v1/keys/${key.id}`, { method: "DELETE", headers: as(owner) });
    expect(revoked.status).toBe(204);
    const refused = await get("/api/v1/me", { authorization });
    expect(refused.status).toBe(401);
    expect(await refused.json()).toMatchObject({ code: "key_revoked" });
  });

  test("expired: to the moment, from the cache too", async () => {
    let nowMs = Date.now();
    const { store } = storeOf(() => nowMs);
    const expiresAt = new Date(nowMs + 5_000);
    const { secret } = await store.create(owner.userId, { label: "short", expiresAt });
    await store.authenticate(secret);
    nowMs = expiresAt.getTime() - 1;
    await store.authenticate(secret);
    nowMs += 1;
    await expect(store.authenticate(secret)).rejects.toMatchObject({ code: "key_expired" });
    await store.close();
  });

  test("unknown: no matter how it looks", async () => {
    for (const secret of [
      "gfe_sk_",
      `gfe_sk_${"x".repeat(43)}`,
      "gfe_",
      `gfe_sk_${"x".repeat(5000)}`,
      "gfe_sk_\u00fc",
    ]) {
      const response = await get("/api/v1/me", { authorization: `Bearer ${secret}` });
      expect(response.status).toBe(401);
      expect(await response.json()).toMatchObject({ code: "invalid_api_key" });
    }
  });
});

describe("the hot path", () => {
  test("asks the database once a key, and once for a secret that does not exist", async () => {
    const { secret } = await makeKey();
    const { store, asked } = storeOf();
    for (let i = 0; i < 5; i++) await store.authenticate(secret);
    expect(asked()).toBe(1);
    const guess = `gfe_sk_${"y".repeat(43)}`;
    for (let i = 0; i < 5; i++) await store.authenticate(guess).catch(() => {});
    expect(asked()).toBe(2);
    await store.close();
  });

  test("writes when a key was last used, in the background", async () => {
    const { key, secret } = await makeKey();
    const { store } = storeOf();
    await store.authenticate(secret);
    await store.close(); // writes what is still unwritten
    const { rows } = await hub.pool.query(`SELECT last_used_at FROM api_keys WHERE id = $1`, [key.id]);
    expect(rows[0].last_used_at).toBeInstanceOf(Date);
  });
});

describe("another hub on the same database", () => {
  test("hears of a revocation within a second, and again after its connection was lost", async () => {
    const pool = new pg.Pool({ connectionString: hub.pool.options.connectionString, max: 2 });
    pool.on("error", () => {});
    const other = createAccounts({
      pool,
      baseUrl: hub.url,
      secret: "0".repeat(32),
      trustedOrigins: [],
      loginsMax: 3,
      oauth: {},
      onUserCreated: async () => {},
      nowMs: Date.now,
      log: () => {},
    });
    try {
      const first = await makeKey();
      await other.keys.authenticate(first.secret);
      await listening();
      const heard = revocation(other, first.key.id);
      await fetch(`${hub.url}/api/v1/keys/${first.key.id}`, { method: "DELETE", headers: as(owner) });
      await heard;
      await expect(other.keys.authenticate(first.secret)).rejects.toMatchObject({ code: "key_revoked" });

      const second = await makeKey();
      await other.keys.authenticate(second.secret);
      const heardLater = revocation(other, second.key.id);
      await hub.pool.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()`,
      );
      await fetch(`${hub.url}/api/v1/keys/${second.key.id}`, { method: "DELETE", headers: as(owner) });
      await heardLater;
      await expect(other.keys.authenticate(second.secret)).rejects.toMatchObject({ code: "key_revoked" });
    } finally {
      await other.close();
      await pool.end();
    }
  });

  const revocation = (accounts: ReturnType<typeof createAccounts>, id: string) =>
    new Promise<void>((resolve) => accounts.keys.onRevoked((revoked) => revoked === id && resolve()));

  /** The hub's listener and the other's. */
  async function listening(): Promise<void> {
    for (;;) {
      const { rows } = await hub.pool.query(
        `SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()`,
      );
      if (rows.length >= 2) return;
      await sleep(20);
    }
  }
});

test("what the table of sessions holds opens nothing by itself", async () => {
  const { email, userId } = await hub.signUp();
  const signedIn = await postJson(`${hub.url}/api/auth/sign-in/email`, { email, password: PASSWORD });
  expect(cookieOf(signedIn)).toContain("session_token");
  const { rows } = await hub.pool.query(`SELECT "token" FROM "session" WHERE "userId" = $1`, [userId]);
  for (const { token } of rows) {
    expect((await get("/api/v1/me", { authorization: `Bearer ${token}` })).status).toBe(401);
    expect((await get("/api/v1/me", { cookie: `gfe.session_token=${token}` })).status).toBe(401);
  }
});
