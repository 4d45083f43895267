import type { Capability } from "@gfe/protocol";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createMatcher } from "./matcher.ts";
import type { Standing, Wish } from "./needs.ts";
import { whyNot } from "./passed-over.ts";
import type { Offer } from "./registry.ts";
import { COUNTS_MAX, createTurnout, LOOKS_MAX, SAMPLE_EVERY_MS } from "./turnout.ts";

interface Shape {
  owner: string;
  context: number;
  price: number;
  running: number;
  draining: boolean;
  can: Capability[];
}

function offerOf(index: number, shape: Partial<Shape> = {}): Offer {
  const { owner = "provider", context = 8192, price = 1_000_000, running = 0, draining = false } = shape;
  const offer = {
    model: "m",
    context_length: context,
    capabilities: shape.can ?? ["chat"],
    slots: 1,
    price: { per_request: `${price}`, per_million_input: "0", per_million_output: "0" },
    engine: "scripted",
  } satisfies Offer["offer"];
  return {
    offer,
    node: {
      nodeId: `node${index}`,
      ownerId: owner,
      agentVersion: "0",
      announcement: { name: `node${index}`, gpus: [], slots: 1, models: [offer] },
      running,
      runningByModel: new Map([["m", running]]),
      draining,
      connectedAt: new Date(0),
    },
  };
}
const wishOf = (wish: Partial<Wish> = {}): Wish => ({
  ...{ model: "m", consumerId: "consumer", needs: ["chat"], contextTokensMin: 100 },
  ...{ inputTokens: 100, outputTokens: 100, excluded: new Set() },
  ...wish,
});

