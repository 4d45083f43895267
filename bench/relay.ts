/**
 * Tokens through one hub process: as fast as it can, and at the pace of engines. Beside it in turn the same engine
 * read directly, and a bare node:http relay that pipes bytes. The engine runs inside a node's agent and costs next to
 * nothing; hub, node and reader share the machine, so the hub's own CPU for a token says more than tokens a second.
 */
import { fileURLToPath } from "node:url";
import { answers, startChild } from "./lib/child.ts";
import { type FlowTiming, readFlows } from "./lib/flow.ts";
import { startBenchHub } from "./lib/hub.ts";
import type { Target } from "./lib/load.ts";
import { cpuMs } from "./lib/process.ts";
import { median, printTable, quantile, rounded, verdict } from "./lib/statistics.ts";

const ROUNDS = 5;
const FLOOD = { streams: 16, model: "flow-20000x0", tokens: 16 * 20_000 };
const PACED = [
  { streams: 1, model: "flow-64x20", overMs: 0 },
  { streams: 50, model: "flow-64x20", overMs: 400 },
  { streams: 200, model: "flow-64x20", overMs: 400 },
  { streams: 512, model: "flow-64x20", overMs: 400 },
  { streams: 1000, model: "flow-24x100", overMs: 1500 },
];

type Figures = Record<string, number>;
/** One that is measured, and the process that relays; null where none does. */
type Measured = Target & { pid: number | null };

export async function run({ json }: { json: boolean }): Promise<void> {
  const here = (file: string) => fileURLToPath(new URL(`./lib/${file}`, import.meta.url));
  const hub = await startBenchHub();
  const source = await startChild([here("source.ts")], {
    env: { HUB_URL: hub.url, AGENT_TOKEN: hub.agentToken },
    ready: answers("/v1/models"),
  });
  const relay = await startChild([here("relay.ts")], {
    env: { UPSTREAM_PORT: String(source.port) },
    ready: answers("/"),
  });
  try {
    const targets: Measured[] = [
      { name: "engine", port: source.port, headers: {}, pid: null },
      { name: "bare relay", port: relay.port, headers: {}, pid: relay.pid },
      { name: "ours", port: hub.port, headers: { authorization: `Bearer ${hub.key}` }, pid: hub.pid },
    ];
    const figures: Figures = {};
    await compareFloods(targets.slice(1), figures);
    await comparePaces(targets, figures);
    if (json) console.log(JSON.stringify(figures));
  } finally {
    await relay.stop();
    await source.stop();
    await hub.stop();
  }
}

async function compareFloods(targets: Measured[], figures: Figures): Promise<void> {
  console.log(`A flood: ${FLOOD.streams} streams of 20,000 tokens, as fast as they are taken\n`);
  const rates = new Map<string, number[]>(targets.map(({ name }) => [name, []]));
  const costs = new Map<string, number[]>(targets.map(({ name }) => [name, []]));
  for (let round = 0; round <= ROUNDS; round++) {
    for (const target of targets) {
      const cpuBefore = cpuMs(target.pid!);
      const startedAt = performance.now();
      await readFlows(target, FLOOD.model, FLOOD.streams, 0);
      const seconds = (performance.now() - startedAt) / 1000;
      if (round === 0) continue;
      rates.get(target.name)!.push(FLOOD.tokens / seconds);
      costs.get(target.name)!.push(((cpuMs(target.pid!) - cpuBefore) * 1000) / FLOOD.tokens);
    }
  }
  printTable(
    ["through", "tokens a second", "min", "max", "its CPU µs a token"],
    targets.map(({ name }) => {
      const rate = rates.get(name)!;
      return [name, median(rate), Math.min(...rate), Math.max(...rate), median(costs.get(name)!)];
    }),
  );
  figures.flood_tokens_per_s = rounded(median(rates.get("ours")!));
  figures.flood_cpu_us_per_token = rounded(median(costs.get("ours")!));
  figures.flood_vs_bare_relay = rounded(
    median(rates.get("ours")!.map((rate, i) => rate / rates.get("bare relay")![i]!)),
  );
  console.log("");
  verdict("tokens a second through one hub process", figures.flood_tokens_per_s, ">=", 300_000);
  console.log(
    `- of what the bare relay passes on without looking at it: ${figures.flood_vs_bare_relay}; a core of its own would let the hub relay ${Math.round(1e6 / figures.flood_cpu_us_per_token).toLocaleString("en")} a second`,
  );
}

async function comparePaces(targets: Measured[], figures: Figures): Promise<void> {
  console.log("\nAt a pace: milliseconds from the engine to the reader\n");
  const rows: (string | number)[][] = [];
  for (const { streams, model, overMs } of PACED) {
    const rounds = new Map<string, { timings: FlowTiming[]; cpuUs: number }[]>();
    for (let round = 0; round <= ROUNDS; round++) {
      for (const target of targets) {
        const cpuBefore = target.pid === null ? 0 : cpuMs(target.pid);
        const timings = await readFlows(target, model, streams, overMs);
        const tokens = timings.reduce((sum, timing) => sum + timing.tokens, 0);
        const cpuUs = target.pid === null ? 0 : ((cpuMs(target.pid) - cpuBefore) * 1000) / tokens;
        if (round > 0) rounds.set(target.name, [...(rounds.get(target.name) ?? []), { timings, cpuUs }]);
      }
    }
    const of = (name: string, part: (round: { timings: FlowTiming[]; cpuUs: number }) => number) =>
      median(rounds.get(name)!.map(part));
    const delay = (share: number) => (round: { timings: FlowTiming[] }) =>
      quantile(
        round.timings.flatMap(({ delaysMs }) => delaysMs),
        share,
      );
    const stall = (round: { timings: FlowTiming[] }) =>
      Math.max(...round.timings.map(({ stallMs }) => stallMs));
    for (const { name, pid } of targets)
      rows.push([
        `${name}, ${streams} (${model.replace("flow-", "")} ms)`,
        of(name, delay(0.5)),
        of(name, delay(0.99)),
        of(name, delay(0.99)) - of("engine", delay(0.99)),
        of(name, stall),
        pid === null ? "" : of(name, ({ cpuUs }) => cpuUs),
      ]);
    figures[`added_delay_p50_ms_${streams}`] = rounded(of("ours", delay(0.5)) - of("engine", delay(0.5)));
    figures[`added_delay_p99_ms_${streams}`] = rounded(of("ours", delay(0.99)) - of("engine", delay(0.99)));
    figures[`stall_ms_${streams}`] = rounded(Math.max(...rounds.get("ours")!.map(stall)));
    figures[`cpu_us_per_token_${streams}`] = rounded(of("ours", ({ cpuUs }) => cpuUs));
  }
  printTable(
    ["through, streams", "delay p50", "p99", "added p99", "longest stall", "its CPU µs a token"],
    rows,
  );
  console.log("");
  verdict("CPU µs of the hub a token, 200 streams at 50 a second", figures.cpu_us_per_token_200!, "<=", 30);
  verdict("added p99 ms, 200 streams at 50 a second", figures.added_delay_p99_ms_200!, "<=", 10);
  verdict(
    "longest stall ms in all rounds of 512 streams; no token was lost",
    figures.stall_ms_512!,
    "<=",
    200,
  );
}
