/** The simulation on a virtual clock: a fixed number of seeds, those that once showed a bug, and that it would show one. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { type Database, openDatabase } from "./database.ts";
import type { Plant } from "./plants.ts";
import { simulate } from "./simulate.ts";

const SEEDS = 6;
const JOBS = 30;

let database: Database;
beforeAll(async () => {
  database = await openDatabase();
}, 60_000);

it("no seed breaks the books, forgets a caller, or pays for what was not relayed", async () => {
  const happened = new Set<string>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const report = await simulate({ seed, jobs: JOBS, database });
    expect(report.violations, `npm run sim -- --seed ${seed} --jobs ${JOBS}`).toEqual([]);
    expect(report.audits).toBeGreaterThan(10);
    for (const what of [...Object.keys(report.outcomes), ...Object.keys(report.happened)]) happened.add(what);
  }
  // Else it says little: what it is about must have happened.
  for (const what of [
    "completed",
    "hung up",
    "the hub is killed",
    "a place is cut off",
    "a caller reads slowly",
  ])
    expect(happened).toContain(what);
  expect([...happened].filter((what) => what.startsWith("a rogue")).length).toBeGreaterThan(5);
}, 60_000);

describe("seeds that showed a bug", () => {
  it.each([[1, 40, "the node after a busy one was billed at the busy one's price"]])(
    "seed %i with %i requests: %s",
    async (seed, jobs) => {
      const { violations, last } = await simulate({ seed, jobs, database });
      expect(violations, last.join("\n")).toEqual([]);
    },
  );
});

describe("the same seed", () => {
  it("makes the same events to the last line, whatever ran before; another seed makes others", async () => {
    const one = await simulate({ seed: 11, jobs: JOBS, database });
    const other = await simulate({ seed: 12, jobs: JOBS, database });
    const again = await simulate({ seed: 11, jobs: JOBS, database });
    expect(again).toEqual(one);
    expect(other.digest).not.toBe(one.digest);
  });
});

describe("a planted bug is told of, at the same step again:", () => {
  it.each<[Plant, RegExp]>([
    ["pays twice", /outside of any hold/],
    ["pays what was not relayed", /what was relayed of it costs/],
    ["forgets a caller", /neither an answer nor an error/],
    ["repeats a word", /was handed piece \d+ of/],
  ])("%s", async (plant, words) => {
    const reports = [];
    for (let i = 0; i < 2; i++) reports.push(await simulate({ seed: 5, jobs: 12, database, plant }));
    expect(reports[0]!.violations).toContainEqual(expect.stringMatching(words));
    expect(reports[0]!.last.length).toBeGreaterThan(5);
    expect(reports[1]).toEqual(reports[0]);
  });
});

describe("npm run sim", () => {
  const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
  const sim = (...args: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const child = execFile(process.execPath, [MAIN, ...args], (_error, stdout, stderr) =>
        resolve({ code: child.exitCode!, stdout, stderr }),
      );
    });

  it("runs as many seeds as it is told to and sums them up", async () => {
    const { code, stdout, stderr } = await sim("--seed", "7", "--seeds", "2", "--jobs", "4", "--json");
    expect([code, stderr]).toEqual([0, ""]);
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map(({ seed }) => seed)).toEqual([7, 8, undefined]);
    expect(lines[2]).toMatchObject({ seeds: 2, jobs: 8, failed: [] });
  }, 120_000);

  it("tells how it is used where it is not understood", async () => {
    for (const args of [["--seed", "x"], ["--surprise"]]) {
      const { code, stderr } = await sim(...args);
      expect([code, stderr]).toEqual([2, expect.stringContaining("Usage")]);
    }
  }, 120_000);
});
