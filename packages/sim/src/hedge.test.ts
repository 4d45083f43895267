/** A caller that asks for it gets the first token of whichever of two nodes is quicker, and pays one of them. */
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { RogueAgent, type RogueOptions } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const SAMPLES_MIN = 20;

let world: World;
let provider: Person;
let consumer: Person;
let model: string;
let tests = 0;

beforeAll(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "1000", GFE_FEE_PERCENT: "0" });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
});
beforeEach(() => {
  model = `model-${tests++}`;
});
afterAll(() => world.end());

const join = (onStart?: RogueOptions["onStart"]) =>
  RogueAgent.join({
    ...{ hubUrl: world.hub.url, token: provider.agentToken, model },
    ...(onStart ? { onStart } : {}),
  });
const ask = (more: object = {}) =>
  world.call("POST", "/v1/chat/completions", {
    as: consumer,
    body: { model, max_tokens: 200, messages: [{ role: "user", content: "hi" }], ...more },
  });
const attemptsOf = async (jobId: string) =>
  (
    await world.pool.query(
      "SELECT node_id, state, cost_micro::int AS cost FROM attempts WHERE job_id = $1 ORDER BY started_at",
      [jobId],
    )
  ).rows;

/** A quick node of which enough is known, and one that says nothing until it is told to. */
async function quickAndSlow() {
  const quick = await join();
  for (let n = 0; n < SAMPLES_MIN; n++) expect((await ask()).status).toBe(200);
  const slow = await join(() => {});
  /** The slow one is asked first. */
  const hedged = (hedge = true) => ask({ provider: { order: [slow.nodeId], hedge } });
  const speaks = (n: number) => {
    slow.text(slow.starts[n]!.channel, "late");
    void slow.done(slow.starts[n]!, 1);
  };
  return { quick, slow, hedged, speaks };
}

it("a second node is asked where the first is slow, the slower one cancelled, and only one is paid", async () => {
  const { quick, slow, hedged, speaks } = await quickAndSlow();
  const { status, body, headers } = await hedged();
  expect([status, body.choices[0].message.content]).toEqual([200, "word"]);
  expect(headers.get("x-gfe-provider")).toBe(quick.nodeId);
  await until(() => slow.frames.some(({ type }) => type === "attempt.cancel"), "the slow one is cancelled");
  expect(await attemptsOf(headers.get("x-gfe-job")!)).toEqual([
    { node_id: slow.nodeId, state: "cancelled", cost: 0 },
    { node_id: quick.nodeId, state: "completed", cost: 1_000_000 },
  ]);

  // One job in fifty: the next is too early.
  const next = hedged();
  await until(() => slow.starts.length === 2, "the slow one is asked again");
  const asked = quick.starts.length;
  setTimeout(() => speaks(1), 300);
  expect((await next).body.choices[0].message.content).toBe("late");
  expect(quick.starts).toHaveLength(asked);
});

it("nobody else is asked for a caller that did not ask for it", async () => {
  const { quick, slow, hedged, speaks } = await quickAndSlow();
  const answer = hedged(false);
  await until(() => slow.starts.length === 1, "the slow one is asked");
  setTimeout(() => speaks(0), 300);
  expect((await answer).body.choices[0].message.content).toBe("late");
  expect(quick.starts).toHaveLength(SAMPLES_MIN);
});
