import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createHedging, HEDGE_BURST_MAX, HEDGE_SAMPLES, HEDGE_SHARE_MAX } from "./hedging.ts";

describe("hedging", () => {
  it("waits as long as 19 of 20 first tokens took, and for nothing where too little is known", () => {
    const hedging = createHedging();
    for (let ms = 1; ms < HEDGE_SAMPLES.min; ms++) hedging.took("m", ms);
    expect(hedging.delayMs("m")).toBeNull();
    expect(hedging.delayMs("other")).toBeNull();
    for (let ms = HEDGE_SAMPLES.min; ms <= 100; ms++) hedging.took("m", ms);
    expect(hedging.delayMs("m")).toBe(96);
  });

  it("forgets what was long ago", () => {
    const hedging = createHedging();
    hedging.took("m", 60_000);
    for (let n = 0; n < HEDGE_SAMPLES.max; n++) hedging.took("m", 5);
    expect(hedging.delayMs("m")).toBe(5);
  });

  it("allows for one job in fifty and a burst, whatever the order, and counts none that found no node", () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom("began", "took one", "found none"), { maxLength: 600 }),
        (steps) => {
          const hedging = createHedging();
          let began = 0;
          let hedged = 0;
          for (const step of steps) {
            if (step === "began") {
              began++;
              hedging.began();
            } else if (step === "took one") hedged += hedging.take(() => 1) ?? 0;
            else expect(hedging.take(() => null)).toBeNull();
            expect(hedged).toBeLessThanOrEqual(1 + began * HEDGE_SHARE_MAX + 1e-9);
          }
          let burst = 0;
          while (hedging.take(() => true)) burst++;
          expect(burst).toBeLessThanOrEqual(HEDGE_BURST_MAX);
        },
      ),
    );
  });
});
