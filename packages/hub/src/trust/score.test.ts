import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ReputationFact } from "./events.ts";
import { explained } from "./explain.ts";
import { applyFact, type Counters, HALF_LIFE_MS, newCounters, type Standing, standing } from "./score.ts";

const NOW = 1_800_000_000_000;
const DAY = 86_400_000;
type Dated = { fact: ReputationFact; ageMs: number };

const ageMs = fc.integer({ min: 0, max: 60 * DAY });
const measure = fc.record({
  tokens_per_second: fc.double({ min: 0.1, max: 5_000, noNaN: true }),
  ttft_ms: fc.double({ min: 1, max: 100_000, noNaN: true }),
  promised_tokens_per_second: fc.double({ min: 0.1, max: 5_000, noNaN: true }),
  promised_ttft_ms: fc.double({ min: 1, max: 100_000, noNaN: true }),
});
const anyFact: fc.Arbitrary<ReputationFact> = fc.oneof(
  fc.record({ kind: fc.constant("success" as const), measure }),
  fc.constant({ kind: "success" as const }),
  fc.record({ kind: fc.constant("failure" as const), reason: fc.constantFrom("stalled", "node_lost") }),
  fc.record({ kind: fc.constant("audit" as const), pass: fc.boolean(), reason: fc.constant("canary") }),
  fc
    .tuple(fc.integer({ min: 1, max: DAY }), fc.double({ min: 0, max: 1, noNaN: true }))
    .map(([observed_ms, share]) => ({
      kind: "uptime" as const,
      connected_ms: observed_ms * share,
      observed_ms,
    })),
);
const anyPast = fc.array(fc.record({ fact: anyFact, ageMs }), { maxLength: 60 });

function countersOf(past: readonly Dated[]): Counters {
  const counters = newCounters(NOW - 60 * DAY);
  for (const { fact, ageMs } of past) applyFact(counters, fact, NOW - ageMs);
  return counters;
}
/** Node and model in one, as far as the score goes. */
const scored = (past: readonly Dated[], atMs = NOW): Standing => {
  const counters = countersOf(past);
  return standing(counters, counters, atMs);
};
const newcomer = standing(undefined, undefined, NOW);

test("a newcomer begins at 64, and is called one", () => {
  expect(newcomer.score).toBeCloseTo(64, 10);
  expect(newcomer.newcomer).toBe(true);
});

test("whatever happened, the score is from 0 to 100 and every part from 0 to 1", () => {
  fc.assert(
    fc.property(anyPast, (past) => {
      const { score, parts } = scored(past);
      expect(score).toBeGreaterThanOrEqual(0);
      expect(score).toBeLessThanOrEqual(100);
      for (const part of Object.values(parts)) {
        expect(part).toBeGreaterThanOrEqual(0);
        expect(part).toBeLessThanOrEqual(1);
      }
    }),
  );
});

test("a newcomer is below every honest veteran, however long ago that worked", () => {
  const honest = fc.constantFrom<ReputationFact>(
    { kind: "success" },
    { kind: "audit", pass: true, reason: "canary" },
    { kind: "uptime", connected_ms: DAY, observed_ms: DAY },
    {
      kind: "success",
      measure: {
        tokens_per_second: 50,
        promised_tokens_per_second: 50,
        ttft_ms: 100,
        promised_ttft_ms: 100,
      },
    },
  );
  fc.assert(
    fc.property(fc.array(fc.record({ fact: honest, ageMs }), { minLength: 1, maxLength: 60 }), (past) => {
      expect(scored(past).score).toBeGreaterThan(newcomer.score);
    }),
  );
});

test("a veteran that fails one job in fifty is above a newcomer", () => {
  const past = Array.from({ length: 500 }, (_, i): Dated => {
    const fact: ReputationFact = i % 50 === 0 ? { kind: "failure", reason: "stalled" } : { kind: "success" };
    return { fact, ageMs: i * 1000 };
  });
  expect(scored(past).score).toBeGreaterThan(newcomer.score);
});

