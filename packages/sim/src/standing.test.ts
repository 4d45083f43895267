/** Why a node does not earn, as its owner and its agent are told: a real hub, real requests, nodes that lack one thing each. */
import { canaryReportSchema, nodeStandingSchema } from "@gfe/protocol";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RogueAgent, type RogueOptions } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

let world: World;
let provider: Person;
let consumer: Person;
let agents: RogueAgent[];
beforeEach(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "1000" });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
  agents = [];
});
afterEach(async () => {
  for (const agent of agents) agent.die();
  await world.end();
});

async function join(more: Partial<RogueOptions> = {}): Promise<RogueAgent> {
  const agent = await RogueAgent.join({ hubUrl: world.hub.url, token: provider.agentToken, ...more });
  agents.push(agent);
  return agent;
}
const ask = (body: object = {}) =>
  world.call("POST", "/v1/chat/completions", {
    as: consumer,
    body: { model: "m", max_tokens: 5, messages: [{ role: "user", content: "hi" }], ...body },
  });
async function standing({ nodeId }: RogueAgent, as: object = { as: provider }) {
  const { status, body } = await world.call("GET", `/api/v1/nodes/${nodeId}/standing`, as);
  expect(status, JSON.stringify(body)).toBe(200);
  return nodeStandingSchema.parse(body);
}
const canary = ({ nodeId }: RogueAgent, model = "m", as: object = { as: provider }) =>
  world.call("POST", `/api/v1/nodes/${nodeId}/canary`, { ...as, body: { model } });
const withToken = () => ({ headers: { authorization: `Bearer ${provider.agentToken}` } });

test("each node is told what stood in its way, with what would change it", async () => {
  const served = await join({ capabilities: ["tools"] });
  const dear = await join({
    capabilities: ["tools"],
    price: { per_request: "9000000", per_million_input: "0", per_million_output: "0" },
  });
  const unable = await join({ capabilities: [] });
  const unasked = await join({ model: "nobody-wants-it" });
  const leaving = await join({ capabilities: ["tools"] });
  leaving.send({ type: "drain", draining: true });
  await until(async () => (await standing(leaving)).state === "paused", "it is paused");
  const tools = [{ type: "function", function: { name: "f", parameters: { type: "object" } } }];
  const asked = { tools, provider: { max_price: { request: 2 } } };
  for (let i = 0; i < 5; i++) expect((await ask(asked)).status).toBe(200);

  const first = async (agent: RogueAgent) => (await standing(agent)).models[0]!;
  expect(await first(served)).toMatchObject({ asked: { day: 5 }, chosen: { hour: 5, day: 5, week: 5 } });
  const [price] = (await first(dear)).reasons;
  expect(price).toMatchObject({ code: "max_price", counts: { day: expect.any(Number) } });
  expect(price!.words).toContain("4.5 times");
  expect(price!.cure).toContain("gfe price");
  expect((await first(unable)).reasons.map(({ code }) => code)).toEqual(["capability:tools"]);
  expect((await first(leaving)).reasons[0]).toMatchObject({
    code: "draining",
    cure: expect.stringContaining("resume"),
  });
  const { models, most_asked } = await standing(unasked);
  expect(models[0]).toMatchObject({
    asked: { week: 0 },
    chosen: { week: 0 },
    reasons: [{ code: "no_demand" }],
  });
  expect(models[0]!.reasons[0]!.cure).toContain(": m.");
  expect(most_asked).toEqual([{ model: "m", asked: 5 }]);
});

test("counts survive a restart, and are those of all time before it and after", async () => {
  const agent = await join();
  await ask();
  await world.restart();
  const again = await join({ signer: agent.signer });
  expect(again.nodeId).toBe(agent.nodeId);
  await ask();
  expect((await standing(again)).models[0]).toMatchObject({ asked: { hour: 2 }, chosen: { hour: 2 } });
});

test("its owner and its agent may ask, and nobody else", async () => {
  const agent = await join();
  expect(await standing(agent, withToken())).toEqual(await standing(agent, { session: provider }));
  const path = `/api/v1/nodes/${agent.nodeId}/standing`;
  for (const as of [{ as: consumer }, { session: consumer }])
    expect((await world.call("GET", path, as)).status).toBe(404);
  expect((await world.call("GET", path)).status).toBe(401);
  const wrong = { headers: { authorization: "Bearer gfe_at_nonsense" } };
  expect((await world.call("GET", path, wrong)).status).toBe(401);
  expect((await canary(agent, "m", { as: consumer })).status).toBe(404);
  expect((await world.call("GET", "/api/v1/nodes/node_none/standing", { as: provider })).status).toBe(404);
});

test("a test request goes the way of a job, costs nobody anything, and says how it went", async () => {
  const agent = await join();
  const before = await world.available(provider);
  const { status, body } = await canary(agent, "m", withToken());
  expect([status, canaryReportSchema.parse(body)]).toMatchObject([
    200,
    { passed: true, output_tokens: 1, unmet: null, first_token_ms: expect.any(Number) },
  ]);
  expect(agent.starts).toHaveLength(1);
  expect(await world.available(provider)).toBe(before);
  expect((await world.pool.query("SELECT FROM jobs")).rowCount).toBe(0);
  const again = await canary(agent);
  expect([again.status, Number(again.headers.get("retry-after"))]).toEqual([429, expect.any(Number)]);
});

test("a test request that fails says what failed, and leaves the reputation alone", async () => {
  const broken = await join({ onStart: (start, self) => self.fail(start) });
  const { body } = await canary(broken);
  expect(body).toMatchObject({
    passed: false,
    words: "the engine answered with an error",
    first_token_ms: null,
  });
  expect((await world.pool.query("SELECT FROM reputation_events WHERE kind = 'audit'")).rowCount).toBe(0);
  expect(await canary(broken, "another")).toMatchObject({ status: 404 });
  broken.die();
  await until(async () => (await canary(broken)).status === 404, "it is gone");
});

test("the slot of a test request is free again, also of one whose asker left", async () => {
  const silent = await join({ slots: 1, onStart: () => {} });
  const leave = new AbortController();
  const asked = fetch(`${world.hub.url}/api/v1/nodes/${silent.nodeId}/canary`, {
    method: "POST",
    headers: { ...withToken().headers, "content-type": "application/json" },
    body: JSON.stringify({ model: "m" }),
    signal: leave.signal,
  }).catch(() => null);
  await until(() => silent.starts.length === 1, "it is asked");
  leave.abort();
  await asked;
  await silent.frame(({ type }) => type === "attempt.cancel");
  const stream = new AbortController();
  const job = fetch(`${world.hub.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "m", stream: true, messages: [{ role: "user", content: "hi" }] }),
    signal: stream.signal,
  }).catch(() => null);
  await until(() => silent.starts.length === 2, "a job has the slot");
  stream.abort();
  await job;
});