function setUp({ standings = {} as Record<string, Standing> } = {}) {
  let nowMs = 0;
  let drawn = 1;
  const random = () => {
    drawn = (drawn * 48271) % 2147483647;
    return drawn / 2147483647;
  };
  const turnout = createTurnout(random);
  const standingOf = ({ node }: Offer) => standings[node.nodeId] ?? { score: 80, newcomer: false };
  const matcher = createMatcher({ random, nowMs: () => nowMs, standingOf, turnout });
  return {
    turnout,
    matcher,
    choose: (offers: Offer[], wish = wishOf()) => matcher.choose(offers, wish),
    /** By node and code, or by code alone. */
    counted: () => new Map(turnout.take().map((one) => [`${one.nodeId} ${one.code}`.trim(), one.count])),
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

test("every other offer is told one reason: the first need that it does not meet, else what told most against it", () => {
  const { turnout, choose } = setUp({ standings: { node6: { score: 80, newcomer: true } } });
  const offers = [
    offerOf(0),
    offerOf(1, { owner: "consumer" }),
    offerOf(2, { context: 50 }),
    offerOf(3, { can: ["completion"] }),
    offerOf(4, { running: 1 }),
    offerOf(5, { draining: true }),
    offerOf(6),
    offerOf(7, { price: 50_000_000 }),
  ];
  choose(
    offers,
    wishOf({ maxPrice: { perRequest: 10_000_000, perMillionInput: 1e12, perMillionOutput: 1e12 } }),
  );
  const told = turnout.take();
  expect(Object.fromEntries(told.map(({ nodeId, code }) => [nodeId, code]))).toEqual({
    "": "asked",
    node0: "chosen",
    node1: "own_node",
    node2: "context",
    node3: "capability:chat",
    node4: "busy",
    node5: "draining",
    node6: "newcomer",
    node7: "max_price",
  });
  expect(told.find(({ code }) => code === "max_price")?.figures).toBe(5);
  expect(told.find(({ code }) => code === "context")?.figures).toBe(100);
});

test("a dearer one is told by how much, and is not told so where it was chosen all the same", () => {
  const { turnout, choose, pass } = setUp();
  const offers = [offerOf(0), offerOf(1, { price: 4_000_000 })];
  for (let i = 0; i < 50; i++, pass(SAMPLE_EVERY_MS)) choose(offers);
  const told = turnout.take();
  const countOf = (nodeId: string, code: string) =>
    told.find((one) => one.nodeId === nodeId && one.code === code) ?? { count: 0, figures: 0 };
  const dearer = countOf("node1", "dearer");
  expect(dearer.count).toBeGreaterThan(25);
  expect(dearer.count + countOf("node1", "chosen").count).toBe(50);
  expect(dearer.figures / dearer.count).toBe(4);
});

test("whatever is on offer, an offer is chosen, tried already, or told exactly one reason", () => {
  const shape = fc.record({
    owner: fc.constantFrom("consumer", "a", "b"),
    context: fc.constantFrom(50, 100, 200),
    price: fc.constantFrom(0, 1_000_000, 9_000_000),
    running: fc.nat(1),
    draining: fc.boolean(),
    can: fc.subarray<Capability>(["chat", "vision"], { minLength: 1 }),
  });
  fc.assert(
    fc.property(fc.array(shape, { minLength: 1, maxLength: 12 }), (shapes) => {
      const { turnout, choose } = setUp();
      const offers = shapes.map((one, index) => offerOf(index, one));
      choose(offers);
      const told = turnout.take().filter(({ nodeId }) => nodeId !== "");
      expect(told.map(({ nodeId }) => nodeId).sort()).toEqual(offers.map(({ node }) => node.nodeId).sort());
      expect(told.every(({ count }) => count === 1)).toBe(true);
    }),
  );
});

test("one wish in a while stands for those since the one before; what is asked and chosen is exact", () => {
  const { choose, counted, pass } = setUp();
  const offers = [offerOf(0), offerOf(1, { running: 1 })];
  choose(offers);
  for (let i = 0; i < 9; i++) choose(offers);
  expect(counted()).toEqual(
    new Map([
      ["asked", 10],
      ["node0 chosen", 10],
      ["node1 busy", 1],
    ]),
  );
  pass(SAMPLE_EVERY_MS);
  choose(offers);
  expect(counted()).toEqual(
    new Map([
      ["asked", 1],
      ["node0 chosen", 1],
      ["node1 busy", 10],
    ]),
  );
});

test("of very many offers a part stands for all", () => {
  const { choose, counted } = setUp();
  const offers = Array.from({ length: 10 * LOOKS_MAX }, (_, index) => offerOf(index, { running: 1 }));
  choose(offers);
  const counts = counted();
  expect(counts.size).toBe(LOOKS_MAX + 1);
  expect([...counts.values()].reduce((sum, count) => sum + count, 0)).toBe(10 * LOOKS_MAX + 1);
});

test("an offer that a waiting wish gets is chosen, and the wish was asked once", () => {
  const { choose, matcher, counted } = setUp();
  const [free, taken] = [offerOf(0), offerOf(0, { running: 1 })];
  choose([taken]);
  matcher.choose([free], wishOf(), [free]);
  matcher.choose([free], wishOf({ askedElsewhere: true }));
  expect(counted()).toEqual(
    new Map([
      ["asked", 1],
      ["node0 busy", 1],
      ["node0 chosen", 2],
    ]),
  );
});

test("a name that nobody offers is not remembered, and what cannot be written is bounded", () => {
  const { choose, turnout } = setUp();
  choose([], wishOf({ model: "made up" }));
  expect(turnout.take()).toEqual([]);
  const counts = Array.from({ length: COUNTS_MAX + 5 }, (_, n) => ({
    ...({ nodeId: `${n}`, model: "m", code: "busy", count: 1, figures: 0 } as const),
  }));
  turnout.putBack(counts);
  expect(turnout.take()).toHaveLength(COUNTS_MAX);
});

test("what is against an offer for this job alone is no reason", () => {
  const offer = offerOf(1);
  const market = {
    nowMs: 0,
    measureOf: () => ({}) as never,
    standingOf: () => ({ score: 80, newcomer: false }),
  };
  const state = { ...market, shareWithNext: () => 0, warm: null };
  expect(
    whyNot(offer, [offer], wishOf({ excluded: new Set(["node1"]) }), state, { type: "busy" }),
  ).toBeNull();
});
