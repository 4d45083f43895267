/**
 * Real processes, killed for real: a hub without warning, its database under it, a second hub beside it, and a stop
 * as an init system does it. Whatever happens, each hold is resolved, the books balance, and the nodes come back.
 */
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Agent, AgentEvent, Script } from "@gfe/agent";
import type { Job, LedgerVerdict, Me } from "@gfe/protocol";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { joinScripted } from "./agents.ts";
import { BY_NPM, createHubHome, type HubHome, HubProcess } from "./hub-process.ts";
import { until } from "./world.ts";

const CREDIT = 1_000_000n;
const SIGNUP = 100n * CREDIT;
const FEE_PERCENT = 5n;
const STREAMS = 6;
const ENV = { GFE_SIGNUP_CREDITS: "100", GFE_FEE_PERCENT: String(FEE_PERCENT), GFE_DRAIN_MS: "20000" };
/** Long enough to be killed in the midst of. */
const SLOW: Script = { models: [{ name: "m", slots: 50 }], deltas: 60, paceMs: 30 };
const ANSWER_MS = 60_000;

let home: HubHome;
let agent: Agent | undefined;
let events: AgentEvent[];
let operator: string;
let consumer: string;
let key: string;

beforeEach(async () => {
  home = await createHubHome();
  events = [];
  agent = undefined;
});
afterEach(async () => {
  await agent?.stop();
  await home.clean();
});

/** The first account is the operator, and provides. */
async function begin(env: Record<string, string> = {}): Promise<HubProcess> {
  const hub = await home.start({ ...ENV, ...env });
  operator = await signUp("provider");
  consumer = await signUp("consumer");
  key = await newKey("kill");
  const { secret: token } = await post<{ secret: string }>("/api/v1/agent-tokens", operator, {
    label: "kill",
  });
  agent = await joinScripted(SLOW, { hubUrl: home.url, token, onEvent: (event) => events.push(event) });
  return hub;
}

async function signUp(name: string): Promise<string> {
  const response = await fetch(`${home.url}/api/auth/sign-up/email`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: home.url },
    body: JSON.stringify({ name, email: `${name}@example.org`, password: "correct horse battery" }),
  });
  expect(response.status).toBe(200);
  return response.headers
    .getSetCookie()
    .map((line) => line.split(";")[0])
    .join("; ");
}

