import type { ModelOffer } from "@gfe/protocol";
import { describe, expect, it } from "vitest";
import { explain } from "./explain.ts";
import { RANKED_MS } from "./identity.ts";
import { match, NEUTRAL_MARKET, NEUTRAL_STANDING, type Wish } from "./match.ts";
import type { NodeEntry, Offer } from "./registry.ts";

const [OLD, NEW] = [`sha256:${"a".repeat(64)}`, `sha256:${"b".repeat(64)}`] as const;

interface Given {
  node: string;
  digest?: string;
  owner?: string;
  /** What its provider calls the model; its alias is "chat". */
  model?: string;
  quantisation?: string;
  busy?: boolean;
  draining?: boolean;
  sinceMs?: number;
}

function offerOf(given: Given): Offer {
  const { node: name, digest, owner = `owner of ${name}`, model = "chat", quantisation } = given;
  const offer: ModelOffer = {
    model,
    ...(model === "chat" ? {} : { aliases: ["chat"] }),
    ...(digest === undefined ? {} : { digest }),
    ...(quantisation === undefined ? {} : { quantisation }),
    context_length: 8192,
    capabilities: ["chat"],
    slots: 1,
    price: { per_request: "1000", per_million_input: "0", per_million_output: "0" },
    engine: "scripted",
  };
  const node: NodeEntry = {
    nodeId: name,
    ownerId: owner,
    agentVersion: "0",
    announcement: { name, gpus: [], slots: 1, models: [offer] },
    running: given.busy ? 1 : 0,
    runningByModel: new Map(),
    draining: given.draining ?? false,
    connectedAt: new Date(given.sinceMs ?? 0),
  };
  return { node, offer };
}

const wish: Wish = {
  model: "chat",
  consumerId: "consumer",
  needs: ["chat"],
  contextTokensMin: 0,
  inputTokens: 10,
  outputTokens: 10,
  excluded: new Set(),
};

/** Nodes whose name begins with "new" are newcomers. */
const market = {
  ...NEUTRAL_MARKET,
  standingOf: ({ node }: Offer) => ({ ...NEUTRAL_STANDING, newcomer: node.nodeId.startsWith("new") }),
};
/** Every node that is ever chosen, or why none is. */
function chosen(offers: readonly Offer[], fields: Partial<Wish> = {}, state = market): string[] {
  const names = new Set<string>();
  for (let i = 0; i < 60; i++) {
    const random = () => ((i * 37 + 11) % 60) / 60;
    const result = match(offers, { ...wish, ...fields }, random, state);
    names.add(result.type === "matched" ? result.offer.node.nodeId : result.type);
  }
  return [...names].sort();
}

