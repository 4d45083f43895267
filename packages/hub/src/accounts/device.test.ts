import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { postJson, startTestHub, type TestHub } from "../testing/test-hub.ts";

let hub: TestHub;
let owner: { userId: string; cookie: string };
beforeAll(async () => {
  hub = await startTestHub();
  owner = await hub.signUp();
});
afterAll(() => hub?.close());
afterEach(() => vi.useRealTimers());

interface Grant {
  device_code: string;
  user_code: string;
  verification_uri: string;
  verification_uri_complete: string;
  interval: number;
  expires_in: number;
}

async function ask(scope = "agent host=rig-1"): Promise<Grant> {
  const response = await postJson(`${hub.url}/api/auth/device/code`, { client_id: "gfe-agent", scope });
  expect(response.status).toBe(200);
  return (await response.json()) as Grant;
}

async function poll({ device_code }: Pick<Grant, "device_code">, fields: Record<string, unknown> = {}) {
  const response = await postJson(`${hub.url}/api/v1/device/token`, {
    device_code,
    client_id: "gfe-agent",
    label: "rig-1",
    ...fields,
  });
  return { status: response.status, body: (await response.json()) as Record<string, string> };
}

const look = (userCode: string, cookie = owner.cookie) =>
  fetch(`${hub.url}/api/v1/device/${userCode}`, { headers: { cookie } });
const decide = (userCode: string, approve: boolean, cookie = owner.cookie, origin = hub.url) =>
  postJson(`${hub.url}/api/v1/device/${userCode}`, { approve }, { cookie, origin });

/** Lets the time between two polls pass, for the database and not for us. */
async function wait({ device_code }: Grant): Promise<void> {
  await hub.pool.query(`UPDATE "deviceCode" SET "lastPolledAt" = NULL WHERE "deviceCode" = $1`, [
    device_code,
  ]);
}

test("an agent asks, its owner approves in the browser, the agent gets a token and nobody a session", async () => {
  const grant = await ask();
  expect(grant.verification_uri).toBe(`${hub.url}/device`);
  expect(grant.verification_uri_complete).toBe(`${hub.url}/device?user_code=${grant.user_code}`);
  expect(await poll(grant)).toEqual({ status: 400, body: { error: "authorization_pending" } });

  const seen = await look(grant.user_code.toLowerCase());
  expect(await seen.json()).toMatchObject({
    ...{ client: "gfe-agent", host_name: "rig-1", state: "pending" },
    ...{ gpu: null, address: expect.stringContaining("127.0.0.1") },
  });
  expect((await decide(grant.user_code, true)).status).toBe(204);

  await wait(grant);
  const sessions = `SELECT count(*)::int AS n FROM "session" WHERE "userId" = $1`;
  const before = (await hub.pool.query(sessions, [owner.userId])).rows[0].n;
  const { status, body } = await poll(grant);
  expect(status).toBe(200);
  expect(body.agent_token).toMatch(/^gfe_at_/);
  expect((await hub.pool.query(sessions, [owner.userId])).rows[0].n).toBe(before);

  const listed = await fetch(`${hub.url}/api/v1/agent-tokens`, { headers: { cookie: owner.cookie } });
  expect(await listed.json()).toMatchObject({ agent_tokens: [{ label: "rig-1", revoked_at: null }] });
});

test("a device code serves once, though two ask with it at once", async () => {
  const grant = await ask();
  await decide(grant.user_code, true);
  const answers = await Promise.all([poll(grant), poll(grant), poll(grant)]);
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
});

test("a denied one is told so", async () => {
  const grant = await ask();
  expect((await decide(grant.user_code, false)).status).toBe(204);
  expect(await poll(grant)).toEqual({ status: 400, body: { error: "access_denied" } });
  expect((await poll(grant)).body).toEqual({ error: "invalid_grant" });
});

test("asking faster than agreed is told to slow down", async () => {
  const grant = await ask();
  await poll(grant);
  expect(await poll(grant)).toEqual({ status: 400, body: { error: "slow_down" } });
});