async function post<T>(path: string, cookie: string, body: object): Promise<T> {
  const response = await fetch(home.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", origin: home.url, cookie },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
  return response.json() as Promise<T>;
}
async function get<T>(path: string, cookie: string): Promise<T> {
  const response = await fetch(home.url + path, { headers: { cookie } });
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
  return response.json() as Promise<T>;
}

const newKey = async (label: string) =>
  (await post<{ secret: string }>("/api/v1/keys", consumer, { label })).secret;
const jobs = async () => (await get<{ jobs: Job[] }>("/api/v1/jobs?limit=100", consumer)).jobs;

const chat = (body: object = {}, as = key) =>
  fetch(`${home.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${as}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "hi" }], ...body }),
    signal: AbortSignal.timeout(ANSWER_MS),
  });

interface Stream {
  jobId: string;
  text: string;
  /** How it ended for its reader. */
  ended: Promise<"done" | "error chunk" | "cut">;
}

/** Resolves once a few words have come. */
async function openStream(body: object = {}): Promise<Stream> {
  const response = await chat({ stream: true, ...body });
  expect(response.status).toBe(200);
  const stream: Stream = {
    jobId: response.headers.get("x-gfe-job")!,
    text: "",
    ended: Promise.resolve("cut"),
  };
  await new Promise<void>((flowing) => {
    stream.ended = (async () => {
      try {
        for await (const bytes of response.body!) {
          stream.text += Buffer.from(bytes).toString();
          if (stream.text.split("\n\n").length > 3) flowing();
        }
      } catch {
        flowing();
        return "cut";
      }
      flowing();
      if (stream.text.endsWith("data: [DONE]\n\n")) return "done";
      return /^data: \{"error":/m.test(stream.text) ? "error chunk" : "cut";
    })();
  });
  return stream;
}

/** Nothing held, nothing lost: what the consumer paid, the provider and the house have. */
async function expectBalanced(): Promise<void> {
  await until(
    async () => (await get<Me>("/api/v1/me", consumer)).balance.held_micro === "0",
    "no credit is held",
  );
  const verdict = await get<LedgerVerdict>("/api/v1/ledger/verify", operator);
  expect(verdict.checks.filter(({ ok }) => !ok)).toEqual([]);
  expect(verdict.ok).toBe(true);
  const ended = await jobs();
  expect(ended.filter(({ state }) => state === "running" || state === "queued")).toEqual([]);
  const sum = (field: "cost_micro" | "fee_micro") =>
    ended.reduce((total, job) => total + BigInt(job[field]), 0n);
  const available = async (cookie: string) =>
    BigInt((await get<Me>("/api/v1/me", cookie)).balance.available_micro);
  expect(await available(consumer)).toBe(SIGNUP - sum("cost_micro"));
  expect(await available(operator)).toBe(SIGNUP + sum("cost_micro") - sum("fee_micro"));
}

/** A new chat is answered in full and paid for. */
async function expectServing(): Promise<void> {
  const before = BigInt((await get<Me>("/api/v1/me", consumer)).balance.available_micro);
  const response = await chat({ max_tokens: 3 });
  expect(response.status).toBe(200);
  const after = BigInt((await get<Me>("/api/v1/me", consumer)).balance.available_micro);
  expect(before - after).toBe(CREDIT);
}

const joins = () => events.filter(({ type }) => type === "joined").length;
const isGone = (pid: number) => !home.processes().includes(pid);

describe("a hub that is killed in mid-stream", () => {
  it("returns every hold at its next start, has its node back by itself, and serves", async () => {
    const hub = await begin();
    await expectServing();
    const streams = await Promise.all(Array.from({ length: STREAMS }, openStream));
    const database = home.databasePid()!;
    await hub.kill("SIGKILL");
    expect(await Promise.all(streams.map(({ ended }) => ended))).toEqual(streams.map(() => "cut"));
    expect(isGone(database)).toBe(false); // nobody was there to stop it: the next hub must

    await home.start(ENV);
    expect(isGone(database)).toBe(true);
    const ended = await jobs();
    for (const { jobId } of streams)
      expect(ended.find(({ id }) => id === jobId)).toMatchObject({
        state: "failed",
        error_code: "node_lost",
        cost_micro: "0",
        ended_at: expect.any(String),
      });
    await expectBalanced();
    await until(() => joins() === 2, "the node joined again");
    await until(() => agent!.running === 0, "the node stopped what nobody waits for");
    await expectServing();
    await expectBalanced();
  }, 90_000);

  it("together with its database, it recovers as well", async () => {
    const hub = await begin();
    const streams = await Promise.all([openStream(), openStream()]);
    process.kill(home.databasePid()!, "SIGKILL");
    await hub.kill("SIGKILL");
    await Promise.all(streams.map(({ ended }) => ended));
    await home.start(ENV);
    await expectBalanced();
    await until(() => joins() === 2, "the node joined again");
    await expectServing();
    await expectBalanced();
  }, 90_000);
});

describe("a database that is killed in mid-stream", () => {
  it("is started again by its hub; the streams end as they would have, and are paid", async () => {
    const hub = await begin();
    const streams = await Promise.all(Array.from({ length: STREAMS }, openStream));
    const database = home.databasePid()!;
    process.kill(database, "SIGKILL");
    expect(await Promise.all(streams.map(({ ended }) => ended))).toEqual(streams.map(() => "done"));
    await until(() => isGone(database), "the killed one is gone");
    await until(async () => (await fetch(`${home.url}/readyz`)).ok, "the hub is ready again");
    expect(home.databasePid()).not.toBe(database);
    await until(
      async () => (await jobs()).every(({ state }) => state === "completed"),
      "every settlement was written",
    );
    expect((await jobs()).map(({ cost_micro }) => cost_micro)).toEqual(streams.map(() => String(CREDIT)));
    await expectBalanced();
    expect(joins()).toBe(1); // its nodes noticed nothing
    await expectServing();
    await expectBalanced();
    expect(await hub.kill("SIGTERM")).toEqual({ code: 0, signal: null });
    expect(home.processes()).toEqual([]);
  }, 90_000);

  it("lets who asks meanwhile wait or come again, and charges for what was answered only", async () => {
    await begin();
    await expectServing(); // the hub remembers the key now
    process.kill(home.databasePid()!, "SIGKILL");
    const statuses = await askWhileAway([key]);
    expect(statuses.filter((status) => status !== 200 && status !== 503)).toEqual([]);
    await until(async () => (await fetch(`${home.url}/readyz`)).ok, "the hub is ready again");
    await expectBalanced();
    const served = statuses.filter((status) => status === 200).length;
    expect((await jobs()).filter(({ state }) => state === "completed")).toHaveLength(served + 1);
    await expectServing();
  }, 90_000);

  it("is a fault of the moment to who brings a key that was not used lately, too", async () => {
    await begin();
    const keys = await Promise.all(["a", "b", "c", "d"].map(newKey));
    process.kill(home.databasePid()!, "SIGKILL");
    const statuses = await askWhileAway(keys);
    await until(async () => (await fetch(`${home.url}/readyz`)).ok, "the hub is ready again");
    expect(statuses.filter((status) => status !== 200 && status !== 503)).toEqual([]);
  }, 90_000);
});

/** Two short chats with each key; who is turned away must be told when to come again. */
async function askWhileAway(keys: string[]): Promise<number[]> {
  const answers = await Promise.all([...keys, ...keys].map((each) => chat({ max_tokens: 3 }, each)));
  for (const { status, headers } of answers)
    if (status === 503) expect(headers.get("retry-after")).not.toBeNull();
  return answers.map(({ status }) => status);
}

it("a hub that is killed while it makes its database makes it again at the next start", async () => {
  const hub = new HubProcess({ ...ENV, PORT: "0", GFE_DATA_DIR: home.dataDir });
  const begun = () =>
    existsSync(home.dataDir) &&
    readdirSync(home.dataDir).some((name) => existsSync(join(home.dataDir, name, "PG_VERSION")));
  await until(begun, "the database is being made");
  await hub.kill("SIGKILL");
  await home.killAll();
  await home.start(ENV);
  await signUp("provider");
}, 90_000);

it("a second hub on the same data directory is refused by name, and the first goes on", async () => {
  await begin();
  const second = new HubProcess({ ...ENV, PORT: "0", GFE_DATA_DIR: home.dataDir });
  try {
    expect(await second.ended).toEqual({ code: 1, signal: null });
    expect(second.stderr).toContain(home.dataDir);
    expect(second.stderr).not.toMatch(/^\s+at /m);
  } finally {
    await second.kill("SIGKILL");
  }
  await expectServing();
  await expectBalanced();
}, 90_000);

it("SIGTERM lets running streams end, takes no new ones, and leaves no process behind", async () => {
  const hub = await begin();
  const streams = await Promise.all([openStream(), openStream()]);
  process.kill(hub.pid, "SIGTERM");
  await hub.printed(/Stopping/);
  const refused = await chat();
  expect([refused.status, (await refused.json()) as object]).toMatchObject([
    503,
    { error: { code: "shutting_down" } },
  ]);
  expect(await Promise.all(streams.map(({ ended }) => ended))).toEqual(["done", "done"]);
  expect(await hub.ended).toEqual({ code: 0, signal: null });
  expect(home.processes()).toEqual([]);
  expect(home.databasePid()).toBeNull();

  await home.start(ENV);
  await expectBalanced();
  expect((await jobs()).map(({ state }) => state)).toEqual(["completed", "completed"]);
}, 90_000);

it("SIGTERM to npm alone ends the hub that it started", async () => {
  const hub = new HubProcess(
    { ...ENV, PORT: "0", GFE_DATA_DIR: home.dataDir, HOME: dirname(home.dataDir) },
    BY_NPM,
  );
  await hub.printed(/GPU For Everyone is running/);
  await hub.kill("SIGTERM");
  await until(() => home.processes().length === 0, "nothing runs");
}, 90_000);

it("SIGTERM cuts what does not end within the drain's bound, and charges what was delivered", async () => {
  const hub = await begin({ GFE_DRAIN_MS: "100" });
  const asked = 50;
  const streams = await Promise.all([openStream({ max_tokens: asked }), openStream({ max_tokens: asked })]);
  expect(await hub.kill("SIGTERM")).toEqual({ code: 0, signal: null });
  expect(await Promise.all(streams.map(({ ended }) => ended))).toEqual(["error chunk", "error chunk"]);
  expect(home.processes()).toEqual([]);

  await home.start(ENV);
  await expectBalanced();
  for (const { state, error_code, usage, cost_micro } of await jobs()) {
    expect([state, error_code]).toEqual(["failed", "shutting_down"]);
    expect(usage!.output_tokens).toBeGreaterThan(0);
    // A price per request, of which a broken answer owes its delivered part.
    expect(BigInt(cost_micro)).toBe((CREDIT * BigInt(usage!.output_tokens)) / BigInt(asked));
  }
}, 90_000);
