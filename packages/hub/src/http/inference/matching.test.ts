/** Steering and explaining on a whole hub with two nodes: a cheap one and a dear one. */
import type { AttemptStart } from "@gfe/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { call, newAgentToken, newKey } from "../../testing/test-api.ts";
import { startTestHub, type TestHub } from "../../testing/test-hub.ts";
import { joinNode, type TestNode } from "../../testing/test-node.ts";

let hub: TestHub;
let as: { key: string };
let providerEmail: string;
let providerId: string;
let attic: TestNode;
let cellar: TestNode;
const started: { node: string; start: AttemptStart }[] = [];

const price = (request: string) => ({
  per_request: request,
  per_million_input: "0",
  per_million_output: "0",
});
const answerAs = (name: string) => (start: AttemptStart, node: TestNode) => {
  started.push({ node: name, start });
  node.say(start, name);
  void node.done(start, 1);
};

beforeAll(async () => {
  hub = await startTestHub();
  const provider = await hub.signUp();
  [providerEmail, providerId] = [provider.email, provider.userId];
  as = { key: (await newKey(hub, await hub.signUp(), ["inference"])).key };
  const token = (await newAgentToken(hub, provider)).secret;
  attic = await joinNode(hub.url, token, {
    name: "attic",
    offer: { price: price("10"), quantisation: "Q4_0" },
    onStart: answerAs("attic"),
  });
  cellar = await joinNode(hub.url, token, {
    name: "cellar",
    offer: { price: price("50"), quantisation: "Q8_0", aliases: ["nick:name"] },
    onStart: answerAs("cellar"),
  });
});
afterAll(() => hub?.close());

const body = (provider?: object, model = "m") => ({
  model,
  messages: [{ role: "user", content: "hi" }],
  max_tokens: 5,
  ...(provider ? { provider } : {}),
});
const chat = (provider?: object, model?: string) =>
  call(hub, "POST /v1/chat/completions", as, body(provider, model));
const answeredBy = async (provider: object | undefined, model?: string) => {
  const { status, body: answer } = await chat(provider, model);
  expect(status).toBe(200);
  return answer.choices[0].message.content;
};

describe("the provider object steers the real hub", () => {
  it.each([
    ["by order, named by node", { order: ["cellar"] }, "cellar"],
    ["by only", { only: ["cellar"] }, "cellar"],
    ["by ignore", { ignore: ["attic"] }, "cellar"],
    ["by quantisation", { quantizations: ["q8_0"] }, "cellar"],
    ["by price", { sort: "price" }, "attic"],
    ["by a cap in credits", { max_price: { request: "0.00004" } }, "attic"],
  ])("%s", async (_how, provider, expected) => {
    for (let i = 0; i < 3; i++) expect(await answeredBy(provider)).toBe(expected);
  });

  it("and its node's and provider's ids are names as well", async () => {
    expect(await answeredBy({ only: [cellar.nodeId] })).toBe("cellar");
    expect(await answeredBy({ only: [providerId], sort: "price" })).toBe("attic");
  });

  it("by a suffix of the model's name, which the node does not see", async () => {
    expect(await answeredBy(undefined, "m:cheap")).toBe("attic");
    expect(started.at(-1)!.start).toMatchObject({ model: "m", body: { model: "m" } });
  });

  it("by an alias, which the node does not see", async () => {
    expect(await answeredBy(undefined, "nick:name")).toBe("cellar");
    expect(started.at(-1)!.start).toMatchObject({ model: "m", body: { model: "m" } });
  });

  it("and is not sent to an engine", async () => {
    await answeredBy({ sort: "price" });
    expect(started.at(-1)!.start.body).not.toHaveProperty("provider");
  });

  it.each([
    [{ max_price: { request: 0.000009 } }, "over_price_cap", "max_price"],
    [{ only: ["nobody"] }, "no_eligible_node", "provider.only"],
    [{ quantizations: ["F16"] }, "no_eligible_node", "provider.quantizations"],
    [{ order: ["nobody"], allow_fallbacks: false }, "no_eligible_node", "provider.order"],
    [{ data_collection: "deny" }, "no_eligible_node", "provider.data_collection"],
    [{ region: "de" }, "no_eligible_node", "provider.region"],
    [{ min_reputation: 100 }, "no_eligible_node", "provider.min_reputation"],
    [{ max_price: { prompt: "dear" } }, "invalid_request", "provider.max_price.prompt"],
  ])("%j is a 400 that names what no node meets, and costs nothing", async (provider, code, param) => {
    const before = started.length;
    const { status, body: answer } = await chat(provider);
    expect([status, answer.error]).toEqual([400, expect.objectContaining({ code, param })]);
    expect(started).toHaveLength(before);
  });
});

