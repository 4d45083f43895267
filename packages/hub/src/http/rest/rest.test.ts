import {
  agentTokenSchema,
  apiKeySchema,
  jobSchema,
  type KeyScope,
  ledgerEntrySchema,
  ledgerVerdictSchema,
  marketSnapshotSchema,
  meSchema,
  nodeSchema,
  publicConfigSchema,
} from "@gfe/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { call, newAgentToken, newKey, type Person } from "../../testing/test-api.ts";
import { startTestHub, type TestHub } from "../../testing/test-hub.ts";
import { joinNode, type TestNode } from "../../testing/test-node.ts";

let hub: TestHub;
let operator: Person;
let provider: Person;
let consumer: Person;
let stranger: Person;
let node: TestNode;
let keys: Record<KeyScope, string>;
/** The consumer's, oldest first. */
const jobIds: string[] = [];
const JOBS = 5;

beforeAll(async () => {
  hub = await startTestHub();
  operator = await hub.signUp();
  provider = await hub.signUp();
  consumer = await hub.signUp();
  stranger = await hub.signUp();
  keys = Object.fromEntries(
    await Promise.all(
      (["inference", "read", "manage"] as const).map(async (scope) => [
        scope,
        (await newKey(hub, consumer, [scope])).key,
      ]),
    ),
  );
  node = await joinNode(hub.url, (await newAgentToken(hub, provider)).secret, { name: "quick-fox" });
  for (let i = 0; i < JOBS; i++) {
    const { body } = await call(hub, "POST /v1/chat/completions", { key: keys.inference }, CHAT);
    jobIds.push(body.x_gfe.job_id);
  }
});
afterAll(() => hub?.close());

const CHAT = { model: "m", messages: [{ role: "user", content: "hi" }], max_tokens: 10 };
const get = (path: string, as?: Parameters<typeof call>[2]) => call(hub, `GET ${path}`, as);

describe("anybody", () => {
  test("sees what a sign-in page needs, and no more", async () => {
    const { body } = await get("/api/v1/config");
    expect(publicConfigSchema.parse(body)).toEqual(body);
    expect(body).toMatchObject({ signup_credits_micro: "100000000", fee_percent: 5, sign_in_with: [] });
  });

  test("sees the market: models, never who owns them", async () => {
    const { body } = await get("/api/v1/market");
    expect(marketSnapshotSchema.parse(body)).toEqual(body);
    expect(body.models).toMatchObject([{ model: "m", nodes: 1, providers: 1, slots: 4, free_slots: 4 }]);
    expect(body.models).toMatchObject([{ reputation: null }]); // all its nodes are newcomers
    expect(JSON.stringify(body)).not.toContain(provider.userId);
  });

  test.each([
    "me",
    "keys",
    "agent-tokens",
    "jobs",
    "jobs/x",
    "ledger",
    "ledger/verify",
    "nodes",
    "device/ABCDEFGH",
  ])("is asked to sign in at /api/v1/%s", async (path) => {
    const { status, headers, body } = await get(`/api/v1/${path}`);
    expect([status, body.code]).toEqual([401, "invalid_api_key"]);
    expect(headers.get("content-type")).toMatch(/^application\/problem\+json/);
    expect((await get(`/api/v1/${path}`, { key: "gfe_sk_nonsense" })).status).toBe(401);
    expect((await get(`/api/v1/${path}`, { cookie: "gfe.session_token=nonsense" })).status).toBe(401);
  });
});

