/** A node loses its network in the midst of a deferred job and comes back: what it did meanwhile is delivered, once. */
import type { Agent, Script } from "@gfe/agent";
import { afterEach, beforeEach, expect, it } from "vitest";
import { joinScripted, memoryHost } from "../agents.ts";
import { type Person, startWorld, until, type World } from "../world.ts";
import type { CutProxy } from "./cut-proxy.ts";
import { before } from "./networks.ts";

const CREDIT = 1_000_000n;
const DIGEST = `sha256:${"d".repeat(64)}`;
const WORDS = Array.from({ length: 30 }, (_, at) => `word-${at} `);

let world: World;
let provider: Person;
let consumer: Person;
let proxy: CutProxy;
let url: string;
let agents: Agent[];
/** Answers that engines began, by node. */
let runs: Record<string, number>;
beforeEach(async () => {
  world = await startWorld();
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
  ({ proxy, url } = await before(world.hub.url));
  [agents, runs] = [[], {}];
});
afterEach(async () => {
  proxy.pass();
  await Promise.all(agents.map((agent) => agent.stop()));
  await proxy.close();
  await world.end();
});

async function join(name: string, hubUrl: string, script: Script = {}, host = memoryHost()): Promise<Agent> {
  runs[name] = 0;
  const counted: Script = {
    ...{ models: [{ name: "m", digest: DIGEST, slots: 1 }], text: WORDS, paceMs: 30, ...script },
    failure: () => {
      runs[name]!++;
      return undefined;
    },
  };
  const agent = await joinScripted(counted, { hubUrl, token: provider.agentToken, name, host });
  agents.push(agent);
  return agent;
}

async function submit(): Promise<string> {
  const body = { model: "m", messages: [{ role: "user", content: "count" }] };
  const { status, body: told } = await world.call("POST", "/api/v1/jobs", { as: consumer, body });
  expect(status).toBe(202);
  return told.job.id;
}
const jobOf = async (id: string) => (await world.call("GET", `/api/v1/jobs/${id}`, { as: consumer })).body;
const ended = async (id: string) => {
  await until(async () => (await jobOf(id)).ended_at !== null, "the job ends", 20_000);
  return jobOf(id);
};
const attemptsOf = async () =>
  (await world.pool.query("SELECT state, receipt IS NOT NULL AS signed FROM attempts ORDER BY 1")).rows;
const begun = (agent: Agent, tokens = 3) =>
  until(async () => (agent.attempts[0]?.tokens ?? 0) >= tokens, "it has begun");

it("one that goes on alone tells all of it when it is back, is paid once, and nobody begins anew", async () => {
  const agent = await join("cut", url);
  const spent = await world.available(consumer);
  const id = await submit();
  await begun(agent);
  await join("other", world.hub.url);
  proxy.cut();
  await begun(agent, 12);
  proxy.pass();
  const job = await ended(id);
  expect(job.state).toBe("completed");
  const answer = await world.call("GET", `/api/v1/jobs/${id}/result`, { as: consumer });
  expect(answer.body.choices[0].message.content).toBe(WORDS.join(""));
  expect(runs).toEqual({ cut: 1, other: 0 });
  expect(await attemptsOf()).toEqual([{ state: "completed", signed: true }]);
  expect(spent - (await world.available(consumer))).toBe(CREDIT);
});

it("what ended while its node was away is delivered as well", async () => {
  const agent = await join("cut", url, { paceMs: 10 });
  const id = await submit();
  await begun(agent);
  proxy.cut();
  await until(async () => agent.running === 0, "it has ended alone");
  proxy.pass();
  expect((await ended(id)).state).toBe("completed");
  expect(runs).toEqual({ cut: 1 });
  expect(await attemptsOf()).toEqual([{ state: "completed", signed: true }]);
});

it("a node whose program ended meanwhile begins anew, and is paid once", async () => {
  const host = memoryHost();
  const agent = await join("cut", url, {}, host);
  const spent = await world.available(consumer);
  const id = await submit();
  await begun(agent);
  proxy.cut();
  await agent.stop();
  proxy.pass();
  await join("cut", url, {}, host);
  expect((await ended(id)).state).toBe("completed");
  expect(spent - (await world.available(consumer))).toBe(CREDIT);
});
