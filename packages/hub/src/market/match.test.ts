import type { Capability, ModelOffer } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type MarketState,
  type MatchResult,
  match,
  NEUTRAL_MARKET,
  type Standing,
  type Wish,
} from "./match.ts";
import { hasFreeSlot, type NodeEntry, type Offer } from "./registry.ts";

function createRandom(seed: number): () => number {
  let state = (seed % 2147483646) + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

interface NodeShape {
  owner: string;
  capabilities: Capability[];
  contextLength: number;
  slots: number;
  running: number;
  draining: boolean;
  perRequest: number;
  perMillionOutput: number;
  digest: string;
  quantisation: string;
  region: string;
}

function offerOf(shape: Partial<NodeShape> = {}, index = 0): Offer {
  const { owner = "provider", capabilities = ["chat"], contextLength = 8192, slots = 4, running = 0 } = shape;
  const offer: ModelOffer = {
    model: "m",
    context_length: contextLength,
    capabilities,
    slots,
    price: {
      per_request: String(shape.perRequest ?? 0),
      per_million_input: "0",
      per_million_output: String(shape.perMillionOutput ?? 0),
    },
    engine: "scripted",
    ...(shape.digest === undefined ? {} : { digest: shape.digest }),
    ...(shape.quantisation === undefined ? {} : { quantisation: shape.quantisation }),
  };
  const node: NodeEntry = {
    nodeId: `node${index}`,
    ownerId: owner,
    agentVersion: "0",
    announcement: {
      name: `node${index}`,
      gpus: [],
      slots,
      models: [offer],
      ...(shape.region === undefined ? {} : { region: shape.region }),
    },
    running,
    runningByModel: new Map([["m", running]]),
    draining: shape.draining ?? false,
    connectedAt: new Date(0),
  };
  return { node, offer };
}

const wishOf = (wish: Partial<Wish> = {}): Wish => ({
  model: "m",
  consumerId: "consumer",
  needs: ["chat"],
  contextTokensMin: 100,
  inputTokens: 100,
  outputTokens: 100,
  excluded: new Set(),
  ...wish,
});

const capabilities = ["chat", "tools", "vision"] as const;
const shape: fc.Arbitrary<NodeShape> = fc.record({
  owner: fc.constantFrom("consumer", "a", "b"),
  capabilities: fc.subarray([...capabilities], { minLength: 1 }),
  contextLength: fc.constantFrom(50, 100, 200),
  slots: fc.integer({ min: 1, max: 3 }),
  running: fc.nat(3),
  draining: fc.boolean(),
  perRequest: fc.constantFrom(0, 1000, 2000),
  perMillionOutput: fc.constantFrom(0, 5_000_000, 50_000_000),
  digest: fc.constantFrom("sha256:aaaaaaaaaaaa", "sha256:bbbbbbbbbbbb"),
  quantisation: fc.constantFrom("Q4_0", "Q8_0"),
  region: fc.constantFrom("de", "us"),
});
const offersArbitrary = fc
  .array(shape, { maxLength: 8 })
  .map((shapes) =>
    shapes.map((one, index) => offerOf({ ...one, running: Math.min(one.running, one.slots) }, index)),
  );
const wishArbitrary = fc
  .record({
    needs: fc.subarray([...capabilities]),
    contextTokensMin: fc.constantFrom(0, 100, 150, 300),
    outputTokens: fc.constantFrom(0, 100, 1000),
    excluded: fc.subarray(["node0", "node1", "node2"]).map((ids) => new Set(ids)),
    maxPrice: fc.option(
      fc.record({
        perRequest: fc.constantFrom(0, 1000, Number.POSITIVE_INFINITY),
        perMillionInput: fc.constant(Number.POSITIVE_INFINITY),
        perMillionOutput: fc.constantFrom(0, 5_000_000, Number.POSITIVE_INFINITY),
      }),
      { nil: undefined },
    ),
    digest: fc.constantFrom(undefined, undefined, undefined, "sha256:aaaaaaaaaaaa"),
    steering: fc.record(
      {
        sort: fc.constantFrom(undefined, "price", "latency", "throughput"),
        order: fc.constantFrom(undefined, ["node3", "b"]),
        only: fc.constantFrom(undefined, ["node1", "node2", "a"]),
        ignore: fc.constantFrom(undefined, ["node1"], ["b"]),
        allowFallbacks: fc.boolean(),
        quantisations: fc.constantFrom(undefined, ["q4_0"]),
        anyQuantisation: fc.boolean(),
        regions: fc.constantFrom(undefined, ["de"]),
        minReputation: fc.constantFrom(undefined, 50),
      },
      { requiredKeys: [] },
    ),
  })
  .map(wishOf);
const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

const priceFor = ({ offer }: Offer, { outputTokens }: Wish): number =>
  Number(offer.price.per_request) + (Number(offer.price.per_million_output) * outputTokens) / 1e6;
/** Node 4 is banned, node 5 is new, node 6 has a bad name. */
const standingOf = ({ node }: Offer): Standing => ({
  score: node.nodeId === "node6" ? 20 : 80,
  newcomer: node.nodeId === "node5",
  banned: node.nodeId === "node4",
});
const market: MarketState = { ...NEUTRAL_MARKET, standingOf };
const isForeign = ({ node }: Offer): boolean => node.ownerId !== "consumer";
const isAble = ({ offer }: Offer, wish: Wish): boolean =>
  wish.needs.every((need) => (offer.capabilities as string[]).includes(need));
const isRoomy = ({ offer }: Offer, wish: Wish): boolean => offer.context_length >= wish.contextTokensMin;

const isNamed = ({ node }: Offer, names: readonly string[]): boolean =>
  names.some((name) => [node.nodeId, node.ownerId, node.announcement.name].includes(name));
const isCheap = ({ offer }: Offer, { maxPrice }: Wish): boolean =>
  !maxPrice ||
  (Number(offer.price.per_request) <= maxPrice.perRequest &&
    Number(offer.price.per_million_output) <= maxPrice.perMillionOutput);
function passes(one: Offer, { steering: asked = {} }: Wish): boolean {
  const { score, banned } = standingOf(one);
  if (banned || score < (asked.minReputation ?? 0)) return false;
  if (asked.only && !isNamed(one, asked.only)) return false;
  if (asked.ignore && isNamed(one, asked.ignore)) return false;
  if (asked.order && asked.allowFallbacks === false && !isNamed(one, asked.order)) return false;
  if (asked.quantisations && !asked.quantisations.includes(one.offer.quantisation!.toLowerCase()))
    return false;
  return !asked.regions || asked.regions.includes(one.node.announcement.region!);
}
/** One model only: the caller's first choice, else that of the most known providers, else of the most. */
function meantOf(offers: Offer[], wish: Wish): Offer[] {
  const { order = [], anyQuantisation } = wish.steering ?? {};
  const serving = offers.filter(
    (one) =>
      [isForeign, isAble, isRoomy, isCheap, passes].every((holds) => holds(one, wish)) && !one.node.draining,
  );
  if (wish.digest !== undefined || anyQuantisation || serving.length === 0) return offers;
  const ordered = order.map((name) => serving.find((one) => isNamed(one, [name]))).find(Boolean);
  const votes = ({ offer: { digest } }: Offer) => {
    const all = offers.filter(({ offer, node }) => offer.digest === digest && node.nodeId !== "node4");
    const owners = (some: Offer[]) => new Set(some.map(({ node }) => node.ownerId)).size;
    return 100 * owners(all.filter(({ node }) => node.nodeId !== "node5")) + owners(all);
  };
  const [most] = serving.toSorted(
    (a, b) => votes(b) - votes(a) || (a.offer.digest! < b.offer.digest! ? -1 : 1),
  );
  const { digest } = (ordered ?? most!).offer;
  return offers.filter((one) => one.offer.digest === digest || isNamed(one, order));
}
const isLeft = (one: Offer, wish: Wish): boolean =>
  !wish.excluded.has(one.node.nodeId) &&
  (wish.digest === undefined || wish.steering?.anyQuantisation === true || wish.digest === one.offer.digest);

/** What each reason promises, told a second time and in another way than match.ts does. */
function expectedType(all: Offer[], wish: Wish): MatchResult["type"] {
  const offers = meantOf(all, wish);
  const foreign = offers.filter(isForeign);
  const able = foreign.filter((offer) => isAble(offer, wish));
  const roomy = able.filter((offer) => isRoomy(offer, wish));
  const cheap = roomy.filter((offer) => isCheap(offer, wish));
  const passing = cheap.filter((offer) => passes(offer, wish));
  const left = passing.filter((offer) => isLeft(offer, wish));
  if (offers.length === 0) return "model_not_found";
  if (foreign.length === 0) return "no_own_node";
  if (able.length === 0) return "incapable";
  if (roomy.length === 0) return "context_too_short";
  if (cheap.length === 0) return "over_cap";
  if (passing.length === 0) return "filtered";
  if (left.length === 0) return "none_left";
  return left.some(hasFreeSlot) ? "matched" : "busy";
}

/** As long as the sample is not the whole. */
const manyArbitrary = fc
  .array(shape, { minLength: 1, maxLength: 8 })
  .map((shapes) => Array.from({ length: 600 }, (_, index) => offerOf(shapes[index % shapes.length], index)));

describe("whatever is on offer and asked for", () => {
  const check = (offers: Offer[], wish: Wish, seed: number) => {
    const result = match(offers, wish, createRandom(seed), market);
    expect(result.type).toBe(expectedType(offers, wish));
    if (result.type !== "matched") return;
    const { node, offer } = result.offer;
    expect(meantOf(offers, wish)).toContain(result.offer);
    expect(node).toMatchObject({ draining: false });
    expect(node.running).toBeLessThan(node.announcement.slots);
    expect(node.runningByModel.get("m")).toBeLessThan(offer.slots);
    expect(wish.excluded).not.toContain(node.nodeId);
    expect(node.ownerId).not.toBe(wish.consumerId);
    expect(offer.capabilities).toEqual(expect.arrayContaining([...wish.needs]));
    expect(offer.context_length).toBeGreaterThanOrEqual(wish.contextTokensMin);
    expect([isCheap, passes, isLeft].map((holds) => holds(result.offer, wish))).toEqual([true, true, true]);
  };

  test("a match is never over a cap, busy, draining, banned, excluded, filtered, one's own or of another digest, and a refusal names the first thing in the way", () => {
    fc.assert(fc.property(offersArbitrary, wishArbitrary, fc.nat(), check), { numRuns: 2000 });
  });

  test("the same holds where only a part of the offers is looked at", () => {
    fc.assert(fc.property(manyArbitrary, wishArbitrary, fc.nat(), check), { numRuns: 50 });
  });

  test("the same draws choose the same offer", () => {
    fc.assert(
      fc.property(offersArbitrary, wishArbitrary, fc.nat(), (offers, wish, seed) => {
        const choose = () => match(offers, wish, createRandom(seed), market);
        expect(choose()).toEqual(choose());
      }),
    );
  });

  test("sorted by price, a match is the cheapest for this job", () => {
    fc.assert(
      fc.property(offersArbitrary, wishArbitrary, chance, (offers, wish, random) => {
        const { order: _order, ...steering } = wish.steering ?? {};
        const sorted: Wish = { ...wish, steering: { ...steering, sort: "price" } };
        const result = match(offers, sorted, () => random, market);
        if (result.type !== "matched") return;
        const able = meantOf(offers, sorted).filter(
          (one) => match([one], sorted, () => 0, market).type === "matched",
        );
        expect(priceFor(result.offer, wish)).toBe(Math.min(...able.map((one) => priceFor(one, wish))));
      }),
    );
  });

  test("nothing is changed by looking", () => {
    fc.assert(
      fc.property(offersArbitrary, wishArbitrary, (offers, wish) => {
        const before = JSON.stringify(offers);
        match(offers, wish, () => 0);
        expect(JSON.stringify(offers)).toBe(before);
      }),
    );
  });
});

describe("a refusal says what would help", () => {
  test("the capabilities that the nearest node lacks, and only those", () => {
    const offers = [
      offerOf({ capabilities: ["embedding"] }, 0),
      offerOf({ capabilities: ["chat", "tools"] }, 1),
    ];
    expect(match(offers, wishOf({ needs: ["chat", "tools", "vision"] }), () => 0)).toEqual({
      type: "incapable",
      missing: ["vision"],
    });
  });

  test("the longest context of a node that could do the rest", () => {
    const offers = [
      offerOf({ contextLength: 64 }, 0),
      offerOf({ contextLength: 96 }, 1),
      offerOf({ contextLength: 9999, owner: "consumer" }, 2),
      offerOf({ contextLength: 9999, capabilities: ["embedding"] }, 3),
    ];
    expect(match(offers, wishOf(), () => 0)).toEqual({ type: "context_too_short", contextLengthMax: 96 });
  });
});

test("which price is lower depends on what the job will use", () => {
  const flat = offerOf({ perRequest: 1000 }, 0);
  const metered = offerOf({ perMillionOutput: 5_000_000 }, 1);
  const pick = (outputTokens: number) =>
    match([flat, metered], wishOf({ outputTokens, steering: { sort: "price" } }), () => 0);
  expect(pick(199)).toMatchObject({ type: "matched", offer: metered });
  expect(pick(201)).toMatchObject({ type: "matched", offer: flat });
});

test("an offer that what is held cannot pay for is passed over, even where it is the only free one", () => {
  const offers = [offerOf({ perRequest: 1000 }, 0), offerOf({ slots: 1, running: 1 }, 1)];
  const affordable = ({ offer }: Offer) => Number(offer.price.per_request) < 1000;
  expect(match(offers, wishOf({ affordable }), () => 0).type).toBe("busy");
  expect(match(offers.slice(0, 1), wishOf({ affordable }), () => 0).type).toBe("none_left");
});

test("equals are chosen with the same chance each", () => {
  const offers = Array.from({ length: 4 }, (_, index) => offerOf({}, index));
  const random = createRandom(1);
  const counts = new Map<string, number>();
  for (let i = 0; i < 8000; i++) {
    const result = match(offers, wishOf(), random);
    if (result.type === "matched")
      counts.set(result.offer.node.nodeId, (counts.get(result.offer.node.nodeId) ?? 0) + 1);
  }
  expect(counts.size).toBe(4);
  for (const count of counts.values()) expect(Math.abs(count - 2000)).toBeLessThan(200);
});

const counted = (offers: Offer[], wish: Wish, state: MarketState, times: number): Map<string, number> => {
  const random = createRandom(7);
  const counts = new Map<string, number>();
  for (let i = 0; i < times; i++) {
    const result = match(offers, wish, random, state);
    if (result.type !== "matched") continue;
    const { nodeId } = result.offer.node;
    counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  }
  return counts;
};

test("a cheaper offer gets more, and no offer that is not much dearer gets nothing", () => {
  const offers = [offerOf({ perRequest: 1_000_000 }, 0), offerOf({ perRequest: 2_000_000 }, 1)];
  const counts = counted(offers, wishOf(), market, 2000);
  expect(counts.get("node0")).toBeGreaterThan(1400);
  expect(counts.get("node1")).toBeGreaterThan(20);
});

test("a node of another hub gets a small part beside an equal one of this hub, and most where there are many", () => {
  const shared = (awayCount: number) => {
    const offers = Array.from({ length: awayCount + 1 }, (_, index) => {
      const { node, offer } = offerOf({ perRequest: 1_000_000 }, index);
      return { offer, node: index === 0 ? node : { ...node, hub: "another" } };
    });
    return counted(offers, wishOf(), market, 2000).get("node0")! / 2000;
  };
  expect(shared(1)).toBeGreaterThan(0.65);
  expect(shared(1)).toBeLessThan(0.8);
  expect(shared(9)).toBeGreaterThan(0.1);
  expect(shared(9)).toBeLessThan(0.3);
});

test("a conversation goes back to the node that holds its cache, unless that is much dearer", () => {
  const offers = [0, 1, 2, 3].map((index) => offerOf({ perRequest: 1_000_000 }, index));
  const warm = { ...market, warm: { nodeId: "node2", tokens: 500 } };
  expect(counted(offers, wishOf(), warm, 200).get("node2")).toBe(200);
  offers[2] = offerOf({ perRequest: 20_000_000 }, 2);
  expect(counted(offers, wishOf(), warm, 200).get("node2") ?? 0).toBeLessThan(10);
});

test("a newcomer gets a small part while it may, and everything where there is nobody else", () => {
  const offers = [3, 5, 7].map((index) => offerOf({ perRequest: 1_000_000 }, index));
  const explored = counted(offers, wishOf(), market, 4000).get("node5")!;
  expect(explored).toBeGreaterThan(100);
  expect(explored).toBeLessThan(300);
  expect(counted(offers, wishOf(), { ...market, shareWithNext: () => 0.03 }, 500).has("node5")).toBe(false);
  expect(counted([offers[1]!], wishOf(), { ...market, shareWithNext: () => 1 }, 10).get("node5")).toBe(10);
});

test("the caller's order goes before every score", () => {
  const offers = [0, 1, 2].map((index) => offerOf({ perRequest: 1000 * (index + 1) }, index));
  const pick = (order: string[], allowFallbacks = true) =>
    match(offers, wishOf({ steering: { order, allowFallbacks } }), () => 0.5, market);
  expect(pick(["node2", "node0"])).toMatchObject({ offer: offers[2], reason: "order" });
  expect(pick(["nobody", "node1"])).toMatchObject({ offer: offers[1] });
  expect(pick(["nobody"])).toMatchObject({ type: "matched" });
  expect(pick(["nobody"], false)).toEqual({ type: "filtered", need: "order" });
});

test("one absurd price does not make the others look alike", () => {
  const offers = [offerOf({ perRequest: 1_000_000 }, 0), offerOf({ perRequest: 5_000_000 }, 1)];
  const absurd = [...offers, offerOf({ perRequest: 1_000_000_000_000 }, 2)];
  const share = (all: Offer[]) => counted(all, wishOf(), market, 2000).get("node0")! / 2000;
  expect(share(absurd)).toBeGreaterThan(share(offers) - 0.1);
});
