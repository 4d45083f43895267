/** More is asked of a hub than its nodes can do, and more is sent than its callers read. The hub is a process of its own. */
import { readFileSync } from "node:fs";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { Agent, Script } from "@gfe/agent";
import type { LedgerVerdict } from "@gfe/protocol";
import { afterEach, beforeEach, expect, it } from "vitest";
import { joinScripted } from "../agents.ts";
import { createHubHome, type HubHome, type HubProcess } from "../hub-process.ts";
import { until } from "../world.ts";
import { type FaultPerson, signUp } from "./people.ts";

const MIB = 1024 * 1024;
const QUEUE_WAIT_MS = 500;
/** Machines of a test are noisy: what is told here is that a bound exists, not how good it is. */
const NOISE_MS = 1_500;
const GROWTH_MAX = 200 * MIB;

let home: HubHome;
let hub: HubProcess;
let operator: FaultPerson;
let agents: Agent[];
beforeEach(async () => {
  home = await createHubHome();
  agents = [];
});
afterEach(async () => {
  await Promise.all(agents.map((agent) => agent.stop()));
  await home.clean();
});

async function begin(script: Script, env: Record<string, string> = {}): Promise<void> {
  hub = await home.start({ GFE_SIGNUP_CREDITS: "1000000", ...env });
  operator = await signUp(home.url, "operator");
  agents.push(await joinScripted(script, { hubUrl: home.url, token: operator.agentToken }));
}

interface Answered {
  status: number;
  retryAfter: string | null;
  ms: number;
}

async function ask(person: FaultPerson, model = "m"): Promise<Answered> {
  const began = performance.now();
  const response = await fetch(`${home.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${person.key}`, "content-type": "application/json" },
    body: JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "hi" }] }),
    signal: AbortSignal.timeout(30_000),
  });
  await response.arrayBuffer();
  const retryAfter = response.headers.get("retry-after");
  return { status: response.status, retryAfter, ms: performance.now() - began };
}

