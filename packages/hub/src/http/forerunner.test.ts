import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { call, newAgentToken, newKey, type Person } from "../testing/test-api.ts";
import { startTestHub, type TestHub } from "../testing/test-hub.ts";
import { joinNode } from "../testing/test-node.ts";

let hub: TestHub;
let provider: Person;
let consumer: Person;
let key: string;
const DAY_MS = 86_400_000;
const CHAT = { model: "m", messages: [{ role: "user", content: "hi" }], max_tokens: 10 };

beforeAll(async () => {
  hub = await startTestHub({ GFE_FEE_PERCENT: "10" });
  provider = await hub.signUp();
  consumer = await hub.signUp();
  key = (await newKey(hub, consumer, ["inference", "read"])).key;
  await joinNode(hub.url, (await newAgentToken(hub, provider)).secret, { name: "quick-fox" });
  const second = await joinNode(hub.url, (await newAgentToken(hub, provider)).secret, {
    name: "thrifty-bee",
    offer: {
      model: "other",
      price: { per_request: "2500000", per_million_input: "0", per_million_output: "0" },
    },
    onStart(start, node) {
      if (start.body.max_tokens === 13)
        node.send({ type: "attempt.failed", attempt: start.attempt, code: "engine_error", message: "no" });
      else {
        node.say(start, "word");
        void node.done(start, 1);
      }
    },
  });
  for (const model of ["m", "m", "other"])
    await call(hub, "POST /v1/chat/completions", { key }, { ...CHAT, model });
  await call(hub, "POST /v1/chat/completions", { key }, { ...CHAT, model: "other", max_tokens: 13 });
  const old = await call(hub, "POST /v1/chat/completions", { key }, CHAT);
  await hub.pool.query("UPDATE jobs SET created_at = created_at - interval '40 days' WHERE id = $1", [
    old.body.x_gfe.job_id,
  ]);
  await second.leave();
  await onlyOneIsLeft();
});
afterAll(() => hub?.close());

const get = (path: string, as?: Parameters<typeof call>[2]) => call(hub, `GET /api/computing/${path}`, as);
/** A node that left is gone for the hub a little later. */
const onlyOneIsLeft = () => vi.waitFor(async () => expect((await get("stats/")).body.active_nodes).toBe(1));
const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

describe("provider-stats", () => {
  test("has every field that the forerunner's clients read", async () => {
    const { status, body } = await get("provider-stats/?days=30", provider);
    expect(status).toBe(200);
    const today = dayOf(Date.now());
    expect(body).toEqual({
      days: 30,
      total_earnings: "4.95",
      total_jobs_served: 4,
      period_earnings: "4.05",
      period_jobs_served: 3,
      active_nodes: 1,
      total_nodes: 2,
      earnings_by_day: [{ date: today, earnings: "4.05", jobs: 3 }],
      earnings_by_model: [
        { model: "m", earnings: "1.80", jobs: 2 },
        { model: "other", earnings: "2.25", jobs: 1 },
      ],
      consumer: { total_jobs: 0, total_spent: "0.00" },
      balance: "104.95",
      transactions: [
        expect.objectContaining({ amount: "0.90", type: "inference" }),
        expect.objectContaining({ amount: "2.25", type: "inference" }),
        expect.objectContaining({ amount: "0.90", type: "inference" }),
        expect.objectContaining({ amount: "0.90", type: "inference" }),
        expect.objectContaining({ amount: "100.00", type: "signup" }),
      ],
    });
  });

  test("reaches back as many days as are asked for", async () => {
    const { body } = await get("provider-stats/?days=90", provider);
    expect(body).toMatchObject({ days: 90, period_earnings: "4.95", period_jobs_served: 4 });
    expect(body.earnings_by_day).toEqual([
      { date: dayOf(Date.now() - 40 * DAY_MS), earnings: "0.90", jobs: 1 },
      { date: dayOf(Date.now()), earnings: "4.05", jobs: 3 },
    ]);
  });

  test("takes thirty days where none are said, and refuses what is no number of days", async () => {
    expect((await get("provider-stats/", provider)).body.days).toBe(30);
    for (const days of ["abc", "0", "-1", "1.5", "1e99", "3651"]) {
      const { status, body } = await get(`provider-stats/?days=${days}`, provider);
      expect([days, status, body.param]).toEqual([days, 400, "days"]);
    }
  });

  test("is a consumer's too: what it spent, and no earnings; what failed is a job that cost nothing", async () => {
    const { body } = await get("provider-stats/", { key });
    expect(body).toMatchObject({
      total_earnings: "0.00",
      total_jobs_served: 0,
      active_nodes: 0,
      total_nodes: 0,
      earnings_by_day: [],
      earnings_by_model: [],
      consumer: { total_jobs: 5, total_spent: "5.50" },
      balance: "94.50",
    });
  });

  test("of an account that did nothing is zeros, not nothing", async () => {
    const { body } = await get("provider-stats/", await hub.signUp());
    expect(body).toMatchObject({
      total_earnings: "0.00",
      consumer: { total_jobs: 0, total_spent: "0.00" },
      balance: "100.00",
    });
    expect(body.transactions).toHaveLength(1);
  });

  test("names nobody else's account", async () => {
    const { body } = await get("provider-stats/", provider);
    expect(JSON.stringify(body)).not.toContain(consumer.userId);
  });
});

