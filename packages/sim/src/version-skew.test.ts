/** Agents that are older or newer than their hub: they stay, serve and are paid; who can't is told which version is needed. */
import { CLOSE, PROTOCOL_VERSION } from "@gfe/protocol";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { playAgent, type RecordedAgent, recordingOf } from "./recorded-agent.ts";
import { RogueAgent } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
const PAID = (CREDIT * 95n) / 100n;
const FIRST = recordingOf("agent-first");
const [OFFER] = FIRST.hello.announcement.models;
const MODEL: string = OFFER.model;

let world: World;
let provider: Person;
let consumer: Person;
let agents: RecordedAgent[] = [];

beforeAll(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "1000" });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
});
afterEach(async () => {
  for (const agent of agents) agent.leave();
  agents = [];
  await until(async () => (await onOffer()).length === 0, "nothing is on offer");
});
afterAll(() => world?.end());

async function play(
  ...args: Parameters<typeof playAgent> extends [string, string, ...infer Rest] ? Rest : never
) {
  const agent = await playAgent(world.hub.url, provider.agentToken, ...args);
  agents.push(agent);
  return agent;
}
const onOffer = async (): Promise<{ model: string }[]> =>
  (await world.call("GET", "/api/v1/market")).body.models;
const ask = (more: object = {}) =>
  world.call("POST", "/v1/chat/completions", {
    as: consumer,
    body: { model: MODEL, max_tokens: 10, messages: [{ role: "user", content: "hi" }], ...more },
  });

describe("an agent of the first version", () => {
  it("stays connected, serves, is paid, and is sent nothing that it could not read", async () => {
    const agent = await play(FIRST);
    const before = await world.available(provider);
    agent.send(FIRST.heartbeat);
    for (const stream of [false, true]) {
      const { status, body } = await ask({ stream });
      expect([status, JSON.stringify(body)]).toEqual([200, expect.stringContaining("there")]);
    }
    await until(async () => (await world.available(provider)) === before + 2n * PAID, "it is paid");
    expect(agent.isOpen).toBe(true);
    expect(agent.frames.filter(({ type }) => !FIRST.knows.includes(type))).toEqual([]);
    expect(agent.frames.filter(({ type }) => type === "refused")).toEqual([]);
    for (const start of agent.starts)
      expect(start).toMatchObject({
        ...{ attempt: expect.any(String), channel: expect.any(Number), kind: "chat", model: MODEL },
        ...{ body: expect.any(Object), deadline_ms: expect.any(Number) },
      });
  });

  it("is not asked to go on with another's answer, nor for anything else that it does not announce", async () => {
    const newer = await RogueAgent.join({
      ...{ hubUrl: world.hub.url, token: provider.agentToken, model: MODEL, digest: OFFER.digest },
      ...{ capabilities: ["continuation", "tools"], slots: 1 },
      onStart(start, agent) {
        agent.text(start.channel, "Once ");
      },
    });
    const stream = ask({ stream: true });
    await until(() => newer.starts.length === 1, "it has begun");
    const agent = await play(FIRST);
    newer.die();
    expect((await stream).body).toContain("node_lost");
    const tools = [{ type: "function", function: { name: "f", parameters: { type: "object" } } }];
    expect((await ask({ tools })).status).toBeGreaterThanOrEqual(400);
    expect(agent.starts).toEqual([]);
    expect((await ask()).status).toBe(200);
    expect(agent.starts).toHaveLength(1);
    expect(agent.starts[0].prefix).toBeUndefined();
  });
});

describe("an agent that is newer than its hub", () => {
  const newWords = (hello: typeof FIRST.hello) => ({
    ...hello,
    agent_version: "9.9.9",
    mood: "good",
    announcement: {
      ...{ ...hello.announcement, data_policy: "encrypted", cooling: "water" },
      models: [
        { ...OFFER, engine: "new-engine", capabilities: ["chat", "telepathy"], colour: "red" },
        { ...OFFER, model: "painter", capabilities: ["image"] },
      ],
    },
  });

  it("serves what both know, and what only it knows is ignored", async () => {
    const agent = await play(FIRST, newWords);
    expect(agent.nodeId).not.toBe("");
    expect((await onOffer()).map(({ model }) => model)).toEqual([MODEL]);
    agent.send({ type: "agent.weather", sunny: true });
    agent.send({ ...FIRST.heartbeat, watts: 200 });
    const { status, body } = await ask();
    expect([status, body.choices[0].message.content]).toEqual([200, "Hello there"]);
    expect(agent.isOpen).toBe(true);
    expect(agent.frames.filter(({ type }) => type === "refused")).toEqual([]);
  });

  it("is still refused, by name, what is no word at all", async () => {
    const agent = await play(FIRST, (hello) => ({
      ...hello,
      announcement: { ...hello.announcement, models: [{ ...OFFER, capabilities: ["Chat!"] }] },
    }));
    expect(await agent.closed).toEqual({
      code: CLOSE.malformed,
      reason: expect.stringContaining("announcement.models.0.capabilities.0"),
    });
  });
});

describe("an agent of a version of the protocol that the hub does not speak", () => {
  it.each([
    ["older", PROTOCOL_VERSION - 1, "update the agent"],
    ["newer", PROTOCOL_VERSION + 1, "use an older agent"],
  ])("is told so, and what to do, also where its hello is another: %s", async (_name, version, advice) => {
    for (const change of [
      (hello: object) => ({ ...hello, version }),
      () => ({ type: "hello", version, who: "me" }),
    ]) {
      const { code, reason } = await (await play(FIRST, change)).closed;
      expect(code).toBe(CLOSE.versionRefused);
      expect(reason).toContain(`version ${version} of the protocol, this hub ${PROTOCOL_VERSION}`);
      expect(reason).toContain(advice);
    }
  });
});