const residentBytes = () =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${hub.pid}/status`, "utf8"))![1]) * 1024;
const p95 = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length * 0.95)]!;

/** Looks now and then at the hub's memory and whether it answers, until `stop`. */
function watch() {
  const seen = { rss: residentBytes(), slowestMs: 0, looks: 0, failed: 0 };
  const stopping = new AbortController();
  const watching = (async () => {
    while (!stopping.signal.aborted) {
      const began = performance.now();
      const response = await fetch(`${home.url}/healthz`).catch(() => null);
      seen.looks++;
      if (!response?.ok) seen.failed++;
      seen.slowestMs = Math.max(seen.slowestMs, performance.now() - began);
      seen.rss = Math.max(seen.rss, residentBytes());
      await sleep(100);
    }
  })();
  return async () => {
    stopping.abort();
    await watching;
    return seen;
  };
}

/** Nothing runs, waits or is held any more, and the books balance. */
async function expectAtRest(): Promise<void> {
  const gauges = async () => {
    const text = await (await fetch(`${home.url}/metrics`)).text();
    return ["running", "queued"].map((name) => new RegExp(`^gfe_jobs_${name} (\\d+)$`, "m").exec(text)?.[1]);
  };
  await until(async () => (await gauges()).join() === "0,0", "nothing runs or waits");
  const verified = await fetch(`${home.url}/api/v1/ledger/verify`, { headers: { cookie: operator.cookie } });
  expect(((await verified.json()) as LedgerVerdict).ok).toBe(true);
  const market = await fetch(`${home.url}/api/v1/market`);
  for (const { slots, free_slots } of ((await market.json()) as { models: Record<string, number>[] }).models)
    expect(free_slots).toBe(slots);
}

it("at five times what its nodes can do, a hub refuses the excess and serves the rest as it did before", async () => {
  const [slots, words, paceMs] = [8, 10, 20];
  await begin(
    { models: [{ name: "m", slots }], deltas: words, paceMs },
    { GFE_QUEUE_WAIT_MS: String(QUEUE_WAIT_MS) },
  );
  const people = await Promise.all(Array.from({ length: 8 }, (_, n) => signUp(home.url, `consumer-${n}`)));
  // What they can do is measured, with a load that never exceeds it.
  const calm: Answered[] = [];
  const calmBegan = performance.now();
  await Promise.all(
    people.map(async (person) => {
      for (let n = 0; n < 8; n++) calm.push(await ask(person));
    }),
  );
  const perSecond = calm.length / ((performance.now() - calmBegan) / 1000);
  expect(calm.filter(({ status }) => status !== 200)).toEqual([]);

  const before = residentBytes();
  const stopWatching = watch();
  const lengthMs = 6_000;
  const total = Math.round((5 * perSecond * lengthMs) / 1000);
  const began = performance.now();
  const answers: Promise<Answered>[] = [];
  for (let n = 0; n < total; n++) {
    const dueMs = (n * lengthMs) / total;
    const early = began + dueMs - performance.now();
    if (early > 1) await sleep(early); // whatever was answered meanwhile: arrivals know nothing of answers
    answers.push(ask(people[n % people.length]!));
  }
  const answered = await Promise.all(answers);
  const seen = await stopWatching();

  const accepted = answered.filter(({ status }) => status === 200);
  const refused = answered.filter(({ status }) => status === 429 || status === 503);
  expect(accepted.length + refused.length).toBe(total); // nobody was cut, nobody was told anything else
  expect(refused.filter(({ retryAfter }) => !/^\d+$/.test(retryAfter ?? ""))).toEqual([]);
  const figures = {
    perSecond: Math.round(perSecond),
    total,
    accepted: accepted.length,
    calmP95: Math.round(p95(calm.map(({ ms }) => ms))),
    acceptedP95: Math.round(p95(accepted.map(({ ms }) => ms))),
    refusedP95: Math.round(p95(refused.map(({ ms }) => ms))),
    grownMiB: Math.round((seen.rss - before) / MIB),
    slowestHealthMs: Math.round(seen.slowestMs),
  };
  if (process.env.GFE_TEST_FIGURES) console.log(figures);
  expect(refused.length).toBeGreaterThan(total / 2);
  // What it can do it goes on doing.
  expect(accepted.length).toBeGreaterThan((perSecond * lengthMs) / 1000 / 2);
  expect(figures.acceptedP95).toBeLessThan(figures.calmP95 + QUEUE_WAIT_MS + NOISE_MS);
  expect(seen.failed).toBe(0);
  expect(seen.slowestMs).toBeLessThan(NOISE_MS);
  expect(seen.rss - before).toBeLessThan(GROWTH_MAX);
  await expectAtRest();
  expect((await ask(people[0]!)).status).toBe(200);
}, 90_000);

it("two hundred callers that never read cost little memory, and nobody else's time", async () => {
  const [silent, pieces] = [200, Array.from({ length: 256 }, (_, n) => `${n} `.padEnd(16 * 1024, "x"))];
  await begin({ models: [{ name: "long", slots: silent }], text: pieces, paceMs: 0 });
  agents.push(
    await joinScripted(
      { models: [{ name: "m", slots: 8 }] },
      { hubUrl: home.url, token: operator.agentToken },
    ),
  );
  const [sleeper, other] = [await signUp(home.url, "sleeper"), await signUp(home.url, "other")];
  expect((await ask(other)).status).toBe(200);
  const before = residentBytes();
  const stopWatching = watch();
  const open = await Promise.all(Array.from({ length: silent }, () => neverRead(sleeper)));
  const asked: Answered[] = [];
  for (let n = 0; n < 20; n++) asked.push(await ask(other));
  const seen = await stopWatching();
  if (process.env.GFE_TEST_FIGURES)
    console.log({
      grownMiB: Math.round((seen.rss - before) / MIB),
      p95: p95(asked.map(({ ms }) => ms)),
      slowestMs: seen.slowestMs,
    });
  expect(asked.filter(({ status }) => status !== 200)).toEqual([]);
  expect(seen.failed).toBe(0);
  // All of it would be 800 MiB.
  expect(seen.rss - before).toBeLessThan(GROWTH_MAX);
  for (const response of open) response.destroy();
  await expectAtRest();
}, 90_000);

/** Resolves when the headers have come; not a byte of the body is read. */
function neverRead(person: FaultPerson): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(
      `${home.url}/v1/chat/completions`,
      {
        method: "POST",
        agent: false,
        headers: { authorization: `Bearer ${person.key}`, "content-type": "application/json" },
      },
      (response) => {
        response.pause();
        response.on("error", () => {});
        resolve(response);
      },
    );
    outgoing.on("error", reject);
    outgoing.end(
      JSON.stringify({ model: "long", stream: true, messages: [{ role: "user", content: "hi" }] }),
    );
  });
}
