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
