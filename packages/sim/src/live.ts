/** `npm run sim -- live`: a random market in real time, then an audit. Exits 1 where the books are wrong. */
import { parseArgs } from "node:util";
import { formatCredits } from "@gfe/protocol";
import startDatabase from "../../hub/src/testing/global-setup.ts";
import { type Report, simulate } from "./simulation.ts";

const USAGE = `Usage: npm run sim -- live [--seed N] [--jobs N] [--json]

  --seed N   decides who does what; drawn and printed if not given
  --jobs N   requests to send (500)
  --json     the report as one JSON object on standard output

The database is GFE_TEST_DATABASE_URL, else DATABASE_URL (a database of its own is made there and dropped), else an
embedded one.`;
const JOBS = 500;
const SEED_MAX = 2 ** 32 - 1;

interface Options {
  seed: number;
  jobs: number;
  json: boolean;
}

function readOptions(args: readonly string[]): Options | null {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { seed: { type: "string" }, jobs: { type: "string" }, json: { type: "boolean" } },
    });
    const seed = wholeNumber(values.seed ?? String(Math.floor(Math.random() * SEED_MAX)));
    const jobs = wholeNumber(values.jobs ?? String(JOBS));
    return seed === null || jobs === null ? null : { seed, jobs, json: values.json === true };
  } catch {
    return null;
  }
}

const wholeNumber = (text: string): number | null =>
  /^\d{1,10}$/.test(text) && Number(text) <= SEED_MAX ? Number(text) : null;

/** Resolves with the exit status. */
export async function main(args: readonly string[]): Promise<number> {
  const options = readOptions(args);
  if (!options) {
    console.error(USAGE);
    return 2;
  }
  const { seed, jobs, json } = options;
  const tell = json ? () => {} : (line: string) => console.log(line);
  tell(`seed ${seed}, ${jobs} requests`);
  const stopDatabase = await startDatabase();
  try {
    const step = Math.max(1, Math.ceil(jobs / 10));
    const onProgress = (done: number) => done % step === 0 && tell(`  ${done} of ${jobs}`);
    const report = await simulate({ seed, jobs, onProgress });
    if (json) console.log(JSON.stringify(report));
    else print(report, tell);
    if (report.violations.length === 0) return 0;
    console.error(`\n${report.violations.length} violations with seed ${seed}:`);
    for (const violation of report.violations) console.error(`  ${violation}`);
    return 1;
  } catch (error) {
    console.error(`the simulation with seed ${seed} broke:`, error);
    return 1;
  } finally {
    await stopDatabase();
  }
}

function print(report: Report, tell: (line: string) => void): void {
  table(tell, "for the callers", Object.entries(report.outcomes));
  table(tell, "what nodes did", Object.entries(report.behaviours));
  table(
    tell,
    "jobs in the books",
    report.jobs.map(({ state, jobs, costMicro, feeMicro }) => [
      state,
      `${jobs}   ${formatCredits(BigInt(costMicro))} credits, ${formatCredits(BigInt(feeMicro))} of them fees`,
    ]),
  );
  tell(
    `\n${report.bounces} times a node was thrown out, ${report.cuts} times the database; ${(report.durationMs / 1000).toFixed(1)} s`,
  );
  if (report.violations.length === 0) tell("every hold is resolved and the books balance");
}

function table(tell: (line: string) => void, title: string, rows: [string, string | number][]): void {
  tell(`\n${title}`);
  const width = Math.max(...rows.map(([name]) => name.length));
  for (const [name, value] of rows) tell(`  ${name.padEnd(width)}  ${value}`);
}