describe("a key may do what its scopes say", () => {
  const routes: [KeyScope, string, unknown?][] = [
    ["read", "GET /api/v1/me"],
    ["read", "GET /api/v1/jobs"],
    ["read", "GET /api/v1/ledger"],
    ["read", "GET /api/v1/nodes"],
    ["read", "GET /api/computing/jobs/"],
    ["read", "GET /api/computing/provider-stats/"],
    ["manage", "GET /api/v1/keys"],
    ["manage", "POST /api/v1/keys", { label: "more", scopes: ["manage"] }],
    ["manage", "DELETE /api/v1/keys/key_none"],
    ["manage", "GET /api/v1/agent-tokens"],
    ["manage", "POST /api/v1/agent-tokens", { label: "more" }],
    ["manage", "DELETE /api/v1/agent-tokens/at_none"],
    ["inference", "POST /v1/chat/completions", CHAT],
    ["inference", "GET /v1/files"],
    ["inference", "GET /v1/batches"],
    ["inference", "DELETE /v1/files/none"],
    ["inference", "POST /v1/batches", {}],
    ["inference", "POST /api/v1/jobs", { body: CHAT }],
    ["inference", "DELETE /api/v1/jobs/none"],
    ["read", "GET /api/v1/jobs/none/result"],
    ["manage", "GET /api/v1/webhooks"],
    ["manage", "POST /api/v1/webhooks", { url: "https://example.org/hook" }],
    ["manage", "DELETE /api/v1/webhooks/none"],
    ["inference", "POST /api/computing/submit-job/", { model: "none", prompt: "hi" }],
  ];
  test.each(routes)("%s: %s", async (needed, request, body) => {
    for (const scope of ["inference", "read", "manage"] as const) {
      const answer = await call(hub, request, { key: keys[scope] }, body);
      const code = answer.body?.code ?? answer.body?.error?.code;
      if (scope === needed) expect([401, 403]).not.toContain(answer.status);
      else expect([answer.status, code]).toEqual([403, "scope_missing"]);
    }
  });

  test("no key approves a device, whatever its scopes: that is for a person", async () => {
    for (const request of ["GET /api/v1/device/ABCDEFGH", "POST /api/v1/device/ABCDEFGH"]) {
      const body = request.startsWith("POST") ? { approve: true } : undefined;
      const { status } = await call(hub, request, { key: keys.manage }, body);
      expect(status).toBe(403);
    }
  });

  test("no key proves the books, not even an operator's", async () => {
    const { key } = await newKey(hub, operator, ["read", "manage", "inference"]);
    expect((await get("/api/v1/ledger/verify", { key })).status).toBe(403);
  });
});

describe("an account", () => {
  test("sees itself and its balance", async () => {
    const { body } = await get("/api/v1/me", { key: keys.read });
    expect(meSchema.parse(body)).toEqual(body);
    expect(body).toMatchObject({
      user: { id: consumer.userId, email: consumer.email, role: "consumer" },
      balance: { held_micro: "0" },
    });
  });

  test("sees its keys and what is left of them, never their secrets", async () => {
    const { key } = await newKey(hub, consumer, ["inference"], { budget_micro: "5000000" });
    await call(hub, "POST /v1/chat/completions", { key }, CHAT);
    const { body } = await get("/api/v1/keys", consumer);
    for (const one of body.keys) expect(apiKeySchema.strict().parse(one)).toEqual(one);
    expect(body.keys).toContainEqual(
      expect.objectContaining({ budget_micro: "5000000", spent_micro: "1000000", prefix: key.slice(0, 12) }),
    );
    for (const secret of [...Object.values(keys), key]) expect(JSON.stringify(body)).not.toContain(secret);
  });

  test("sees its agent tokens, never their secrets", async () => {
    const { secret } = await newAgentToken(hub, provider);
    const { body } = await get("/api/v1/agent-tokens", provider);
    for (const one of body.agent_tokens) expect(agentTokenSchema.strict().parse(one)).toEqual(one);
    expect(body.agent_tokens.length).toBeGreaterThanOrEqual(2);
    expect(JSON.stringify(body)).not.toContain(secret);
  });

  test("sees its nodes, online and what they offer", async () => {
    const { body } = await get("/api/v1/nodes", provider);
    for (const one of body.nodes) expect(nodeSchema.parse(one)).toEqual(one);
    expect(body.nodes).toMatchObject([{ id: node.nodeId, name: "quick-fox", online: true, running: 0 }]);
  });

  test("sees its jobs as who asked, and as who answered", async () => {
    const asked = await get(`/api/v1/jobs/${jobIds[0]}`, consumer);
    expect(jobSchema.parse(asked.body)).toEqual(asked.body);
    expect(asked.body).toMatchObject({ state: "completed", cost_micro: "1000000", fee_micro: "50000" });
    expect((await get(`/api/v1/jobs/${jobIds[0]}`, provider)).body).toEqual(asked.body);
    const served = await get("/api/v1/jobs?role=provider", provider);
    expect(served.body.jobs.map(({ id }: { id: string }) => id)).toEqual(expect.arrayContaining(jobIds));
    expect((await get("/api/v1/jobs?role=provider", consumer)).body.jobs).toEqual([]);
  });

  test("sees what moved on its account, the other side only where that is the hub", async () => {
    const { body } = await get("/api/v1/ledger", provider);
    for (const entry of body.entries) expect(ledgerEntrySchema.parse(entry)).toEqual(entry);
    expect(body.entries.at(-1)).toMatchObject({ code: "signup", counterparty: "hub:signup" });
    expect(body.entries[0]).toMatchObject({
      code: "inference",
      counterparty: "account",
      amount_micro: "950000",
    });
    expect(JSON.stringify(body)).not.toContain(consumer.userId);
  });
});

