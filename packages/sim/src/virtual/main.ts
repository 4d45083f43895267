/** `npm run sim`: simulations on a virtual clock, one for each seed. Exits 1 where something was wrong in any. */
import { parseArgs } from "node:util";
import { openDatabase } from "./database.ts";
import { type Report, simulate } from "./simulate.ts";

const JOBS = 40;
const SEED_MAX = 2 ** 32 - 1;
const PROGRESS_S = 5;
/** Seeds with violations that are told of in full. */
const TOLD_MAX = 5;

interface Options {
  seed: number;
  jobs: number;
  seeds: number;
  trace: boolean;
  json: boolean;
}

function readOptions(args: readonly string[]): Options | null {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        seed: { type: "string", default: String(Math.floor(Math.random() * SEED_MAX)) },
        jobs: { type: "string", default: String(JOBS) },
        seeds: { type: "string", default: "1" },
        trace: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
      },
    });
    const [seed, jobs, seeds] = [values.seed, values.jobs, values.seeds].map((text) =>
      /^\d{1,10}$/.test(text) && Number(text) <= SEED_MAX ? Number(text) : null,
    );
    if (seed == null || !jobs || !seeds) return null;
    return { seed, jobs, seeds, trace: values.trace, json: values.json };
  } catch {
    return null;
  }
}

const secondsSince = (start: bigint): number => Number(process.hrtime.bigint() - start) / 1e9;

/** Resolves with the exit status. */
export async function main(args: readonly string[], usage: string): Promise<number> {
  const options = readOptions(args);
  if (!options) {
    console.error(usage);
    return 2;
  }
  const { seed: first, seeds, jobs, json } = options;
  const database = await openDatabase();
  const start = process.hrtime.bigint();
  const sum = { seeds: 0, jobs: 0, steps: 0, audits: 0, virtualMs: 0 };
  const outcomes: Record<string, number> = {};
  const happened: Record<string, number> = {};
  const failed: number[] = [];
  let toldS = 0;
  for (let seed = first; seed < first + seeds; seed++) {
    const report = await simulate({ seed, jobs, database, ...(options.trace ? { trace: console.log } : {}) });
    sum.seeds++;
    for (const name of ["jobs", "steps", "audits", "virtualMs"] as const) sum[name] += report[name];
    addTo(outcomes, report.outcomes);
    addTo(happened, report.happened);
    if (report.violations.length > 0) {
      failed.push(seed);
      if (!json && failed.length <= TOLD_MAX) tellFailure(report);
    }
    if (json && seeds > 1) console.log(JSON.stringify(report));
    else if (!json && secondsSince(start) - toldS >= PROGRESS_S) {
      toldS = secondsSince(start);
      console.log(`${sum.seeds} of ${seeds} seeds, ${failed.length} with violations, ${Math.round(toldS)} s`);
    }
    if (json && seeds === 1) console.log(JSON.stringify(report));
  }
  const seconds = secondsSince(start);
  const all = { ...sum, seconds, jobsPerSecond: sum.jobs / seconds, failed, outcomes, happened };
  if (json && seeds > 1) console.log(JSON.stringify(all));
  if (!json) print(all, first);
  return failed.length > 0 ? 1 : 0;
}

function addTo(sums: Record<string, number>, counts: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(counts)) sums[name] = (sums[name] ?? 0) + count;
}

function tellFailure({ seed, jobs, steps, violations, last }: Report): void {
  console.error(`\nseed ${seed}, step ${steps}:`);
  for (const violation of violations.slice(0, 10)) console.error(`  ${violation}`);
  console.error("\nwhat came before:");
  for (const line of last) console.error(`  ${line}`);
  console.error(`\nto see it again: npm run sim -- --seed ${seed} --jobs ${jobs} --trace\n`);
}

interface All {
  seeds: number;
  jobs: number;
  steps: number;
  audits: number;
  virtualMs: number;
  seconds: number;
  jobsPerSecond: number;
  failed: number[];
  outcomes: Record<string, number>;
  happened: Record<string, number>;
}

function print(all: All, first: number): void {
  table("for the callers", all.outcomes);
  table("what went wrong on purpose", all.happened);
  const { seeds, jobs, steps, audits, virtualMs, seconds, failed } = all;
  console.log(
    `\n${seeds} seeds from ${first}, ${jobs} requests, ${steps} steps, ${audits} audits; ${(virtualMs / 3_600_000).toFixed(2)} hours of virtual time in ${seconds.toFixed(1)} s, ${Math.round(all.jobsPerSecond)} requests a second`,
  );
  console.log(
    failed.length === 0
      ? "nothing was wrong"
      : `${failed.length} seeds with violations: ${failed.slice(0, 50).join(" ")}`,
  );
}

function table(title: string, counts: Record<string, number>): void {
  console.log(`\n${title}`);
  const rows = Object.entries(counts).sort(([, a], [, b]) => b - a);
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  for (const [name, count] of rows) console.log(`  ${name.padEnd(width)}  ${count}`);
}
