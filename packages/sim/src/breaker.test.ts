/** A node that fails again and again is asked no more for a while, and nobody pays for its failures. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { RogueAgent, type RogueOptions } from "./rogue-agent.ts";
import { type Person, startWorld, type World } from "./world.ts";

/** Named apart from the hub's own constant: whoever changes that should see this test fail. */
const FAILURES_IN_A_ROW = 5;
const priceOf = (perRequest: string) => ({
  per_request: perRequest,
  per_million_input: "0",
  per_million_output: "0",
});
const CHEAP = priceOf("1000");
const DEAR = priceOf("2000");

let world: World;
let provider: Person;
let consumer: Person;

beforeEach(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "100" });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
});
afterEach(() => world.end());

const join = (options: Partial<RogueOptions>) =>
  RogueAgent.join({ hubUrl: world.hub.url, token: provider.agentToken, ...options });
const ask = () =>
  world.call("POST", "/v1/chat/completions", {
    as: consumer,
    body: { model: "m", max_tokens: 5, messages: [{ role: "user", content: "hi" }] },
  });

it("a node that failed five times in a row gets no sixth job, though nobody is cheaper", async () => {
  const broken: RogueOptions["onStart"] = (start, agent) =>
    agent.send({ type: "attempt.failed", attempt: start.attempt, code: "engine_error", message: "broken" });
  const bad = await join({ price: CHEAP, onStart: broken });
  // The only node so far: it is asked each time.
  for (let n = 0; n < FAILURES_IN_A_ROW; n++) expect((await ask()).status).toBe(502);
  await join({ price: DEAR });
  expect((await ask()).status).toBe(200);
  expect(bad.starts).toHaveLength(FAILURES_IN_A_ROW);
});

it("a request that is at fault itself takes no node out", async () => {
  const refusing: RogueOptions["onStart"] = (start, agent) =>
    agent.send({ type: "attempt.failed", attempt: start.attempt, code: "engine_refused", message: "no" });
  const node = await join({ price: CHEAP, onStart: refusing });
  for (let n = 0; n <= FAILURES_IN_A_ROW; n++) expect((await ask()).status).toBe(400);
  expect(node.starts).toHaveLength(FAILURES_IN_A_ROW + 1);
});
