/** `npm run sim -- day`: a provider's day on a virtual clock. Exits 1 where something was wrong. */
import { parseArgs } from "node:util";
import { openDatabase } from "./database.ts";
import { simulateDay } from "./day.ts";

const USAGE = `Usage: npm run sim -- day [--seed N] [--seeds COUNT] [--hours N] [--trace]

  Two real agents, the hub and the ledger for 24 virtual hours: the network, engines, hub, clocks and disks fail and
  come back. Each hour ends with all of it mended, served and at rest. See docs/simulation.md.`;
const SEED_MAX = 2 ** 32 - 1;
const HOURS_MAX = 24 * 7;

/** Resolves with the exit status. */
export async function main(args: readonly string[]): Promise<number> {
  const options = readOptions(args);
  if (!options) {
    console.error(USAGE);
    return 2;
  }
  const { seed: first, seeds, hours, trace } = options;
  const database = await openDatabase();
  let failed = 0;
  for (let seed = first; seed < first + seeds; seed++) {
    const start = process.hrtime.bigint();
    const report = await simulateDay({ seed, hours, database, ...(trace ? { trace: console.log } : {}) });
    const { violations, last, atRest, ...told } = report;
    console.log(JSON.stringify({ ...told, seconds: Number(process.hrtime.bigint() - start) / 1e9 }));
    if (violations.length === 0) continue;
    failed++;
    for (const line of [...violations, "what came before:", ...last]) console.error(`  ${line}`);
    console.error(`to see it again: npm run sim -- day --seed ${seed} --hours ${hours} --trace`);
  }
  return failed > 0 ? 1 : 0;
}

function readOptions(args: readonly string[]) {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        seed: { type: "string", default: "1" },
        seeds: { type: "string", default: "1" },
        hours: { type: "string", default: "24" },
        trace: { type: "boolean", default: false },
      },
    });
    const [seed, seeds, hours] = [values.seed, values.seeds, values.hours].map((text) =>
      /^\d{1,10}$/.test(text) ? Number(text) : 0,
    ) as [number, number, number];
    if (seed > SEED_MAX || seeds < 1 || hours < 1 || hours > HOURS_MAX) return null;
    return { seed, seeds, hours, trace: values.trace };
  } catch {
    return null;
  }
}
