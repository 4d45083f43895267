/** What a job costs while prices change, for all parts of a price, and what a key's cap refuses. */
import type { AttemptStart, PriceWire } from "@gfe/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { joinScripted } from "./agents.ts";
import { RogueAgent } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
/** Whole credits a token out, to read tokens off a bill. */
const perToken = (credits: number, more: Partial<PriceWire> = {}): PriceWire => ({
  per_request: "0",
  per_million_input: "0",
  per_million_output: (BigInt(credits) * 1_000_000n * CREDIT).toString(),
  ...more,
});

let world: World;
let provider: Person;
let consumer: Person;

beforeAll(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "1000", GFE_FEE_PERCENT: "10" });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
});
afterAll(() => world?.end());

const bodyOf = (model: string) => ({
  model,
  messages: [{ role: "user", content: "hi" }],
  max_tokens: 50,
});
const ask = (model: string, as = consumer) =>
  world.call("POST", "/v1/chat/completions", { as, body: bodyOf(model) });
const setPrice = async (model: string, price: PriceWire) => {
  const { status } = await world.call("PUT", "/api/v1/prices", { as: provider, body: { model, price } });
  expect(status).toBe(200);
};

/** A stream of five words that ends when it is let. */
async function openStream(model: string) {
  let begun: ((start: AttemptStart) => void) | undefined;
  const started = new Promise<AttemptStart>((resolve) => {
    begun = resolve;
  });
  const node = await RogueAgent.join({
    ...{ hubUrl: world.hub.url, token: provider.agentToken, model, price: perToken(1) },
    onStart(start, agent) {
      for (let i = 0; i < 5; i++) agent.text(start.channel, "word ");
      begun?.(start);
    },
  });
  const response = await fetch(`${world.hub.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
    body: JSON.stringify({ ...bodyOf(model), stream: true, stream_options: { include_usage: true } }),
  });
  return { node, start: await started, response };
}

describe("a price that changes while a job streams", () => {
  it("leaves that job its quote, and is the next one's", async () => {
    const { node, start, response } = await openStream("changing");
    expect(response.headers.get("x-gfe-quote")).toBe("50000000");
    await setPrice("changing", perToken(0, { per_request: "7000000", per_million_output: "500000000000" }));
    await node.done(start, 5);
    const chunks = (await response.text()).split("\n\n").filter((line) => line.startsWith("data: {"));
    const { x_gfe: paid } = JSON.parse(chunks.at(-1)!.slice(6));
    expect(paid).toMatchObject({
      cost_micro: "5000000",
      fee_micro: "500000",
      provider_micro: "4500000",
      quote: { per_request: "0", per_million_output: "1000000000000", cap_micro: "50000000" },
      usage: { output_tokens: 5, estimated: false },
    });

    const second = ask("changing");
    await until(() => node.starts.length === 2, "the second job began");
    await node.done(node.starts[1]!, 5);
    const { body, headers } = await second;
    expect([body.x_gfe.cost_micro, headers.get("x-gfe-cost"), headers.get("x-gfe-provider")]).toEqual([
      "9500000",
      "9500000",
      node.nodeId,
    ]);
    const jobs = await Promise.all(
      [paid.job_id, body.x_gfe.job_id].map((id) => world.call("GET", `/api/v1/jobs/${id}`, { as: consumer })),
    );
    expect(jobs.map(({ body: job }) => [job.cost_micro, job.held_micro, job.quote.per_request])).toEqual([
      ["5000000", "50000000", "0"],
      ["9500000", "32000000", "7000000"],
    ]);
    expect(jobs[1]!.body).toMatchObject({ priority: "standard", queued_ms: expect.any(Number) });
    await node.leave();
  });
});

describe("what a job costs", () => {
  it("counts input from the engine's cache apart, and pays the fee as a transfer of its own", async () => {
    const usage = { inputTokens: 10, cachedInputTokens: 8, outputTokens: 4 };
    const agent = await joinScripted(
      { models: [{ name: "cached" }], failure: { type: "lie", usage } },
      { hubUrl: world.hub.url, token: provider.agentToken },
    );
    const price = { per_million_input: "1000000000000", per_million_cached_input: "250000000000" };
    await setPrice("cached", perToken(0, price));
    const { body } = await ask("cached");
    expect(body.usage.prompt_tokens_details).toEqual({ cached_tokens: 8 });
    expect(body.x_gfe).toMatchObject({
      cost_micro: "4000000", // 2 at a credit, 8 at a quarter
      usage: { input_tokens: 10, cached_input_tokens: 8 },
      quote: price,
    });
    const { rows } = await world.pool.query(
      "SELECT code, amount::text FROM ledger_transfers WHERE hold_id = $1 ORDER BY code",
      [body.x_gfe.job_id],
    );
    expect(rows).toEqual([
      { code: "fee", amount: "400000" },
      { code: "inference", amount: "3600000" },
    ]);
    await agent.stop();
  });

  it("is less for a batch where its provider says so, asked at once or submitted", async () => {
    const node = await RogueAgent.join({
      ...{ hubUrl: world.hub.url, token: provider.agentToken, model: "patient" },
      price: { ...perToken(0), per_request: "2000000", batch_discount: 50 },
    });
    const { body: usual } = await ask("patient");
    expect([usual.x_gfe.cost_micro, usual.x_gfe.quote.discount_percent]).toEqual(["2000000", 0]);
    const flex = { ...bodyOf("patient"), service_tier: "flex" };
    const { body } = await world.call("POST", "/v1/chat/completions", { as: consumer, body: flex });
    expect([body.x_gfe.cost_micro, body.x_gfe.quote.discount_percent]).toEqual(["1000000", 50]);
    const { body: submitted } = await world.call("POST", "/api/v1/jobs", {
      as: consumer,
      body: { body: bodyOf("patient"), priority: "batch" },
    });
    const path = `/api/v1/jobs/${submitted.job.id}`;
    const told = async () => (await world.call("GET", path, { as: consumer })).body;
    await until(async () => (await told()).ended_at !== null, "the job ends");
    expect(await told()).toMatchObject({ cost_micro: "1000000", quote: { discount_percent: 50 } });
    await node.leave();
  });

  it("is the minimum for a short answer, which was held", async () => {
    const node = await RogueAgent.join({
      ...{ hubUrl: world.hub.url, token: provider.agentToken, model: "least" },
      price: { ...perToken(0), minimum: "2000000" },
    });
    const { body, headers } = await ask("least");
    expect([body.x_gfe.cost_micro, headers.get("x-gfe-quote")]).toEqual(["2000000", "2000000"]);
    await node.leave();
  });
});

describe("a key with a cap on prices", () => {
  it("is refused where every offer is above it, by what it is, and charged nothing", async () => {
    const node = await RogueAgent.join({
      ...{ hubUrl: world.hub.url, token: provider.agentToken, model: "dear", price: perToken(1) },
    });
    const { body: made } = await world.call("POST", "/api/v1/keys", {
      session: consumer,
      body: { label: "frugal", max_price: { per_million_output: "999999000000" } },
    });
    expect(made.key.max_price).toEqual({
      per_request: null,
      per_million_input: null,
      per_million_output: "999999000000",
    });
    const frugal = { ...consumer, key: made.secret };
    const before = await world.available(consumer);
    const { status, body } = await ask("dear", frugal);
    expect([status, body.error.code, body.error.param]).toEqual([400, "over_price_cap", "max_price"]);
    expect(body.error.message).toContain("999999 credits per million output tokens");
    expect(await world.available(consumer)).toBe(before);
    expect(node.starts).toEqual([]);

    await setPrice("dear", { ...perToken(0), per_million_output: "999999000000" });
    expect((await ask("dear", frugal)).status).toBe(200);
    expect(before - (await world.available(consumer))).toBe(999_999n);
    await node.leave();
  });

  it("goes to the offer within it, also where a dearer one would be matched", async () => {
    const join = (name: string, price: PriceWire) =>
      RogueAgent.join({
        ...{ hubUrl: world.hub.url, token: provider.agentToken, model: "both" },
        name,
        price,
      });
    // For a request of few tokens the first is cheaper; its output is above the cap.
    const dear = await join("dear", { ...perToken(0), per_million_output: "2000000" });
    const cheap = await join("cheap", { ...perToken(0), per_request: "5000000" });
    const { body: made } = await world.call("POST", "/api/v1/keys", {
      session: consumer,
      body: { label: "frugal", max_price: { per_million_output: "1000000" } },
    });
    const { body } = await ask("both", { ...consumer, key: made.secret });
    expect(body.x_gfe.node_name).toBe("cheap");
    await Promise.all([dear.leave(), cheap.leave()]);
  });
});