describe("one model's address", () => {
  test.each(["nobody", "a%2Fb", "a/b:1b"])("of a model that nobody offers is not found: %s", async (name) => {
    const { status, body } = await get(`/v1/models/${name}`);
    expect([status, body.error.code, body.error.param]).toEqual([404, "model_not_found", "model"]);
  });

  test("may hold a percent sign", async () => {
    const { status, body } = await get("/v1/models/100%25");
    expect([status, body.error.code]).toEqual([404, "model_not_found"]);
  });
});

test("a key can give away no more than it has", async () => {
  const limited = await newKey(hub, operator, ["read", "manage"]);
  const ask = (key: string, scopes: string[]) =>
    call(hub, "POST /api/v1/keys", { key }, { label: "child", scopes });
  expect(await ask(limited.key, ["read", "inference"])).toMatchObject({
    status: 403,
    body: { code: "scope_missing" },
  });
  expect((await ask(limited.key, ["read"])).status).toBe(201);
  const bounded = await newKey(hub, operator, ["inference", "manage"], { budget_micro: "1000000" });
  expect(await ask(bounded.key, ["inference"])).toMatchObject({ status: 403, body: { code: "forbidden" } });
  const capped = await newKey(hub, operator, ["inference", "manage"], { max_price: { per_request: "1" } });
  expect(await ask(capped.key, ["inference"])).toMatchObject({ status: 403, body: { code: "forbidden" } });
  const slow = await newKey(hub, operator, ["inference", "manage"], { requests_per_minute: 5 });
  expect(await ask(slow.key, ["inference"])).toMatchObject({ status: 403, body: { code: "forbidden" } });
});

test("a scope that is asked for twice is given once, and more than there can be are refused", async () => {
  const ask = (scopes: string[]) => call(hub, "POST /api/v1/keys", operator, { label: "k", scopes });
  const { body } = await ask(["read", "inference", "read"]);
  expect(body.key.scopes).toEqual(["read", "inference"]);
  expect((await ask(new Array(5000).fill("read"))).body).toMatchObject({ status: 400, param: "scopes" });
});

test("a wrong method is told from a wrong address, with the right ones", async () => {
  const wrong = await call(hub, "GET /v1/chat/completions", { key: keys.inference });
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "POST"]);
  expect(wrong.body.error).toMatchObject({
    code: "method_not_allowed",
    message: "/v1/chat/completions takes POST",
  });
  for (const [request, allow] of [
    ["PUT /api/v1/keys/key_1/?x=1", "DELETE"],
    ["PUT /api/v1/jobs/job_1", "DELETE, GET, HEAD"],
    ["HEAD /api/v1/live", "GET"],
    ["POST /api/computing/models", "GET, HEAD"],
  ] as const) {
    const { status, headers } = await call(hub, request, consumer);
    expect([request, status, headers.get("allow")]).toEqual([request, 405, allow]);
  }
});

