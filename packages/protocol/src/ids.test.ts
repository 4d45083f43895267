import fc from "fast-check";
import { expect, test } from "vitest";
import { newAttemptId, newId, newJobId } from "./ids.ts";

const MS_MAX = 32 ** 10 - 1;

test("an id is its prefix, ten characters of time and sixteen of chance, none of them i, l, o or u", () => {
  expect(newId("node")).toMatch(/^node_[0-9a-hjkmnp-tv-z]{26}$/);
  expect(newJobId()).toMatch(/^job_/);
  expect(newAttemptId()).toMatch(/^att_/);
});

test("ids sort by the time they were made at", () => {
  const times = fc.integer({ min: 0, max: MS_MAX });
  fc.assert(
    fc.property(times, times, (a, b) => {
      fc.pre(Math.floor(a) < Math.floor(b));
      expect(newId("x", a) < newId("x", b)).toBe(true);
    }),
  );
});

test("ids of the same moment differ", () => {
  expect(new Set(Array.from({ length: 10_000 }, () => newId("x", 1))).size).toBe(10_000);
});

test("a moment between two milliseconds is the earlier one's", () => {
  expect(newId("x", 1234.9).slice(0, 12)).toBe(newId("x", 1234).slice(0, 12));
});