describe("a name that stands for two models", () => {
  const two = [
    offerOf({ node: "a", digest: OLD }),
    offerOf({ node: "b", digest: OLD }),
    offerOf({ node: "c", digest: NEW }),
  ];

  it("means that of the most providers, however they call it", () => {
    expect(chosen(two)).toEqual(["a", "b"]);
    const aliased = [offerOf({ node: "a", digest: OLD, model: "llama" }), ...two.slice(1)];
    expect(chosen(aliased)).toEqual(["a", "b"]);
    expect(chosen(two, { steering: { sort: "price" } })).not.toContain("c");
  });

  it("is one by digest whatever the quantisation is said to be, and by quantisation where there is no digest", () => {
    const spelled = [
      offerOf({ node: "a", digest: OLD, quantisation: "Q4_0" }),
      offerOf({ node: "b", digest: OLD, quantisation: "q4" }),
    ];
    expect(chosen(spelled)).toEqual(["a", "b"]);
    const untold = [
      offerOf({ node: "a", quantisation: "Q4_0" }),
      offerOf({ node: "b", quantisation: "q4_0" }),
      offerOf({ node: "c", quantisation: "Q8_0" }),
    ];
    expect(chosen(untold)).toEqual(["a", "b"]);
  });

  it("counts providers, not their nodes", () => {
    const many = ["c", "d", "e"].map((node) => offerOf({ node, digest: NEW, owner: "one" }));
    expect(chosen([...two.slice(0, 2), ...many])).toEqual(["a", "b"]);
  });

  it("is not taken over by newcomers, however many", () => {
    const crowd = Array.from({ length: 300 }, (_, i) => offerOf({ node: `new${i}`, digest: NEW }));
    expect(chosen([...crowd, two[0]!])).toEqual(["a"]);
    expect(chosen(crowd).length).toBeGreaterThan(1);
  });

  it("of equals means the one that is called so; then the one that was there first", () => {
    const equals = (model: string, sinceMs: number) => [
      offerOf({ node: "a", digest: OLD, model, sinceMs }),
      offerOf({ node: "c", digest: NEW, sinceMs: 5 }),
    ];
    expect(chosen(equals("llama", 0))).toEqual(["c"]);
    expect(chosen(equals("chat", 0))).toEqual(["a"]);
    expect(chosen(equals("chat", 9))).toEqual(["c"]);
  });

  it("keeps its meaning while that is busy, was tried or is too dear for what is held", () => {
    const busy = [offerOf({ node: "a", digest: OLD, busy: true }), ...two.slice(1)];
    expect(chosen([offerOf({ node: "b", digest: OLD, busy: true }), busy[0]!, two[2]!])).toEqual(["busy"]);
    expect(chosen(two, { excluded: new Set(["a", "b"]) })).toEqual(["none_left"]);
    expect(chosen(two, { affordable: ({ node }) => node.nodeId === "c" })).toEqual(["none_left"]);
  });

  it("means the other where the first can't serve this wish at all", () => {
    expect(chosen(two, { steering: { ignore: ["a", "b"] } })).toEqual(["c"]);
    expect(chosen(two, { allows: (node) => node === "c" })).toEqual(["c"]);
    expect(chosen([offerOf({ node: "a", digest: OLD, draining: true }), two[2]!])).toEqual(["c"]);
    expect(chosen(two, { allows: () => false })).toEqual(["none_left"]);
    expect(chosen(two, { needs: ["vision"] })).toEqual(["incapable"]);
  });

  it("means the one that the caller's order names first, and others of that order", () => {
    expect(chosen(two, { steering: { order: ["c"] } })).toEqual(["c"]);
    const full = [...two.slice(0, 2), offerOf({ node: "c", digest: NEW, busy: true })];
    expect(chosen(full, { steering: { order: ["c"] } })).toEqual(["busy"]);
    expect(chosen(full, { steering: { order: ["c", "b"] } })).toEqual(["b"]);
  });

  it("means any for who says that any will do, and for a job that has begun only what it began with", () => {
    expect(chosen(two, { steering: { anyQuantisation: true } })).toEqual(["a", "b", "c"]);
    expect(chosen(two, { digest: NEW })).toEqual(["c"]);
    expect(chosen(two, { digest: NEW, excluded: new Set(["c"]) })).toEqual(["none_left"]);
    expect(chosen(two.slice(0, 2), { digest: NEW })).toEqual(["none_left"]);
    expect(chosen(two.slice(0, 2), { digest: NEW, steering: { anyQuantisation: true } })).toEqual(["a", "b"]);
  });

  it("may come to mean another as newcomers become known, soon and not at once", () => {
    const offers = [two[0]!, offerOf({ node: "new1", digest: NEW }), offerOf({ node: "new2", digest: NEW })];
    expect(chosen(offers)).toEqual(["a"]);
    const later = (nowMs: number) => chosen(offers, {}, { ...NEUTRAL_MARKET, nowMs });
    expect(later(RANKED_MS - 1)).toEqual(["a"]);
    expect(later(RANKED_MS)).toEqual(["new1", "new2"]);
  });

  it("is explained: of the other model it is the digest that is in the way", () => {
    const { offers } = explain(two, wish, () => 0, market);
    expect(offers.map(({ eligible, unmet }) => [eligible, unmet])).toEqual([
      [true, null],
      [true, null],
      [false, "digest"],
    ]);
  });
});
