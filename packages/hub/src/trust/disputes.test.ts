import fc from "fast-check";
import { expect, test } from "vitest";
import { disputeWeight } from "./disputes.ts";
import type { ReputationFact } from "./events.ts";
import { applyFact, type Counters, DISPUTES_MIN, HALF_LIFE_MS, newCounters, standing } from "./score.ts";

const NOW = Date.parse("2026-11-23T08:00:00Z");
const DAY = 86_400_000;

/** A node that did some jobs well, then. */
function nodeAt(atMs: number, jobs: number): Counters {
  const counters = newCounters(atMs);
  for (let i = 0; i < jobs; i++) applyFact(counters, { kind: "success" }, atMs);
  return counters;
}
const disputed = (weight: number): ReputationFact => ({ kind: "disputed", reason: "gibberish", weight });
const score = (counters: Counters, atMs: number): number => standing(counters, undefined, atMs).score;

/** One consumer disputes a node again and again, with these pauses between; returns the times and weights. */
function oneConsumer(pauses: readonly number[], jobs: number): { atMs: number; weight: number }[] {
  const made: { atMs: number; weight: number }[] = [];
  let atMs = NOW;
  for (const pause of pauses) {
    atMs += pause;
    const said = made.reduce((sum, one) => sum + one.weight * 2 ** (-(atMs - one.atMs) / HALF_LIFE_MS), 0);
    made.push({ atMs, weight: disputeWeight({ said, disputes: made.length, jobs }) });
  }
  return made;
}
const anyPauses = fc.array(fc.integer({ min: 0, max: 20 * DAY }), { minLength: 1, maxLength: 200 });

test("one consumer alone costs a node at most 1 in 11 of its score, however often it disputes and however it waits", () => {
  fc.assert(
    fc.property(anyPauses, fc.nat(100_000), fc.nat(50), (pauses, jobs, done) => {
      const last = NOW + pauses.reduce((sum, pause) => sum + pause, 0);
      const [honest, hit] = [nodeAt(NOW, done), nodeAt(NOW, done)];
      for (const { atMs, weight } of oneConsumer(pauses, jobs)) {
        applyFact(hit, disputed(weight), atMs);
        expect(score(hit, atMs)).toBeGreaterThanOrEqual((score(honest, atMs) * 10) / 11 - 1e-9);
      }
      expect(hit.disputed).toBeLessThanOrEqual(1 + 1e-9);
      expect(score(hit, last)).toBeLessThan(score(honest, last));
    }),
  );
});

test("many consumers together cost it half, and no more before somebody looked into it", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2_000 }), fc.nat(100), (consumers, done) => {
      const [honest, hit] = [nodeAt(NOW, done), nodeAt(NOW, done)];
      for (let i = 0; i < consumers; i++)
        applyFact(hit, disputed(disputeWeight({ said: 0, disputes: 0, jobs: 100 })), NOW);
      expect(standing(hit, undefined, NOW).parts.disputes).toBeGreaterThanOrEqual(DISPUTES_MIN);
      expect(score(hit, NOW)).toBeGreaterThanOrEqual(score(honest, NOW) * DISPUTES_MIN - 1e-9);
    }),
  );
  const ruined = nodeAt(NOW, 0);
  for (let i = 0; i < 100; i++) applyFact(ruined, disputed(0.5), NOW);
  expect(standing(ruined, undefined, NOW).parts.disputes).toBe(DISPUTES_MIN);
});

test("who disputes more than every tenth job counts less in proportion, who does not counts in full", () => {
  const weight = (disputes: number, jobs: number) => disputeWeight({ said: 0, disputes, jobs });
  expect(weight(0, 1)).toBe(0.5); // a first job, and it was bad
  expect(weight(9, 90)).toBe(0.5);
  expect(weight(49, 90)).toBeCloseTo(0.1, 9);
  fc.assert(
    fc.property(fc.nat(1_000), fc.nat(1_000), fc.double({ min: 0, max: 2, noNaN: true }), (a, jobs, said) => {
      const [now, later] = [a, a + 1].map((disputes) => disputeWeight({ said, disputes, jobs }));
      expect(later).toBeLessThanOrEqual(now!);
      expect(later).toBeGreaterThanOrEqual(0);
      expect(disputeWeight({ said, disputes: a, jobs: jobs + 1 })).toBeGreaterThanOrEqual(now!);
    }),
  );
});

test("a dispute fades, and beside more jobs it is worth less", () => {
  const hit = nodeAt(NOW, 5);
  applyFact(hit, disputed(1), NOW);
  const part = (atMs: number) => standing(hit, undefined, atMs).parts.disputes;
  const before = part(NOW);
  expect(before).toBeCloseTo(15 / 16, 9);
  expect(part(NOW + HALF_LIFE_MS)).toBeCloseTo(12.5 / 13, 9);
  for (let i = 0; i < 85; i++) applyFact(hit, { kind: "success" }, NOW);
  expect(part(NOW)).toBeCloseTo(100 / 101, 9);
});
