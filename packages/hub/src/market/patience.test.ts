import { describe, expect, it } from "vitest";
import { NEUTRAL_MARKET, type Wish } from "./match.ts";
import { createMatcher } from "./matcher.ts";
import { Measure } from "./measures.ts";
import { patienceOf, WARM_WAIT_MS_MAX, WORTH_OF_READING } from "./patience.ts";
import type { NodeEntry, Offer } from "./registry.ts";
import { PREFILL_TOKENS_PER_S } from "./score.ts";

const NOW_MS = 100_000;

function offerOf(name: string, running: number): Offer {
  const offer = {
    model: "m",
    context_length: 8192,
    capabilities: ["chat" as const],
    slots: 2,
    price: { per_request: "0", per_million_input: "0", per_million_output: "0" },
    engine: "scripted" as const,
  };
  const node: NodeEntry = {
    nodeId: name,
    ownerId: `owner of ${name}`,
    agentVersion: "0",
    announcement: { name, gpus: [], slots: 2, models: [offer] },
    running,
    runningByModel: new Map([["m", running]]),
    draining: false,
    connectedAt: new Date(0),
  };
  return { node, offer };
}

const wish: Wish = {
  model: "m",
  consumerId: "consumer",
  needs: ["chat"],
  contextTokensMin: 0,
  inputTokens: 10,
  outputTokens: 10,
  excluded: new Set(),
};

/** Two nodes; the one with the cache has all slots in use, which will end in so many milliseconds. */
function patience({
  endMs = [300, 900],
  tokens = 1_000,
  ahead = 0,
  running = 2,
  fields = {} as Partial<Wish>,
} = {}) {
  const offers = [offerOf("warm", running), offerOf("other", 0)];
  const measure = new Measure();
  for (const ms of endMs) measure.running.push({ sinceMs: NOW_MS - 100, expectedMs: 100 + ms });
  const market = {
    ...NEUTRAL_MARKET,
    nowMs: NOW_MS,
    measureOf: () => measure,
    warm: { nodeId: "warm", tokens },
  };
  return patienceOf(offers, { ...wish, ...fields }, market, () => ahead);
}
/** What reading so many tokens again is worth waiting. */
const worthMs = (tokens: number) => (WORTH_OF_READING * tokens * 1000) / PREFILL_TOKENS_PER_S;

describe("a conversation waits for the node that holds its cache", () => {
  it("where that will have a slot before another has read it again, and no longer than that is worth", () => {
    expect(patience()).toEqual({ nodeId: "warm", waitMs: worthMs(1_000) });
    expect(patience({ tokens: 190 })).toBeNull();
    expect(patience({ tokens: 210 })).not.toBeNull();
  });

  it("behind those who wait for it already", () => {
    expect(patience({ ahead: 1, endMs: [900, 300] })).not.toBeNull();
    expect(patience({ ahead: 1, tokens: 500 })).toBeNull();
    expect(patience({ ahead: 2, tokens: 100_000 })).toBeNull();
  });

  it("never longer than a bound, however long it is", () => {
    expect(patience({ tokens: 1_000_000 })).toEqual({ nodeId: "warm", waitMs: WARM_WAIT_MS_MAX });
    expect(patience({ tokens: 1_000_000, endMs: [WARM_WAIT_MS_MAX + 1] })).toBeNull();
  });

  it("and not where it has a free slot, can't serve it, or the caller said where to go", () => {
    expect(patience({ running: 1 })).toBeNull();
    expect(patience({ fields: { excluded: new Set(["warm"]) } })).toBeNull();
    expect(patience({ fields: { needs: ["vision"] } })).toBeNull();
    expect(patience({ fields: { steering: { sort: "price" } } })).toBeNull();
    expect(patience({ fields: { steering: { order: ["other"] } } })).toBeNull();
    expect(patience({ endMs: [] })).toBeNull();
  });

  it("as the matcher remembers it", () => {
    let nowMs = 0;
    const matcher = createMatcher({ random: () => 0, nowMs: () => nowMs });
    const prefixes = [{ hash: "turn 1", tokens: 2_000 }];
    const offers = [offerOf("warm", 0)];
    expect(matcher.choose(offers, { ...wish, prefixes }).type).toBe("matched");
    matcher.began(offers[0]!, 40);
    offers[0]!.node.running = 2;
    const next = { ...wish, prefixes: [...prefixes, { hash: "turn 2", tokens: 2_100 }] };
    nowMs = 1_500; // of the 1,800 that it will take
    expect(matcher.patience(offers, next, () => 0)).toMatchObject({ nodeId: "warm" });
    expect(matcher.patience(offers, wish, () => 0)).toBeNull();
  });
});
