/** The network between a hub and its database goes bad: whoever asks is told so soon, and nothing is lost. */
import type { Agent } from "@gfe/agent";
import { afterEach, beforeEach, expect, it } from "vitest";
import { joinScripted } from "../agents.ts";
import { type Person, startWorld, until, type World } from "../world.ts";
import type { CutProxy } from "./cut-proxy.ts";
import { beforeDatabase } from "./networks.ts";

/** Whoever asks while the database is silent hears of it within this. */
const TOLD_MS = 15_000;
const HEALED_MS = 20_000;
const WORDS = Array.from({ length: 40 }, (_, at) => `word-${at} `);

let world: World;
let proxy: CutProxy;
let agent: Agent;
let provider: Person;
let consumer: Person;
let stranger: Person;
beforeEach(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "1000" }, async (databaseUrl) => {
    const way = await beforeDatabase(databaseUrl);
    proxy = way.proxy;
    return way.url;
  });
  provider = await world.person("provider");
  [consumer, stranger] = [await world.person("consumer"), await world.person("stranger")];
  agent = await joinScripted(
    { models: [{ name: "m", slots: 8 }], text: WORDS, paceMs: 20 },
    { hubUrl: world.hub.url, token: provider.agentToken },
  );
});
afterEach(async () => {
  proxy.pass();
  await agent.stop();
  await world.end();
  await proxy.close();
});

const ask = (as: Person, body: object = {}) =>
  world.call("POST", "/v1/chat/completions", {
    as,
    body: { model: "m", max_tokens: 5, messages: [{ role: "user", content: "hi" }], ...body },
  });

/** What came, and how soon. */
async function timed<T>(promise: Promise<T>): Promise<{ answer: T; ms: number }> {
  const began = performance.now();
  return { answer: await promise, ms: performance.now() - began };
}

it("a database that swallows all: streams end, everybody else is told 503 in time, and all heals", async () => {
  expect((await ask(consumer)).status).toBe(200); // its key is known, its credit is believed in
  const running = ask(consumer, { max_tokens: WORDS.length, stream: true });
  await until(() => agent.running === 1, "it runs");
  await until(async () => (await world.ledger.openHolds()).length === 1, "it is held");
  proxy.blackHole();
  const asked = await Promise.all([
    timed(ask(consumer)),
    timed(ask(consumer, { stream: true })),
    timed(ask(stranger)),
    timed(world.call("GET", "/api/v1/me", { session: consumer })),
    timed(world.call("GET", "/api/v1/jobs", { as: consumer })),
  ]);
  expect(asked.map(({ answer }) => [answer.status, answer.headers.get("retry-after") !== null])).toEqual(
    asked.map(() => [503, true]),
  );
  expect(Math.max(...asked.map(({ ms }) => ms))).toBeLessThan(TOLD_MS);
  expect((await world.call("GET", "/healthz")).status).toBe(200);
  expect((await world.call("GET", "/readyz")).status).toBe(503);
  expect(String((await running).body)).toContain("[DONE]");

  proxy.pass();
  await until(async () => (await world.call("GET", "/readyz")).status === 200, "it is ready", HEALED_MS);
  expect((await ask(consumer)).status).toBe(200);
  expect((await ask(stranger)).status).toBe(200);
  await until(async () => (await world.ledger.openHolds()).length === 0, "nothing is held", HEALED_MS);
  const { rows } = await world.pool.query(
    "SELECT state, cost_micro <> 0 AS paid, count(*)::int AS n FROM jobs GROUP BY 1, 2 ORDER BY 1",
  );
  expect(rows.filter(({ state }) => state === "completed")).toEqual([
    { state: "completed", paid: true, n: 4 },
  ]);
  expect(rows.filter(({ paid, state }) => paid && state !== "completed")).toEqual([]);
}, 120_000);
