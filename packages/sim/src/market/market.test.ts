/** What matching promises, on the hub's real functions and a virtual clock; each must hold whatever the seed. */
import { describe, expect, it } from "vitest";
import { compare, jain, POLICIES, type PolicyFigures } from "./compare.ts";
import { Events } from "./events.ts";
import {
  CHATS,
  type ChatFigures,
  CROWDED_CHATS,
  conversations,
  crowd,
  newcomers,
  slowNode,
} from "./scenarios.ts";

describe.each([1, 2, 3, 20261123])("with seed %d", (seed) => {
  it("of ten nodes the one that turns ten times slower gets under 2 % from ten seconds on, and callers hardly notice", () => {
    const [slow, healthy] = [slowNode(seed, 10), slowNode(seed, 1)];
    expect(healthy.share).toBeGreaterThan(0.07);
    expect(slow.share).toBeLessThan(0.02);
    expect(slow.p99TtftMs).toBeLessThanOrEqual(1.3 * healthy.p99TtftMs);
  });

  it("ten-turn chats on eight nodes return to the same node, and the nodes share them evenly", () => {
    const { returned, imbalance } = conversations(seed, CHATS);
    expect(returned).toBeGreaterThanOrEqual(0.8);
    expect(imbalance).toBeLessThanOrEqual(1.5);
  });

  it("chats that wait for their node under load return more often, sooner, and no less evenly", () => {
    const [patient, hasty] = [true, false].map((waits) =>
      conversations(seed, { ...CROWDED_CHATS, patient: waits }),
    ) as [ChatFigures, ChatFigures];
    expect(hasty.utilisation).toBeGreaterThan(0.7);
    expect(hasty.returned).toBeLessThan(0.7);
    expect(patient.returned).toBeGreaterThanOrEqual(0.8);
    expect(patient.ttftP50Ms).toBeLessThan(hasty.ttftP50Ms);
    expect(patient.ttftP95Ms).toBeLessThan(0.9 * hasty.ttftP95Ms);
    expect(patient.imbalance).toBeLessThanOrEqual(1.5);
  });

  it("an honest newcomer beside ten known nodes has its fair share before its two hundredth job", () => {
    const { shareBefore200 } = newcomers(seed, 1, 20);
    expect(shareBefore200).toBeGreaterThan(0.7 / 11);
    expect(shareBefore200).toBeLessThan(1.3 / 11);
  });

  it("fifty nodes of one new owner get 5 % at most, and something", () => {
    const { share } = newcomers(seed, 50, Number.POSITIVE_INFINITY);
    expect(share).toBeLessThanOrEqual(0.05);
    expect(share).toBeGreaterThan(0.01);
  });

  it.each(["owner", "block"] as const)(
    "fifty nodes of one new %s get no more, and leave their part to an honest newcomer",
    (together) => {
      const shares = crowd(seed, together);
      expect(shares.crowd).toBeLessThanOrEqual(0.035);
      expect(shares.crowd).toBeGreaterThan(0.01);
      expect(shares.honest).toBeGreaterThan(0.005);
    },
  );

  it("the policy is cheaper and faster than chance, and fairer than the cheapest first and the least loaded", () => {
    const { figures } = compare({ seed, nodes: 200, jobs: 8_000 });
    const [ours, random, cheapest, leastLoaded] = POLICIES.map(
      (policy) => figures.find((one) => one.policy === policy)!,
    ) as [PolicyFigures, PolicyFigures, PolicyFigures, PolicyFigures];
    expect(ours.meanCostMicro).toBeLessThan(random.meanCostMicro);
    expect(ours.ttftP95Ms).toBeLessThan(random.ttftP95Ms);
    expect(ours.fairness).toBeGreaterThan(Math.max(cheapest.fairness, leastLoaded.fairness));
  });
});

describe("the simulation itself", () => {
  it("is the same again with the same seed", () => {
    const again = () => compare({ seed: 5, nodes: 20, jobs: 300 });
    expect(again()).toEqual(again());
  });

  it("lets things happen in the order of their time, equals in the order entered", () => {
    const events = new Events();
    const seen: string[] = [];
    for (const [name, atMs] of [
      ["c", 3],
      ["a", 1],
      ["d", 3],
      ["b", 2],
    ] as const)
      events.after(atMs, () => seen.push(`${name}${events.nowMs}`));
    events.run();
    expect(seen).toEqual(["a1", "b2", "c3", "d3"]);
  });

  it("calls equal earnings fair, and those of one alone not", () => {
    expect(jain([2, 2, 2, 2])).toBe(1);
    expect(jain([8, 0, 0, 0])).toBe(0.25);
  });
});
