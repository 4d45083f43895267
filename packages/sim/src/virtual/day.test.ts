/** A provider's day on a virtual clock: two seeds of 24 hours, and one that shows that a day replays. */
import { beforeAll, expect, it } from "vitest";
import { type Database, openDatabase } from "./database.ts";
import { simulateDay } from "./day.ts";
import { DAY_FAULTS } from "./day-faults.ts";

const SEEDS = [1];

let database: Database;
beforeAll(async () => {
  database = await openDatabase();
}, 60_000);

it("a day of faults leaks nothing, loses no receipt, pays nothing twice, and each hour ends with all of it served", async () => {
  const happened = new Set<string>();
  for (const seed of SEEDS) {
    const report = await simulateDay({ seed, database });
    expect(report.violations, `npm run sim -- day --seed ${seed}`).toEqual([]);
    expect(report.receipts).toBeGreaterThan(100);
    // Every hour both machines are as they were after the first, but for the one that sleeps through some.
    expect(new Set(report.atRest).size).toBe(2);
    expect(report.atRest.length).toBeGreaterThan(40);
    for (const what of Object.keys(report.happened)) happened.add(what);
  }
  expect([...DAY_FAULTS].filter((fault) => !happened.has(fault))).toEqual([]);
}, 120_000);

it("the same seed makes the same day", async () => {
  const [one, other] = [
    await simulateDay({ seed: 2, hours: 2, database }),
    await simulateDay({ seed: 2, hours: 2, database }),
  ];
  expect(other).toEqual(one);
  expect(one.violations).toEqual([]);
}, 60_000);