test("an expired one is told so, and cannot be approved any more", async () => {
  const grant = await ask();
  await hub.pool.query(
    `UPDATE "deviceCode" SET "expiresAt" = now() - interval '1 s' WHERE "deviceCode" = $1`,
    [grant.device_code],
  );
  expect((await look(grant.user_code)).status).toBe(404);
  expect((await decide(grant.user_code, true)).status).toBe(404);
  expect(await poll(grant)).toEqual({ status: 400, body: { error: "expired_token" } });
});

test("only who looked first may approve, only signed in, and only on our own page", async () => {
  const grant = await ask();
  const other = await hub.signUp();
  expect((await look(grant.user_code)).status).toBe(200);
  expect((await look(grant.user_code, other.cookie)).status).toBe(403);
  expect((await decide(grant.user_code, true, other.cookie)).status).toBe(403);
  expect((await decide(grant.user_code, true, "")).status).toBe(401);
  expect((await decide(grant.user_code, true, owner.cookie, "https://evil.example")).status).toBe(403);
  const { secret } = (await (
    await postJson(
      `${hub.url}/api/v1/keys`,
      { label: "all", scopes: ["inference", "read", "manage"] },
      { cookie: owner.cookie, origin: hub.url },
    )
  ).json()) as { secret: string };
  const byKey = await postJson(
    `${hub.url}/api/v1/device/${grant.user_code}`,
    { approve: true },
    { authorization: `Bearer ${secret}` },
  );
  expect(byKey.status).toBe(403);
  expect((await poll(grant)).body).toEqual({ error: "authorization_pending" });
});

test("what is made up is refused by name", async () => {
  expect((await poll({ device_code: "made-up" })).body).toEqual({ error: "invalid_grant" });
  expect((await look("AAAA1111")).status).toBe(404);
  const grant = await ask();
  expect((await poll(grant, { client_id: "somebody" })).body).toEqual({ error: "invalid_grant" });
  const stranger = await postJson(`${hub.url}/api/auth/device/code`, { client_id: "somebody" });
  expect(stranger.status).toBe(400);
  expect(await stranger.json()).toMatchObject({ error: "invalid_client" });
});

test("a host name that tries to be more is cut to a name", async () => {
  const grant = await ask(`agent host=${"x".repeat(500)}`);
  const { host_name } = (await (await look(grant.user_code)).json()) as { host_name: string };
  expect(host_name).toBe("x".repeat(80));
});

test("an address that is claimed is not shown, in whatever form", async () => {
  const scope = "agent host=box from=8.8.8.8";
  let seen = 0;
  const asJson = JSON.stringify({ client_id: "gfe-agent", scope });
  const both = `{"a":"&client_id=gfe-agent&scope=${encodeURIComponent(scope)}&b=","client_id":"gfe-agent"}`;
  for (const [type, body] of [
    ["application/json", asJson],
    ["application/x-www-form-urlencoded", new URLSearchParams({ client_id: "gfe-agent", scope }).toString()],
    ["application/x-www-form-urlencoded", both],
    ["text/plain", asJson],
  ] as const) {
    const answer = await fetch(`${hub.url}/api/auth/device/code`, {
      ...{ method: "POST", headers: { "content-type": type }, body },
    });
    if (answer.status !== 200) continue;
    const { user_code } = (await answer.json()) as Grant;
    const { address } = (await (await look(user_code)).json()) as { address: string };
    expect(address, body).toContain("127.0.0.1");
    seen++;
  }
  expect(seen).toBeGreaterThan(0);
});

test("a hundred agents behind one address all get an answer", async () => {
  const { device_code } = await ask();
  const answers = await Promise.all(Array.from({ length: 400 }, () => poll({ device_code })));
  expect(new Set(answers.map(({ body }) => body.error))).toEqual(
    new Set(["authorization_pending", "slow_down"]),
  );
});

test("guessing codes is throttled, whatever address the guesser claims", async () => {
  const statuses = [];
  for (let i = 0; i < 40; i++) {
    const response = await fetch(`${hub.url}/api/v1/device/ABCD${String(i).padStart(4, "2")}`, {
      headers: { cookie: owner.cookie, "x-gfe-client-address": `203.0.113.${i}` },
    });
    statuses.push(response.status);
  }
  expect(statuses.at(-1)).toBe(429);
});
