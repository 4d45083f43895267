import type { Capability, ModelOffer } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type MatchResult, match, type Wish } from "./match.ts";
import { hasFreeSlot, type NodeEntry, type Offer } from "./registry.ts";

interface NodeShape {
  owner: string;
  capabilities: Capability[];
  contextLength: number;
  slots: number;
  running: number;
  draining: boolean;
  perRequest: number;
  perMillionOutput: number;
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
  };
  const node: NodeEntry = {
    nodeId: `node${index}`,
    ownerId: owner,
    agentVersion: "0",
    announcement: { name: `node${index}`, gpus: [], slots, models: [offer] },
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
  })
  .map(wishOf);
const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

const priceFor = ({ offer }: Offer, { outputTokens }: Wish): number =>
  Number(offer.price.per_request) + (Number(offer.price.per_million_output) * outputTokens) / 1e6;
const isForeign = ({ node }: Offer): boolean => node.ownerId !== "consumer";
const isAble = ({ offer }: Offer, wish: Wish): boolean =>
  wish.needs.every((need) => (offer.capabilities as string[]).includes(need));
const isRoomy = ({ offer }: Offer, wish: Wish): boolean => offer.context_length >= wish.contextTokensMin;

/** What each reason promises, told a second time and in another way than match.ts does. */
function expectedType(offers: Offer[], wish: Wish): MatchResult["type"] {
  const foreign = offers.filter(isForeign);
  const able = foreign.filter((offer) => isAble(offer, wish));
  const roomy = able.filter((offer) => isRoomy(offer, wish));
  const left = roomy.filter(({ node }) => !wish.excluded.has(node.nodeId));
  if (offers.length === 0) return "model_not_found";
  if (foreign.length === 0) return "no_own_node";
  if (able.length === 0) return "incapable";
  if (roomy.length === 0) return "context_too_short";
  if (left.length === 0) return "none_left";
  return left.some(hasFreeSlot) ? "matched" : "busy";
}

describe("whatever is on offer and asked for", () => {
  test("a match is never busy, draining, excluded, the consumer's own, or unable to do what is needed", () => {
    fc.assert(
      fc.property(offersArbitrary, wishArbitrary, chance, (offers, wish, random) => {
        const result = match(offers, wish, () => random);
        if (result.type !== "matched") return;
        const { node, offer } = result.offer;
        expect(node).toMatchObject({ draining: false });
        expect(node.running).toBeLessThan(node.announcement.slots);
        expect(node.runningByModel.get("m")).toBeLessThan(offer.slots);
        expect(wish.excluded).not.toContain(node.nodeId);
        expect(node.ownerId).not.toBe(wish.consumerId);
        expect(offer.capabilities).toEqual(expect.arrayContaining([...wish.needs]));
        expect(offer.context_length).toBeGreaterThanOrEqual(wish.contextTokensMin);
      }),
    );
  });

  test("a match is the cheapest for this job, and the least loaded of those", () => {
    fc.assert(
      fc.property(offersArbitrary, wishArbitrary, chance, (offers, wish, random) => {
        const result = match(offers, wish, () => random);
        if (result.type !== "matched") return;
        const rivals = offers.filter(
          (offer) =>
            isForeign(offer) &&
            isAble(offer, wish) &&
            isRoomy(offer, wish) &&
            !wish.excluded.has(offer.node.nodeId) &&
            hasFreeSlot(offer),
        );
        const price = priceFor(result.offer, wish);
        expect(price).toBe(Math.min(...rivals.map((rival) => priceFor(rival, wish))));
        const load = ({ node }: Offer) => node.running / node.announcement.slots;
        const equals = rivals.filter((rival) => priceFor(rival, wish) === price);
        expect(load(result.offer)).toBe(Math.min(...equals.map(load)));
      }),
    );
  });

  test("the reason of a refusal is the first thing that stands in the way", () => {
    fc.assert(
      fc.property(offersArbitrary, wishArbitrary, (offers, wish) => {
        expect(match(offers, wish, () => 0).type).toBe(expectedType(offers, wish));
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
  const pick = (outputTokens: number) => match([flat, metered], wishOf({ outputTokens }), () => 0);
  expect(pick(199)).toEqual({ type: "matched", offer: metered });
  expect(pick(201)).toEqual({ type: "matched", offer: flat });
});

test("an offer that what is held cannot pay for is passed over, even where it is the only free one", () => {
  const offers = [offerOf({ perRequest: 1000 }, 0), offerOf({ slots: 1, running: 1 }, 1)];
  const affordable = ({ offer }: Offer) => Number(offer.price.per_request) < 1000;
  expect(match(offers, wishOf({ affordable }), () => 0).type).toBe("busy");
  expect(match(offers.slice(0, 1), wishOf({ affordable }), () => 0).type).toBe("none_left");
});

test("equals are chosen with the same chance each", () => {
  const offers = Array.from({ length: 4 }, (_, index) => offerOf({}, index));
  let state = 1;
  const random = () => {
    state = (Math.imul(state, 48271) >>> 0) % 2147483647;
    return state / 2147483647;
  };
  const counts = new Map<string, number>();
  for (let i = 0; i < 8000; i++) {
    const result = match(offers, wishOf(), random);
    if (result.type === "matched")
      counts.set(result.offer.node.nodeId, (counts.get(result.offer.node.nodeId) ?? 0) + 1);
  }
  expect(counts.size).toBe(4);
  for (const count of counts.values()) expect(Math.abs(count - 2000)).toBeLessThan(200);
});