describe("what is another account's", () => {
  test.each<[string, () => string]>([
    ["jobs", () => "/api/v1/jobs"],
    ["jobs that it served", () => "/api/v1/jobs?role=provider"],
    ["nodes", () => "/api/v1/nodes"],
    ["keys", () => "/api/v1/keys"],
    ["agent tokens", () => "/api/v1/agent-tokens"],
  ])("is in nobody else's list: %s", async (_name, path) => {
    const { body } = await get(path(), stranger);
    expect(Object.values(body)[0]).toEqual([]);
  });

  test("a ledger entry", async () => {
    expect((await get("/api/v1/ledger", stranger)).body.entries).toMatchObject([{ code: "signup" }]);
  });

  test("a job is forbidden, one that does not exist is not found", async () => {
    const { status, body } = await get(`/api/v1/jobs/${jobIds[0]}`, stranger);
    expect([status, body.code]).toEqual([403, "forbidden"]);
    expect((await get(`/api/v1/jobs/${jobIds[0]}`, operator)).status).toBe(403);
    expect((await get("/api/v1/jobs/job_none", stranger)).status).toBe(404);
  });

  test("a key cannot be revoked, and goes on working", async () => {
    const { id, key } = await newKey(hub, consumer, ["read"]);
    expect((await call(hub, `DELETE /api/v1/keys/${id}`, stranger)).status).toBe(404);
    expect((await get("/api/v1/me", { key })).status).toBe(200);
    expect((await call(hub, `DELETE /api/v1/keys/${id}`, consumer)).status).toBe(204);
    const { status, body } = await get("/api/v1/me", { key });
    expect([status, body.code]).toEqual([401, "key_revoked"]);
  });

  test("an agent token cannot be revoked, and its node stays", async () => {
    const { id, secret } = await newAgentToken(hub, provider);
    expect((await call(hub, `DELETE /api/v1/agent-tokens/${id}`, stranger)).status).toBe(404);
    const other = await joinNode(hub.url, secret, { offer: { model: "other" } });
    await other.leave();
    expect((await call(hub, `DELETE /api/v1/agent-tokens/${id}`, provider)).status).toBe(204);
    await expect(joinNode(hub.url, secret)).rejects.toThrow("401");
  });
});

describe("lists come in pages", () => {
  interface Page {
    ids: string[];
    next: string | null;
  }
  const pageOf = async (path: string, list: string, as: Person): Promise<Page> => {
    const { body } = await get(path, as);
    return { ids: body[list].map(({ id }: { id: string }) => id), next: body.next };
  };

  test.each([
    ["jobs", "jobs", 2],
    ["jobs", "jobs", 1],
    ["ledger", "entries", 3],
  ])("every entry of /%s once, newest first: %s by %d", async (path, list, limit) => {
    const whole = await pageOf(`/api/v1/${path}?limit=200`, list, consumer);
    expect(whole.next).toBeNull();
    const seen: string[] = [];
    for (let next: string | null = "", pages = 0; next !== null && pages < 100; pages++) {
      const before = next === "" ? "" : `&before=${next}`;
      const page: Page = await pageOf(`/api/v1/${path}?limit=${limit}${before}`, list, consumer);
      expect(page.ids.length).toBeLessThanOrEqual(limit);
      seen.push(...page.ids);
      next = page.next;
    }
    expect(seen).toEqual(whole.ids);
  });

  test("jobs of one state only", async () => {
    const completed = await pageOf("/api/v1/jobs?state=completed", "jobs", consumer);
    expect(completed.ids).toEqual(expect.arrayContaining(jobIds));
    expect((await pageOf("/api/v1/jobs?state=running", "jobs", consumer)).ids).toEqual([]);
  });
});

