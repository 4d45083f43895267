/** Answers that are cut off by us or by a node, while their caller is still there: what it is told, and what it pays. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { RogueAgent, type RogueOptions } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
/** One credit a token out. */
const price = { per_request: "0", per_million_input: "0", per_million_output: "1000000000000" };

let world: World;
let provider: Person;
let consumer: Person;
let stopped: boolean;

beforeEach(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "100", GFE_FEE_PERCENT: "0", GFE_DRAIN_MS: "100" });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
  stopped = false;
});
afterEach(() => (stopped ? undefined : world.end()));

const join = (onStart: RogueOptions["onStart"]) =>
  RogueAgent.join({ ...{ hubUrl: world.hub.url, token: provider.agentToken, price }, onStart: onStart! });
const ask = (body: object = {}) =>
  world.call("POST", "/v1/chat/completions", {
    as: consumer,
    body: { model: "m", max_tokens: 20, messages: [{ role: "user", content: "hi" }], ...body },
  });

/** Says five words, and then nothing. */
const halfAnAnswer: RogueOptions["onStart"] = (start, agent) => {
  for (let i = 0; i < 5; i++) agent.text(start.channel, "word ");
};

// Clients repeat a 502 by themselves, and would pay again.
it("who asked for a whole answer pays nothing for half of one that it never got", async () => {
  await join((start, agent) => {
    halfAnAnswer!(start, agent);
    setTimeout(() => agent.die(), 50);
  });
  expect((await ask()).status).toBe(502);
  await until(async () => (await world.ledger.openHolds()).length === 0, "the hold is resolved");
  expect(await world.available(consumer)).toBe(100n * CREDIT);
});

it("a whole answer that one node broke off is given by another, without a word of the first", async () => {
  let broken = false;
  const onStart: RogueOptions["onStart"] = (start, agent) => {
    if (broken) {
      agent.text(start.channel, "right");
      return void agent.done(start, 1);
    }
    broken = true;
    halfAnAnswer!(start, agent);
    agent.die();
  };
  await Promise.all([join(onStart), join(onStart)]);
  const { status, body } = await ask();
  expect([status, body.choices[0].message.content]).toEqual([200, "right"]);
  expect(await world.available(consumer)).toBe(99n * CREDIT);
});

it.each([
  ["a stream", { stream: true }],
  ["a whole answer", {}],
])("%s that a stopping hub cuts says that the hub is stopping", async (_what, body) => {
  const node = await join(halfAnAnswer);
  const answer = ask(body);
  await until(() => node.starts.length === 1, "it runs");
  stopped = true;
  await world.stop();
  const { status, body: said } = await answer;
  expect(status).toBe("stream" in body ? 200 : 503);
  expect(JSON.stringify(said)).toContain("shutting_down");
});
