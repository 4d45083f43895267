/** A ledger that does not answer: what its callers are told, and that no hold is left behind. */
import type { Ledger, VoidResult } from "@gfe/ledger";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createBilling, HOLD_WAIT_MS } from "./billing.ts";

const RIDER = { fn: "jobs_abandoned", row: {} };
const EXPIRES_MS = 600_000;

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

function begin(hold: Ledger["hold"], voids: (VoidResult | Error)[]) {
  const voided: string[] = [];
  const ledger = {
    hold,
    async void({ holdId }: { holdId: string }) {
      const result = voids.length > 1 ? voids.shift()! : voids[0]!;
      voided.push(holdId);
      if (result instanceof Error) throw result;
      return result;
    },
  } as unknown as Ledger;
  const beganMs = Date.now();
  const billing = createBilling({
    ...{ ledger, now: Date.now, random: () => 0.5, log: { warn() {}, error() {} } },
  });
  const request = {
    ...{ jobId: "job", account: "user:a", amountMicro: 1n, rider: RIDER, undone: RIDER },
    expiresAt: new Date(beganMs + EXPIRES_MS),
  };
  return { billing, voided, hold: () => billing.hold(request) };
}

it("a hold that takes too long is told as failed, and undone wherever it turns up", async () => {
  const { billing, voided, hold } = begin(
    () => new Promise(() => {}),
    [new Error("away"), "hold_not_found", "overloaded", "voided"],
  );
  const told = expect(hold()).rejects.toMatchObject({ code: "overloaded", retryAfterS: 2 });
  await vi.advanceTimersByTimeAsync(HOLD_WAIT_MS);
  await told;
  expect(billing.keeps("job")).toBe(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect([voided.length, billing.keeps("job"), billing.backlog()]).toEqual([4, false, 0]);
});

it("one that never turns up is forgotten when it cannot come any more", async () => {
  const { billing, voided, hold } = begin(() => Promise.reject(new Error("lost")), ["hold_not_found"]);
  await expect(hold()).rejects.toMatchObject({ code: "overloaded" });
  await vi.advanceTimersByTimeAsync(EXPIRES_MS);
  expect(billing.keeps("job")).toBe(false);
  expect(voided.length).toBeGreaterThan(10);
  expect(vi.getTimerCount()).toBe(0);
});

it("a refused hold is nobody's, and a granted one is kept until its time is up at most", async () => {
  const refused = begin(async () => "exceeds_credits", ["voided"]);
  await expect(refused.hold()).rejects.toMatchObject({ code: "insufficient_quota" });
  expect([refused.billing.keeps("job"), refused.voided]).toEqual([false, []]);
  const granted = begin(async () => "created", ["voided"]);
  await granted.hold();
  expect(granted.billing.keeps("job")).toBe(true);
  vi.advanceTimersByTime(EXPIRES_MS + 1);
  expect(granted.billing.keeps("job")).toBe(false);
});