describe("what the public sees", () => {
  test("models, most providers first", async () => {
    const rival = await hub.signUp();
    const { secret } = await newAgentToken(hub, rival);
    const node = await joinNode(hub.url, secret, { offer: { model: "a-first-by-name" } });
    const more = await joinNode(hub.url, (await newAgentToken(hub, rival)).secret);
    const { body } = await get("models/");
    expect(body).toEqual({
      models: [
        { name: "m", providers: 2, nodes: 2 },
        { name: "a-first-by-name", providers: 1, nodes: 1 },
      ],
      total_nodes: 3,
    });
    await Promise.all([node.leave(), more.leave()]);
    await onlyOneIsLeft();
  });

  test("counts", async () => {
    const { body } = await get("stats/");
    expect(body).toMatchObject({ total_jobs: 5, completed_jobs: 4, available_models: expect.any(Number) });
  });
});

describe("a submitted job", () => {
  test("is answered once its credit is held, and its result fetched later by its owner only", async () => {
    const prompt = "what is a GPU?";
    const submitted = await call(hub, "POST /api/computing/submit-job/", { key }, { model: "m", prompt });
    expect(submitted).toMatchObject({ status: 201, body: { status: "submitted" } });
    const path = `jobs/${submitted.body.job_id}/`;
    await expect
      .poll(async () => (await get(path, { key })).body)
      .toMatchObject({
        status: "completed",
        prompt,
        result: "word",
        cost: "1.00",
        node: "quick-fox",
        error: null,
      });
    expect((await get("jobs/?limit=1", { key })).body).toMatchObject([
      { id: submitted.body.job_id, result: "word" },
    ]);
    expect((await get(path, provider)).status).toBe(403);
    expect((await get("jobs/job_none/", { key })).status).toBe(404);
  });

  test("that nobody can pay for is refused and leaves nothing behind", async () => {
    const poor = await hub.signUp();
    const { key: empty } = await newKey(hub, poor, ["inference", "read"], { budget_micro: "0" });
    const body = { model: "m", prompt: "hi" };
    expect((await call(hub, "POST /api/computing/submit-job/", { key: empty }, body)).status).toBe(402);
    expect((await get("jobs/", { key: empty })).body).toEqual([]);
  });

  test("is told with and without the slash at the end of its address", async () => {
    expect((await call(hub, "GET /api/computing/models")).status).toBe(200);
    expect((await call(hub, "GET /api/computing/jobs", { key })).status).toBe(200);
  });
});

describe("what broke off but was delivered in part", () => {
  test("was paid for, and is earned and spent like all else", async () => {
    const [owner, buyer] = [await hub.signUp(), await hub.signUp()];
    const { key: one } = await newKey(hub, buyer, ["inference"]);
    const node = await joinNode(hub.url, (await newAgentToken(hub, owner)).secret, {
      offer: {
        model: "fragile",
        price: { per_request: "0", per_million_input: "0", per_million_output: "1000000000000" },
      },
      onStart(start, self) {
        self.say(start, "a few words");
        self.send({ type: "attempt.failed", attempt: start.attempt, code: "engine_error", message: "no" });
      },
    });
    await call(hub, "POST /v1/chat/completions", { key: one }, { ...CHAT, model: "fragile", stream: true });
    const [{ body: asked }, { body: served }] = [
      await get("provider-stats/", buyer),
      await get("provider-stats/", owner),
    ];
    expect(asked.consumer).toEqual({ total_jobs: 1, total_spent: "1.00" });
    expect(served).toMatchObject({
      balance: "100.90",
      total_earnings: "0.90",
      earnings_by_model: [{ model: "fragile", earnings: "0.90" }],
    });
    await node.leave();
  });
});