it("a conversation waits a moment for the busy node that holds its cache, though another is free", async () => {
  const token = (await newAgentToken(hub, await hub.signUp())).secret;
  let begun = () => {};
  let letEnd = () => {};
  const join = (name: string) =>
    joinNode(hub.url, token, {
      name,
      offer: { model: "warm", slots: 1, price: price("1") },
      async onStart(start, node) {
        const end = new Promise<void>((resolve) => {
          letEnd = resolve;
        });
        begun();
        if (JSON.stringify(start.body).includes("hold on")) await end;
        answerAs(name)(start, node);
      },
    });
  const nodes = [await join("one"), await join("two")];
  const ask = async (messages: object[], provider?: object) => {
    const asked = { model: "warm", messages, max_tokens: 5, ...(provider ? { provider } : {}) };
    return (await call(hub, "POST /v1/chat/completions", as, asked)).body.choices[0].message;
  };
  const long = { role: "user", content: "word ".repeat(8_000) };
  const first = await ask([long]);
  const held = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const busy = ask([{ role: "user", content: "hold on" }], { only: [first.content] });
  await held;
  const end = letEnd;
  const second = ask([long, first, { role: "user", content: "and?" }]);
  const queued = async () =>
    /^gfe_jobs_queued (\d+)$/m.exec(await (await fetch(`${hub.url}/metrics`)).text())?.[1];
  await expect.poll(queued).toBe("1");
  end();
  expect((await second).content).toBe(first.content);
  expect((await busy).content).toBe(first.content);
  await Promise.all(nodes.map((node) => node.leave()));
});

describe("explaining", () => {
  it("says of each node why it would or would not be chosen, names nobody, and runs nothing", async () => {
    const before = started.length;
    const asked = body({ only: ["cellar"] });
    const { status, body: told } = await call(hub, "POST /api/v1/match/explain", as, asked);
    expect([status, told]).toMatchObject([200, { model: "m", result: "matched", considered: 2 }]);
    const byName = Object.fromEntries(told.offers.map((one: { node_name: string }) => [one.node_name, one]));
    expect(byName.attic).toMatchObject({
      node_id: attic.nodeId,
      eligible: false,
      unmet: "only",
      chosen: false,
    });
    expect(byName.cellar).toMatchObject({ eligible: true, unmet: null, chosen: true });
    expect(byName.cellar.parts).toMatchObject({
      expected_price_micro: 50,
      running: 0,
      slots: 4,
      newcomer: true,
    });
    expect(JSON.stringify(told)).not.toContain(providerEmail);
    expect(JSON.stringify(told)).not.toContain(providerId);
    expect(started).toHaveLength(before);
  });

  it("by `?explain` on a chat, and not where it says false", async () => {
    const explained = await call(hub, "POST /v1/chat/completions?explain", as, body());
    expect(explained.body).toMatchObject({ result: "matched", considered: 2 });
    const ran = await call(hub, "POST /v1/chat/completions?explain=false", as, body());
    expect(ran.body).toMatchObject({ object: "chat.completion" });
  });

  it("that the measures of real attempts count", async () => {
    await answeredBy({ only: ["cellar"] });
    const { body: told } = await call(hub, "POST /api/v1/match/explain", as, body({ only: ["cellar"] }));
    const { parts } = told.offers.find((one: { chosen: boolean }) => one.chosen);
    expect(parts.succeeded).toBeGreaterThan(0.9);
    expect(parts.warm_tokens).toBeGreaterThan(0);
  });

  it("needs a key, and a chat", async () => {
    expect((await call(hub, "POST /api/v1/match/explain", undefined, body())).status).toBe(401);
    const { status, body: problem } = await call(hub, "POST /api/v1/match/explain", as, { model: "m" });
    expect([status, problem.param]).toEqual([400, "messages"]);
  });
});
