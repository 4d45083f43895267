/** What a hub keeps of an answer after its end: nothing. */
import type { AttemptStart } from "@gfe/protocol";
import { afterEach, beforeEach, expect, it } from "vitest";
import { RogueAgent } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const STREAMS = 10;
/** Some timers of the last stream may take a moment to go. */
const GRACE_MS = 1_000;

let world: World;
let consumer: Person;
beforeEach(async () => {
  world = await startWorld();
  consumer = await world.person("consumer");
});
afterEach(() => world.end());

async function timersLeftBy(onStart: (start: AttemptStart, agent: RogueAgent) => void): Promise<number> {
  const { agentToken } = await world.person("provider");
  const agent = await RogueAgent.join({ hubUrl: world.hub.url, token: agentToken, onStart });
  const ask = async () => {
    const { status } = await world.call("POST", "/v1/chat/completions", {
      as: consumer,
      body: { model: "m", stream: true, max_tokens: 5, messages: [{ role: "user", content: "hi" }] },
    });
    expect(status).toBe(200);
  };
  await ask(); // connections and pools have theirs
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = timers();
  for (let i = 0; i < STREAMS; i++) await ask();
  await until(() => timers() <= before + 1, "they are gone", GRACE_MS).catch(() => {});
  await agent.leave();
  return timers() - before;
}

it("a stream that flowed leaves no timer behind", async () => {
  const left = await timersLeftBy((start, agent) => {
    agent.text(start.channel, "one");
    setTimeout(() => void agent.done(start, 1), 20);
  });
  expect(left).toBeLessThan(STREAMS / 2);
});

it("a stream whose headers go with its end leaves no timer behind", async () => {
  const left = await timersLeftBy((start, agent) => void agent.done(start, 0));
  expect(left).toBeLessThan(STREAMS / 2);
}, 60_000);

const freeSlots = async () => {
  const { body } = await world.call("GET", "/api/v1/market");
  return body.models.map(({ free_slots, slots }: Record<string, number>) => `${free_slots} of ${slots}`);
};

it("a node that joins while one request waits has all its slots again afterwards", async () => {
  const joined = async (name: string, slots: number) =>
    RogueAgent.join({
      ...{ hubUrl: world.hub.url, token: (await world.person(name)).agentToken, name, slots },
      onStart: () => {},
    });
  const ask = () =>
    world.call("POST", "/v1/chat/completions", {
      as: consumer,
      body: { model: "m", max_tokens: 5, messages: [{ role: "user", content: "hi" }] },
    });
  const first = await joined("first", 1);
  const answers = [ask()];
  await until(() => first.starts.length === 1, "its only slot is taken");
  answers.push(ask());
  await until(
    async () => String((await world.call("GET", "/metrics")).body).includes("\ngfe_jobs_queued 1\n"),
    "one request waits",
  );
  const second = await joined("second", 4);
  await until(() => second.starts.length === 1, "it was given to the new node");
  for (const agent of [first, second]) {
    agent.text(agent.starts[0]!.channel, "word");
    await agent.done(agent.starts[0]!, 1);
  }
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200]);
  await until(async () => (await world.ledger.openHolds()).length === 0, "both are settled");
  expect(await freeSlots()).toEqual(["5 of 5"]);
});
