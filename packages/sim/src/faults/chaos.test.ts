/** Whole processes killed at random moments under load; the same at any length is `npm run sim -- chaos`. */
import { expect, it } from "vitest";
import { withoutRedis } from "../../../hub/src/testing/redis.ts";
import { createRandom } from "../random.ts";
import { chaos } from "./chaos.ts";
import { planBlows, VICTIMS } from "./plan.ts";

const SEED = 20261123;
const LENGTH_MS = 16_000;

it("a plan is its seed's, and kills each kind at least once", () => {
  const plan = () => planBlows(createRandom(SEED), LENGTH_MS, 4);
  expect(plan()).toEqual(plan());
  expect(new Set(plan().map(({ victim }) => victim))).toEqual(new Set(VICTIMS));
});

it.skipIf(withoutRedis)(
  "whatever is killed under load, no credit and no word is lost or made, and nothing stays held",
  async () => {
    const report = await chaos({ seed: SEED, lengthMs: LENGTH_MS, consumers: 8, agents: 3 });
    expect(report.violations).toEqual([]);
    // Else it says little: what it is about must have happened.
    expect(Object.keys(report.kills).length).toBeGreaterThanOrEqual(4);
    expect(report.outcomes).toMatchObject({ whole: expect.any(Number), cut: expect.any(Number) });
  },
  150_000,
);
