/** The wall clock of hub and agent jumps, by an hour and by a day, both ways; what is measured goes on evenly. */
import type { Agent } from "@gfe/agent";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { joinScripted, memoryHost } from "../agents.ts";
import { type Person, startWorld, until, type World } from "../world.ts";
import { quickHeartbeats } from "./networks.ts";

const HOUR_MS = 3_600_000;
const JUMPS_MS = {
  "an hour on": HOUR_MS,
  "an hour back": -HOUR_MS,
  "a day on": 24 * HOUR_MS,
  "a day back": -24 * HOUR_MS,
};
/** Longer than the hub waits between two looks for holds whose time is up, and than either side bears silence. */
const [WORDS, PACE_MS] = [60, 100];
const PRICE = { per_request: "1000000", per_million_input: "0", per_million_output: "0" };

let restore: () => void;
beforeAll(() => {
  restore = quickHeartbeats();
});
afterAll(() => restore());

describe("a wall clock that jumps", () => {
  let world: World;
  let provider: Person;
  let consumer: Person;
  let agent: Agent;
  let lost: string[];
  beforeEach(async () => {
    world = await startWorld({
      GFE_SIGNUP_CREDITS: "100",
      GFE_FEE_PERCENT: "0",
      GFE_RATE_REQUESTS_PER_MINUTE: "60",
    });
    [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
    lost = [];
    vi.useFakeTimers({ toFake: ["Date"], shouldAdvanceTime: true, now: Date.now() });
    agent = await joinScripted(
      { models: [{ name: "m", slots: 2 }], deltas: WORDS, paceMs: PACE_MS },
      {
        ...{ hubUrl: world.hub.url, token: provider.agentToken, prices: { default: PRICE } },
        onEvent: (event) => event.type === "disconnected" && lost.push(event.reason),
      },
    );
  });
  afterEach(async () => {
    vi.useRealTimers();
    await agent.stop();
    await world.end();
  });

  const ask = (maxTokens: number) =>
    world.call("POST", "/v1/chat/completions", {
      as: consumer,
      body: { model: "m", stream: true, max_tokens: maxTokens, messages: [{ role: "user", content: "hi" }] },
    });

  it("what runs is answered, paid and not disturbed", async () => {
    const running = ask(WORDS);
    await until(() => agent.running === 1, "it runs");
    vi.setSystemTime(Date.now() + JUMPS_MS["a day on"]);
    const { status, body } = await running;
    expect([status, String(body)]).toEqual([200, expect.stringContaining("[DONE]")]);
    expect(lost).toEqual([]);
    const { rows } = await world.pool.query("SELECT state, cost_micro::int AS cost FROM jobs");
    expect(rows).toEqual([{ state: "completed", cost: 1_000_000 }]);
  }, 30_000);

  it("keys, sessions, limits, the queue and the next holds take no notice of any of them", async () => {
    for (const [n, ms] of Object.values(JUMPS_MS).entries()) {
      vi.setSystemTime(Date.now() + ms);
      const answers = await Promise.all([ask(3), ask(3), ask(3)]); // one of them waits for a slot
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
      expect(Number(answers[0]!.headers.get("x-ratelimit-remaining-requests"))).toBeGreaterThan(40 - 3 * n);
      const me = await world.call("GET", "/api/v1/me", { session: consumer });
      expect([me.status, me.body.balance.held_micro]).toEqual([200, "0"]);
      vi.setSystemTime(Date.now() - ms);
    }
    const { rows } = await world.pool.query("SELECT DISTINCT state FROM jobs");
    expect(rows).toEqual([{ state: "completed" }]);
  }, 30_000);

  it("an agent takes no jump for its hub's silence", () => {
    const host = memoryHost();
    const before = host.nowMs();
    vi.setSystemTime(Date.now() + JUMPS_MS["a day on"]);
    expect(host.nowMs() - before).toBeLessThan(HOUR_MS);
  });

  it("an agent whose clock is a day off joins", async () => {
    vi.setSystemTime(Date.now() + JUMPS_MS["a day back"]);
    const other = await joinScripted(
      { models: [{ name: "other" }] },
      { hubUrl: world.hub.url, token: provider.agentToken },
    );
    vi.setSystemTime(Date.now() - JUMPS_MS["a day back"]);
    const response = await world.call("POST", "/v1/chat/completions", {
      as: consumer,
      body: { model: "other", messages: [{ role: "user", content: "hi" }] },
    });
    expect(response.body.x_gfe.usage?.estimated ?? false).toBe(false); // its receipt counts
    expect(response.status).toBe(200);
    await other.stop();
  });
});
