/** `npm run sim -- chaos --seed N --minutes M [--json]`. */
import { parseArgs } from "node:util";
import { type ChaosReport, chaos } from "./chaos.ts";

const USAGE = `Usage: npm run sim -- chaos [--seed N] [--minutes M] [--json]

Kills hubs, agents, PostgreSQL and Redis under load, each a process of its own, then audits the books. Needs
redis-server; the database is one of its own.

  --seed N     decides what is killed when and who asks for what; drawn and printed if not given
  --minutes M  of load (2)
  --json       the report as one JSON object on standard output`;
const SEED_MAX = 2 ** 32 - 1;
const MINUTES_MAX = 24 * 60;

/** Resolves with the exit status: 1 where the books or an answer were wrong, 2 where the command was. */
export async function chaosMain(args: string[]): Promise<number> {
  const options = readOptions(args);
  if (!options) {
    console.error(USAGE);
    return 2;
  }
  const { seed, minutes, json } = options;
  const tell = (line: string) => (json ? console.error(line) : console.log(line));
  tell(`seed ${seed}, ${minutes} minutes`);
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort());
  try {
    const lengthMs = minutes * 60_000;
    const report = await chaos({ seed, lengthMs, onProgress: tell, signal: stop.signal });
    if (json) console.log(JSON.stringify(report));
    else print(report);
    return report.violations.length === 0 ? 0 : 1;
  } catch (error) {
    console.error(`chaos with seed ${seed} broke:`, error);
    return 1;
  }
}

function readOptions(args: string[]): { seed: number; minutes: number; json: boolean } | null {
  try {
    const options = {
      seed: { type: "string" },
      minutes: { type: "string" },
      json: { type: "boolean" },
    } as const;
    const { values } = parseArgs({ args, options });
    const seed = Number(values.seed ?? Math.floor(Math.random() * SEED_MAX));
    const minutes = Number(values.minutes ?? 2);
    const isSeed = Number.isInteger(seed) && seed >= 0 && seed <= SEED_MAX;
    return isSeed && minutes > 0 && minutes <= MINUTES_MAX
      ? { seed, minutes, json: values.json === true }
      : null;
  } catch {
    return null;
  }
}

function print({
  seed,
  asked,
  outcomes,
  jobs,
  kills,
  unpaid,
  restMs,
  durationMs,
  violations,
}: ChaosReport): void {
  const table = (title: string, rows: Record<string, number>) => {
    console.log(`\n${title}`);
    for (const [name, n] of Object.entries(rows)) console.log(`  ${String(n).padStart(6)}  ${name}`);
  };
  table(`${asked} asked`, outcomes);
  table("jobs in the books", jobs);
  table("killed", kills);
  console.log(
    `\n${unpaid} told whole and not charged; at rest after ${(restMs / 1000).toFixed(1)} s; ${(durationMs / 1000).toFixed(0)} s`,
  );
  if (violations.length === 0) console.log("every hold is resolved and the books balance");
  else console.error(`\n${violations.length} violations with seed ${seed}:\n  ${violations.join("\n  ")}`);
}