describe("after any past", () => {
  const now = 0;
  test("a success or a passed audit never lowers the score", () => {
    const good = fc.constantFrom<ReputationFact>(
      { kind: "success" },
      { kind: "audit", pass: true, reason: "canary" },
    );
    fc.assert(
      fc.property(anyPast, good, (past, fact) => {
        expect(scored([...past, { fact, ageMs: now }]).score).toBeGreaterThanOrEqual(
          scored(past).score - 1e-9,
        );
      }),
    );
  });

  test("a failure or a failed audit always lowers it", () => {
    const bad = fc.constantFrom<ReputationFact>(
      { kind: "failure", reason: "stalled" },
      { kind: "audit", pass: false, reason: "overclaimed" },
    );
    fc.assert(
      fc.property(anyPast, bad, (past, fact) => {
        expect(scored([...past, { fact, ageMs: now }]).score).toBeLessThan(scored(past).score);
      }),
    );
  });

  test("a dispute that is upheld makes it 0 until it is closed", () => {
    fc.assert(
      fc.property(anyPast, (past) => {
        const upheld: Dated = { fact: { kind: "dispute", state: "upheld" }, ageMs: now };
        const closed: Dated = { fact: { kind: "dispute", state: "closed" }, ageMs: now };
        expect(scored([...past, upheld]).score).toBe(0);
        expect(scored([...past, upheld, closed]).score).toBeCloseTo(scored(past).score, 9);
      }),
    );
  });
});

test("the past fades: half of an event's weight is gone after 7 days, and at last nothing of it is left", () => {
  const past: Dated[] = [{ fact: { kind: "failure", reason: "stalled" }, ageMs: 0 }];
  expect(scored(past, NOW + HALF_LIFE_MS).parts.success).toBeCloseTo(4 / 5.5, 10);
  expect(scored(past, NOW + 40 * HALF_LIFE_MS).score).toBeCloseTo(newcomer.score, 9);
});

test("the order in which events are applied changes nothing", () => {
  fc.assert(
    fc.property(anyPast, (past) => {
      const [there, back] = [scored(past), scored(past.toReversed())];
      expect(there.score).toBeCloseTo(back.score, 4);
      expect(there.newcomer).toBe(back.newcomer);
    }),
  );
});

test("speed is the median against the promise, and a promise that is kept nine times of ten", () => {
  const of = (speed: number, ttft: number): Dated[] =>
    Array.from({ length: 1000 }, () => ({
      fact: {
        kind: "success",
        measure: {
          tokens_per_second: speed,
          promised_tokens_per_second: 50,
          ttft_ms: ttft,
          promised_ttft_ms: 100,
        },
      },
      ageMs: 0,
    }));
  expect(scored(of(50, 100)).parts.speed).toBeGreaterThan(0.99);
  expect(scored(of(500, 1)).parts.speed).toBeLessThanOrEqual(1);
  expect(scored(of(25, 100)).parts.speed).toBeCloseTo(0.75, 1);
  expect(scored(of(50, 400)).parts.speed).toBeCloseTo(0.625, 1);
});

describe("in words", () => {
  const wordsFor = (past: Dated[]) => {
    const counters = countersOf(past);
    return explained(standing(counters, counters, NOW), counters, counters, NOW);
  };
  test("names what went wrong most, and what would raise the score", () => {
    const failures = Array.from(
      { length: 5 },
      (): Dated => ({ fact: { kind: "failure", reason: "stalled" }, ageMs: 0 }),
    );
    const { reasons, raise } = wordsFor(failures);
    expect(reasons).toEqual([{ reason: "stalled", words: "the answer stalled", weight: 5 }]);
    expect(raise.join(" ")).toContain("most often the answer stalled");
  });

  test("asks nothing of a node that has all", () => {
    const past = Array.from({ length: 2000 }, (): Dated[] => [
      { fact: { kind: "uptime", connected_ms: DAY, observed_ms: DAY }, ageMs: 0 },
      { fact: { kind: "audit", pass: true, reason: "canary" }, ageMs: 0 },
      {
        fact: {
          kind: "success",
          measure: { tokens_per_second: 9, promised_tokens_per_second: 9, ttft_ms: 9, promised_ttft_ms: 9 },
        },
        ageMs: 0,
      },
    ]).flat();
    expect(wordsFor(past).raise).toEqual([]);
  });
});
