import { describe, expect, test } from "vitest";
import { createAffinity, prefixesOf } from "./affinity.ts";
import { createMeasures, FAILURE_TTFT_MS, HEALING_MS, PRIOR } from "./measures.ts";
import type { Offer } from "./registry.ts";
import { createTraffic } from "./traffic.ts";

const offerOf = (nodeId: string, digest?: string): Offer =>
  ({ node: { nodeId }, offer: { model: "m", ...(digest ? { digest } : {}) } }) as Offer;
const good = { ok: true, ttftMs: 100, durationMs: 1100, outputTokens: 100 };

describe("a measure", () => {
  test("takes a worse first token at once, and a better one slowly", () => {
    const measures = createMeasures();
    const offer = offerOf("n");
    measures.begin(offer, 100, 0)(good, 0);
    expect([measures.of(offer).ttftMs, measures.of(offer).tokenMs]).toEqual([100, 10]);
    measures.begin(offer, 100, 10)({ ...good, ttftMs: 900 }, 10);
    expect(measures.of(offer).ttftMs).toBe(900);
    measures.begin(offer, 100, 20)(good, 20);
    expect(measures.of(offer).ttftMs).toBeGreaterThan(700);
  });

  test("counts a failure as a slow answer, however quick it was", () => {
    const measures = createMeasures();
    const offer = offerOf("n");
    measures.begin(offer, 100, 0)({ ok: false, ttftMs: null, durationMs: 2, outputTokens: 0 }, 2);
    expect(measures.of(offer).ttftAt(2)).toBe(FAILURE_TTFT_MS);
    expect([measures.of(offer).ok, measures.of(offer).failed]).toEqual([0, 1]);
  });

  test("that is stale heals", () => {
    const measures = createMeasures();
    const offer = offerOf("n");
    measures.begin(offer, 100, 0)({ ...good, ttftMs: 60_000, durationMs: 70_000 }, 0);
    const bad = measures.of(offer).ttftAt(0) - PRIOR.ttftMs;
    expect(measures.of(offer).ttftAt(HEALING_MS) - PRIOR.ttftMs).toBeCloseTo(bad / 2);
    expect(measures.of(offer).ttftAt(20 * HEALING_MS)).toBeLessThan(PRIOR.ttftMs * 1.01);
  });

  test("is worse while an attempt runs late, and not by what says nothing of the node", () => {
    const measures = createMeasures();
    const offer = offerOf("n");
    measures.begin(offer, 100, 0)(good, 0);
    const end = measures.begin(offer, 100, 0);
    expect(measures.of(offer).lateness(1000)).toBe(1);
    expect(measures.of(offer).lateness(5000)).toBeGreaterThan(4);
    end(null, 6000);
    end(good, 6000); // a second end counts for nothing
    expect([measures.of(offer).lateness(9000), measures.of(offer).ok]).toEqual([1, 1]);
  });

  test("is of a node and a digest, and outlives an announcement", () => {
    const measures = createMeasures();
    measures.begin(offerOf("n", "sha256:a"), 100, 0)(good, 0);
    expect(measures.of(offerOf("n", "sha256:a")).ok).toBe(1);
    expect(measures.of(offerOf("n", "sha256:b")).ok).toBe(0);
    expect(measures.of(offerOf("other", "sha256:a")).ok).toBe(0);
  });
});

describe("affinity", () => {
  const say = (...texts: string[]) => texts.map((content) => ({ role: "user", content }));

  test("finds the longest known part of a conversation", () => {
    const affinity = createAffinity();
    affinity.remember(prefixesOf(["c", "m"], say("a")), "one");
    affinity.remember(prefixesOf(["c", "m"], say("a", "b", "c")), "two");
    expect(affinity.find(prefixesOf(["c", "m"], say("a", "b", "c", "d")))).toMatchObject({ nodeId: "two" });
    expect(affinity.find(prefixesOf(["c", "m"], say("a", "x")))).toMatchObject({ nodeId: "one" });
    expect(affinity.find(prefixesOf(["c", "m"], say("x", "a")))).toBeNull();
    expect(affinity.find(prefixesOf(["other", "m"], say("a", "b")))).toBeNull();
  });

  test("keeps no text, and its hashes mean nothing without the salt", () => {
    const [salt, other] = [new Uint8Array([1]), new Uint8Array([2])];
    const [mine] = prefixesOf(["c", "m"], say("secret words"), salt);
    expect(JSON.stringify(mine)).not.toContain("secret");
    expect(prefixesOf(["c", "m"], say("secret words"), other)[0]!.hash).not.toBe(mine!.hash);
    expect(prefixesOf(["c", "m"], say("secret words"), salt)[0]).toEqual(mine);
  });

  test("forgets the oldest above its bound", () => {
    const affinity = createAffinity(2);
    for (const text of ["a", "b", "c"]) affinity.remember(prefixesOf(["c", "m"], say(text)), text);
    expect(["a", "b", "c"].map((text) => affinity.find(prefixesOf(["c", "m"], say(text)))?.nodeId)).toEqual([
      undefined,
      "b",
      "c",
    ]);
  });
});

test("traffic is a share of recent jobs, of one model, and is forgotten", () => {
  const traffic = createTraffic();
  for (let i = 0; i < 100; i++) traffic.given("m", i % 10 === 0 ? ["n"] : []);
  const share = traffic.shareWithNext("m", "n");
  expect(share).toBeGreaterThan(0.05);
  expect(share).toBeLessThan(0.1);
  for (let i = 0; i < 10_000; i++) traffic.given("m", []);
  expect(traffic.shareWithNext("m", "n")).toBeLessThan(0.001);
  expect(traffic.shareWithNext("other", "n")).toBeLessThan(0.02);
});
