/** A machine that its owner needs back: a real agent and a real hub, and what a caller sees of it. */
import { createScriptedEngine, type Engine } from "@gfe/agent";
import OpenAI from "openai";
import { afterEach, beforeEach, expect, test } from "vitest";
import { joinAgent, memoryHost } from "./agents.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;
/** Memory is to be free by then. */
const FREE_MS = 5_000;

let world: World;
let provider: Person;
let consumer: Person;
beforeEach(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "1000" });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
});
afterEach(() => world.end());

/** An engine that says a word every 50 ms, and tells when it is asked to free its memory. */
function engineOf() {
  const model = { name: "m", digest: DIGEST, slots: 2 };
  const engine = createScriptedEngine(memoryHost(), { models: [model], deltas: 100, paceMs: 50 });
  let unloaded = 0;
  return {
    engine: { ...engine, unload: async () => void unloaded++ } satisfies Engine,
    unloaded: () => unloaded,
  };
}
const join = (engine: Engine) => joinAgent([engine], { hubUrl: world.hub.url, token: provider.agentToken });

test("its stream goes on at another node, its memory is free within seconds, and it serves again when it may", async () => {
  const [first, second] = [engineOf(), engineOf()];
  const paused = await join(first.engine);
  const openai = new OpenAI({ baseURL: `${world.hub.url}/v1`, apiKey: consumer.key, maxRetries: 0 });
  const request = { model: "m", messages: [{ role: "user" as const, content: "hi" }], max_tokens: 100 };
  const stream = await openai.chat.completions.create({ ...request, stream: true });
  let text = "";
  let other: Awaited<ReturnType<typeof join>> | undefined;
  let pausedAtMs = Number.NaN;
  for await (const { choices } of stream) {
    text += choices[0]?.delta.content ?? "";
    if (other || text === "") continue;
    other = await join(second.engine);
    paused.setServing(false);
    pausedAtMs = performance.now();
  }
  expect(text.trim().split(/\s+/)).toHaveLength(100);
  await until(() => first.unloaded() === 1, "its memory is free");
  expect(performance.now() - pausedAtMs).toBeLessThan(FREE_MS + 5_000); // the rest of the stream ran meanwhile
  const { rows } = await world.pool.query("SELECT DISTINCT node_id FROM attempts");
  expect(rows.map(({ node_id }) => node_id).sort()).toEqual([paused.nodeId, other!.nodeId].sort());

  for (let i = 0; i < 3; i++) {
    const { headers } = await world.call("POST", "/v1/chat/completions", {
      as: consumer,
      body: { ...request, max_tokens: 1 },
    });
    expect(headers.get("x-gfe-provider")).toBe(other!.nodeId);
  }
  await other!.stop();
  paused.setServing(true);
  const ask = () =>
    world.call("POST", "/v1/chat/completions", { as: consumer, body: { ...request, max_tokens: 1 } });
  await until(async () => (await ask()).headers.get("x-gfe-provider") === paused.nodeId, "it serves again");
  expect([first.unloaded(), second.unloaded()]).toEqual([1, 0]);
  await paused.stop();
});

test("what ends in time ends where it began, and serving again at once unloads nothing", async () => {
  const only = engineOf();
  const agent = await join(only.engine);
  const body = { model: "m", messages: [{ role: "user", content: "hi" }], max_tokens: 20 };
  const answer = world.call("POST", "/v1/chat/completions", { as: consumer, body });
  await until(() => agent.running === 1, "it runs");
  agent.setServing(false);
  agent.setServing(true);
  expect((await answer).status).toBe(200);
  await agent.stop();
  expect(only.unloaded()).toBe(0);
});
