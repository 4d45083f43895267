import fc from "fast-check";
import { expect, test } from "vitest";
import {
  BREAKER_ENTRIES_MAX,
  BREAKER_FAILURES_MAX,
  BREAKER_OPEN_MS,
  BREAKER_PROBE_MS_MAX,
  createBreaker,
} from "./breaker.ts";

const NODE = "node_a";
const MODEL = "llama";

function opened(nowMs = 0) {
  const breaker = createBreaker();
  for (let n = 0; n < BREAKER_FAILURES_MAX; n++) breaker.ended(NODE, MODEL, "failed", nowMs);
  return breaker;
}

test("a node is out for a model only after so many failures in a row", () => {
  const breaker = createBreaker();
  for (let n = 1; n < BREAKER_FAILURES_MAX; n++) breaker.ended(NODE, MODEL, "failed", 0);
  breaker.ended(NODE, MODEL, "succeeded", 0);
  for (let n = 1; n < BREAKER_FAILURES_MAX; n++) breaker.ended(NODE, MODEL, "failed", 0);
  expect(breaker.allows(NODE, MODEL, 0)).toBe(true);
  breaker.ended(NODE, MODEL, "failed", 0);
  expect(breaker.allows(NODE, MODEL, 0)).toBe(false);
  expect([...breaker.excluded(MODEL, 0)]).toEqual([NODE]);
});

test("other models of the node and other nodes of the model stay in", () => {
  const breaker = opened();
  expect(breaker.allows(NODE, "other", 0)).toBe(true);
  expect(breaker.allows("node_b", MODEL, 0)).toBe(true);
  expect(breaker.excluded("other", 0).size).toBe(0);
});

test("what has no verdict neither counts nor heals", () => {
  const breaker = createBreaker();
  for (let n = 1; n < BREAKER_FAILURES_MAX; n++) breaker.ended(NODE, MODEL, "failed", 0);
  breaker.ended(NODE, MODEL, "none", 0);
  expect(breaker.allows(NODE, MODEL, 0)).toBe(true);
  breaker.ended(NODE, MODEL, "failed", 0);
  expect(breaker.allows(NODE, MODEL, 0)).toBe(false);
});

test("after its while one probe goes, and its success lets all back", () => {
  const breaker = opened();
  const due = BREAKER_OPEN_MS.first;
  expect(breaker.allows(NODE, MODEL, due - 1)).toBe(false);
  expect(breaker.allows(NODE, MODEL, due)).toBe(true);
  breaker.began(NODE, MODEL, due);
  expect(breaker.allows(NODE, MODEL, due)).toBe(false);
  breaker.ended(NODE, MODEL, "succeeded", due + 1);
  breaker.began(NODE, MODEL, due + 1);
  expect(breaker.allows(NODE, MODEL, due + 1)).toBe(true);
});

test("a failed probe keeps the node out for twice as long, up to the limit", () => {
  const breaker = opened();
  let nowMs = 0;
  for (let openMs: number = BREAKER_OPEN_MS.first, n = 0; n < 12; n++) {
    expect(breaker.allows(NODE, MODEL, nowMs + openMs - 1)).toBe(false);
    nowMs += openMs;
    expect(breaker.allows(NODE, MODEL, nowMs)).toBe(true);
    breaker.began(NODE, MODEL, nowMs);
    breaker.ended(NODE, MODEL, "failed", nowMs);
    openMs = Math.min(openMs * 2, BREAKER_OPEN_MS.max);
  }
});

test("attempts that were under way when it opened do not prolong the while", () => {
  const breaker = opened();
  for (let n = 0; n < 20; n++) breaker.ended(NODE, MODEL, "failed", 1_000);
  expect(breaker.allows(NODE, MODEL, BREAKER_OPEN_MS.first)).toBe(true);
});

test("a probe whose caller left makes room for the next, and one without an end after its bound", () => {
  const breaker = opened();
  const due = BREAKER_OPEN_MS.first;
  breaker.began(NODE, MODEL, due);
  breaker.ended(NODE, MODEL, "none", due + 1);
  expect(breaker.allows(NODE, MODEL, due + 1)).toBe(true);
  breaker.began(NODE, MODEL, due + 1);
  expect(breaker.allows(NODE, MODEL, due + BREAKER_PROBE_MS_MAX)).toBe(false);
  expect(breaker.allows(NODE, MODEL, due + 1 + BREAKER_PROBE_MS_MAX)).toBe(true);
});

test("it remembers so many pairs and no more, forgetting what failed longest ago", () => {
  const breaker = opened();
  for (let n = 0; n < BREAKER_ENTRIES_MAX; n++) breaker.ended(`node${n}`, MODEL, "failed", 0);
  expect(breaker.allows(NODE, MODEL, 0)).toBe(true);
});

test("at most one probe runs at any time, and a node that keeps failing is never asked sooner than its while", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(5_000), fc.constantFrom("failed", "none")), { maxLength: 60 }),
      (steps) => {
        const breaker = opened();
        let nowMs = 0;
        let openMs: number = BREAKER_OPEN_MS.first;
        let dueMs = openMs;
        for (const [laterMs, verdict] of steps) {
          nowMs += laterMs;
          expect(breaker.allows(NODE, MODEL, nowMs)).toBe(nowMs >= dueMs);
          if (nowMs < dueMs) continue;
          breaker.began(NODE, MODEL, nowMs);
          expect(breaker.allows(NODE, MODEL, nowMs)).toBe(false);
          breaker.ended(NODE, MODEL, verdict as "failed" | "none", nowMs);
          if (verdict === "none") continue;
          openMs = Math.min(openMs * 2, BREAKER_OPEN_MS.max);
          dueMs = nowMs + openMs;
        }
      },
    ),
  );
});
