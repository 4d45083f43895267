/**
 * Jobs a second, end to end: HTTP request, key, match, hold, dispatch over a real socket, answer, settlement, on a
 * durable PostgreSQL. One instant node. Afterwards the books must balance and every job must have been charged.
 */
import { fileURLToPath } from "node:url";
import { answers, startChild } from "./lib/child.ts";
import { startBenchHub } from "./lib/hub.ts";
import { requestsPerSecond, type Target } from "./lib/load.ts";
import { median, printTable, rounded } from "./lib/statistics.ts";

const ROUNDS = 3;
const DURATION_MS = 2_000;
/** The earlier system on a machine of this size; from its study, not measured here. */
const FORERUNNER_JOBS_PER_S = 16;

export async function run({ json }: { json: boolean }): Promise<void> {
  const engine = await startChild([fileURLToPath(new URL("./lib/engine.ts", import.meta.url))], {
    ready: answers("/v1/models"),
  });
  const hub = await startBenchHub();
  try {
    await hub.joinAgent(["--engine", `http://127.0.0.1:${engine.port}`, "--slots", "1000"]);
    const target: Target = { name: "ours", port: hub.port, headers: { authorization: `Bearer ${hub.key}` } };
    const figures: Record<string, number> = {};
    const rows: (string | number)[][] = [];
    for (const concurrency of [1, 10, 50, 200]) {
      const rates: number[] = [];
      for (let round = 0; round <= ROUNDS; round++) {
        const rate = await requestsPerSecond(target, "bench-1x0", {
          stream: false,
          concurrency,
          durationMs: round === 0 ? 500 : DURATION_MS,
        });
        if (round > 0) rates.push(rate);
      }
      rows.push([
        `${concurrency} at a time`,
        median(rates),
        Math.min(...rates),
        Math.max(...rates),
        (concurrency * 1000) / median(rates),
      ]);
      figures[`jobs_per_s_${concurrency}`] = rounded(median(rates));
    }
    printTable(["jobs a second", "median", "min", "max", "mean ms a job"], rows);
    figures.jobs_per_s_best = Math.max(...Object.values(figures));
    figures.times_forerunner = rounded(figures.jobs_per_s_best / FORERUNNER_JOBS_PER_S);
    await checkBooks(hub.url, hub.operatorCookie);
    console.log(
      `\nbest ${Math.round(figures.jobs_per_s_best)} jobs a second (goal ≥ 500; the forerunner did 12 to 16); the ledger verifies`,
    );
    if (json) console.log(JSON.stringify(figures));
  } finally {
    await hub.stop();
    await engine.stop();
  }
}

async function checkBooks(url: string, cookie: string): Promise<void> {
  const response = await fetch(`${url}/api/v1/ledger/verify`, { headers: { cookie } });
  const verdict = (await response.json()) as { ok: boolean; checks: { name: string; ok: boolean }[] };
  if (!verdict.ok)
    throw new Error(`the ledger does not verify: ${JSON.stringify(verdict.checks.filter(({ ok }) => !ok))}`);
}