describe("bad input is refused with the name of the field", () => {
  test.each<[string, string, unknown?]>([
    ["limit", "GET /api/v1/jobs?limit=0"],
    ["limit", "GET /api/v1/jobs?limit=201"],
    ["limit", "GET /api/v1/ledger?limit=abc"],
    ["before", `GET /api/v1/jobs?before=${"x".repeat(81)}`],
    ["before", "GET /api/v1/ledger?before=job_1"],
    ["before", "GET /api/v1/ledger?before=-1"],
    ["state", "GET /api/v1/jobs?state=done"],
    ["role", "GET /api/v1/jobs?role=operator"],
    ["label", "POST /api/v1/keys", {}],
    ["label", "POST /api/v1/keys", { label: " " }],
    ["scopes", "POST /api/v1/keys", { label: "k", scopes: [] }],
    ["scopes.0", "POST /api/v1/keys", { label: "k", scopes: ["root"] }],
    ["budget_micro", "POST /api/v1/keys", { label: "k", budget_micro: "-1" }],
    ["budget_micro", "POST /api/v1/keys", { label: "k", budget_micro: 5 }],
    ["max_price.per_request", "POST /api/v1/keys", { label: "k", max_price: { per_request: "0.5" } }],
    ["requests_per_minute", "POST /api/v1/keys", { label: "k", requests_per_minute: 0 }],
    ["max_price", "POST /api/v1/keys", { label: "k", max_price: { prompt: "1" } }],
    ["expires_at", "POST /api/v1/keys", { label: "k", expires_at: "tomorrow" }],
    ["expires_at", "POST /api/v1/keys", { label: "k", expires_at: "2020-01-01T00:00:00Z" }],
    ["label", "POST /api/v1/agent-tokens", { label: "x".repeat(81) }],
    ["device_code", "POST /api/v1/device/token", { client_id: "gfe-agent" }],
    ["days", "GET /api/computing/provider-stats/?days=0"],
    ["prompt", "POST /api/computing/submit-job/", { model: "m", prompt: "" }],
  ])("%s: %s %j", async (field, request, body) => {
    const answer = await call(hub, request, consumer, body);
    expect([answer.status, answer.body.code, answer.body.param]).toEqual([400, "invalid_request", field]);
    expect(answer.body.detail).toContain(field);
  });

  test("a body that is not JSON, or said to be something else", async () => {
    const broken = await call(hub, "POST /api/v1/keys", consumer, '{"label": ');
    expect([broken.status, broken.body.code]).toEqual([400, "invalid_json"]);
    const text = await call(hub, "POST /api/v1/keys", consumer, "label=x", { "content-type": "text/plain" });
    expect([text.status, text.body.code]).toEqual([415, "unsupported_media_type"]);
  });

  test.each<[string, string, unknown?]>([
    ["id", "GET /api/v1/jobs/a%00b"],
    ["id", "DELETE /api/v1/keys/a%00b"],
    ["id", "GET /api/computing/jobs/a%00b/"],
    ["before", "GET /api/v1/jobs?before=a%00b"],
    ["userCode", "GET /api/v1/device/abcd%00"],
    ["label", "POST /api/v1/keys", { label: "a\u0000b" }],
    ["label", "POST /api/v1/agent-tokens", { label: "a\nb" }],
    ["device_code", "POST /api/v1/device/token", { device_code: "\u0000", client_id: "gfe-agent" }],
    ["prompt", "POST /api/computing/submit-job/", { model: "m", prompt: "a\u0000b" }],
  ])("%s, where it holds what the database cannot keep: %s", async (field, request, body) => {
    const answer = await call(hub, request, consumer, body);
    expect([answer.status, answer.body.param]).toEqual([400, field]);
  });

  test.each(["name", "email", "password"])(
    "a sign-up with a zero byte in its %s is no fault of ours",
    async (field) => {
      const person = { name: "Z", email: "zero@example.test", password: "correct horse battery" };
      const body = { ...person, [field]: "zero\u0000zero@example.test" };
      expect((await call(hub, "POST /api/auth/sign-up/email", undefined, body)).status).toBeLessThan(500);
    },
  );
});

describe("the books", () => {
  test("verify for an operator, and for nobody else", async () => {
    const { status, body } = await get("/api/v1/ledger/verify", operator);
    expect(status).toBe(200);
    expect(ledgerVerdictSchema.parse(body)).toEqual(body);
    expect(body.ok).toBe(true);
    expect((await get("/api/v1/ledger/verify", consumer)).status).toBe(403);
  });
});

test("a session is of no use to another site: what changes something wants our own origin", async () => {
  const label = { label: "stolen" };
  for (const headers of [{ origin: "https://evil.example" }, { origin: "null" }]) {
    const answer = await call(hub, "POST /api/v1/keys", undefined, label, {
      cookie: consumer.cookie,
      ...headers,
    });
    expect([answer.status, answer.body.code]).toEqual([403, "origin_refused"]);
  }
  const none = await call(hub, "POST /api/v1/keys", undefined, label, { cookie: consumer.cookie });
  expect(none.status).toBe(403);
});

test("a request keeps the id that its caller gave it, and gets one where that is none", async () => {
  const ask = async (id: string) =>
    (await call(hub, "GET /healthz", undefined, undefined, { "x-request-id": id })).headers.get(
      "x-request-id",
    );
  expect(await ask("my-request.42")).toBe("my-request.42");
  expect(await ask("short")).toMatch(/^req_/);
  expect(await ask("not an id, but a sentence")).toMatch(/^req_/);
});
