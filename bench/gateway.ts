/**
 * What our gateway adds to an engine and how many requests a second it serves, beside a bare node:http relay, nginx,
 * @portkey-ai/gateway and LiteLLM's proxy. Everything in one run, in turn, each program in a process of its own. Ours
 * authenticates, holds, relays over the agent's socket and settles on a durable PostgreSQL; the others do no accounting.
 * `--rates` and `--delays` measure one half; `--profile` only shows where our own time goes.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { answers, type Child, startChild } from "./lib/child.ts";
import { type BenchHub, startBenchHub } from "./lib/hub.ts";
import { requestsPerSecond, type Target, timeStreams } from "./lib/load.ts";
import { type Peer, startPeers } from "./lib/peers.ts";
import { cpuMs, descendants } from "./lib/process.ts";
import { printProfiles, profileArguments } from "./lib/profile.ts";
import { median, printTable, quantile, rounded, verdict } from "./lib/statistics.ts";

const ROUNDS = 5;
/** How streams come: alone, or begun evenly, so that each starts while all the others run. */
const ARRIVALS = [
  // One after another, of one token: the way there is what is measured, and it takes many to tell.
  { streams: 1, model: "bench-1x0", overMs: 0, times: 200, name: "1, engine's first token at once" },
  { streams: 1, model: "bench-1x0after20", overMs: 0, times: 40, name: "1, after 20 ms" },
  { streams: 50, model: "bench-64x20", overMs: 64 * 20, times: 1, name: "50" },
  { streams: 200, model: "bench-64x20", overMs: 64 * 20, times: 1, name: "200" },
  { streams: 1000, model: "bench-24x100", overMs: 24 * 100, times: 1, name: "1,000" },
];
/** Streams at once beyond which a peer is not asked: LiteLLM spends more than a core on 50. */
const STREAMS_MAX: Record<string, number> = { litellm: 50 };
const RATE = { concurrency: 64, durationMs: 2_000, warmUpMs: 1_500 };
const PROFILED_MS = 8_000;

type Figures = Record<string, number | string>;
/** One that is measured, and what it has used of the CPU so far. */
type Measured = Target & { cpuMs(): number };

export async function run({ json, args }: { json: boolean; args: string[] }): Promise<void> {
  if (args.includes("--profile")) return profile();
  const children: Child[] = [];
  const engine = await startEngine();
  children.push(engine);
  const relay = await startChild([here("relay.ts")], {
    env: { UPSTREAM_PORT: String(engine.port) },
    ready: answers("/v1/models"),
  });
  children.push(relay);
  const peers = await startPeers(engine.port);
  children.push(...peers.map(({ child }) => child));
  const hub = await startBenchHub();
  try {
    await hub.joinAgent(["--engine", `http://127.0.0.1:${engine.port}`, "--slots", "1000"]);
    const targets: Measured[] = [
      { name: "bare relay", port: relay.port, headers: {}, cpuMs: () => cpuMs(relay.pid) },
      ...peers.map(measured),
      { ...targetOf(hub), cpuMs: () => sum(Object.values(hub.cpu())) },
    ];
    const figures: Figures = {
      machine: `${cpus().length} × ${cpus()[0]?.model}`,
      node: process.version,
      peers: peers.map(({ target, version }) => `${target.name} ${version}`).join(", "),
    };
    console.log(`${figures.machine}, Node ${figures.node}, ${figures.peers}\n`);
    if (!args.includes("--delays")) await compareRates(targets, hub, figures);
    // After the rates, so that every program under measure has been compiled by use: a hub at work is warm.
    const direct: Measured = { name: "engine", port: engine.port, headers: {}, cpuMs: () => 0 };
    if (!args.includes("--rates")) await compareDelays([direct, ...targets], figures);
    if (json) console.log(JSON.stringify(figures));
  } finally {
    await hub.stop();
    for (const child of children.reverse()) await child.stop();
  }
}

const here = (file: string): string => fileURLToPath(new URL(`./lib/${file}`, import.meta.url));
const startEngine = (): Promise<Child> => startChild([here("engine.ts")], { ready: answers("/v1/models") });
const targetOf = (hub: BenchHub): Target => ({
  name: "ours",
  port: hub.port,
  headers: { authorization: `Bearer ${hub.key}` },
});
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

function measured({ target, child }: Peer): Measured {
  const processes = [child.pid, ...descendants(child.pid)];
  return { ...target, cpuMs: () => sum(processes.map(cpuMs)) };
}

interface Rate {
  perS: number;
  cpuUs: number;
}

async function compareRates(targets: Measured[], hub: BenchHub, figures: Figures): Promise<void> {
  console.log(`Requests a second, ${RATE.concurrency} at a time, engine without pace\n`);
  const rows: (string | number)[][] = [];
  const parts = { hub: 0, agents: 0, database: 0 };
  for (const stream of [false, true]) {
    const rates = new Map<string, Rate[]>(targets.map(({ name }) => [name, []]));
    for (let round = 0; round <= ROUNDS; round++) {
      for (const target of targets) {
        const durationMs = round === 0 ? RATE.warmUpMs : RATE.durationMs;
        const [before, ofParts] = [target.cpuMs(), hub.cpu()];
        const startedAt = performance.now();
        const perS = await requestsPerSecond(target, "bench-64x0", { ...RATE, stream, durationMs });
        const requests = (perS * (performance.now() - startedAt)) / 1000;
        if (round === 0) continue;
        rates.get(target.name)!.push({ perS, cpuUs: ((target.cpuMs() - before) * 1000) / requests });
        if (target.name !== "ours" || stream) continue;
        const after = hub.cpu();
        for (const part of ["hub", "agents", "database"] as const)
          parts[part] += ((after[part] - ofParts[part]) * 1000) / requests / ROUNDS;
      }
    }
    const kind = stream ? "streaming" : "plain";
    const ours = rates.get("ours")!;
    const times = (name: string) => median(ours.map(({ perS }, i) => perS / rates.get(name)![i]!.perS));
    for (const { name } of targets) {
      const all = rates.get(name)!.map(({ perS }) => perS);
      rows.push([
        `${name}, ${kind}`,
        median(all),
        Math.min(...all),
        Math.max(...all),
        // Pair by pair: neighbours in time see the same machine.
        times(name),
        median(rates.get(name)!.map(({ cpuUs }) => cpuUs)),
      ]);
      figures[`${kind}_rps_${name.replaceAll(" ", "_")}`] = rounded(median(all));
      if (name !== "ours") figures[`${kind}_rps_vs_${name.replaceAll(" ", "_")}`] = rounded(times(name));
    }
  }
  printTable(["through", "median", "min", "max", "ours against it", "its CPU µs a request"], rows);
  console.log(
    `\nOf ours, plain: hub ${Math.round(parts.hub)} µs, agent ${Math.round(parts.agents)} µs, PostgreSQL ${Math.round(parts.database)} µs a request. Engine, load and all under measure share ${cpus().length} cores.\n`,
  );
  for (const kind of ["plain", "streaming"]) {
    for (const [name, goal] of [
      ["portkey", 3],
      ["litellm", 10],
      ["bare_relay", 0.6],
    ] as const) {
      const ratio = figures[`${kind}_rps_vs_${name}`];
      if (typeof ratio === "number")
        verdict(`${kind} requests a second against ${name.replace("_", " ")}`, ratio, ">=", goal);
    }
  }
}

interface Stream {
  ttftMs: number[];
  gapsMs: number[];
}

async function compareDelays(targets: Measured[], figures: Figures): Promise<void> {
  console.log("\nAdded delay, engine at its pace (milliseconds)\n");
  for (const { streams, model, overMs, times, name: arrival } of ARRIVALS) {
    const rows: (string | number)[][] = [];
    const asked = targets.filter(({ name }) => streams <= (STREAMS_MAX[name] ?? streams));
    const timed = new Map<string, Stream & { cpuUs: number[] }>(
      asked.map(({ name }) => [name, { ttftMs: [], gapsMs: [], cpuUs: [] }]),
    );
    for (let round = 0; round <= ROUNDS; round++) {
      for (const target of asked) {
        for (let i = 0; i < times; i++) {
          const before = target.cpuMs();
          const timings = await timeStreams(target, model, streams, overMs);
          if (round === 0) continue; // warm-up
          const { ttftMs, gapsMs, cpuUs } = timed.get(target.name)!;
          for (const timing of timings) {
            ttftMs.push(timing.ttftMs);
            gapsMs.push(...timing.gapsMs);
          }
          const tokens = sum(timings.map((timing) => timing.gapsMs.length + 1));
          cpuUs.push(((target.cpuMs() - before) * 1000) / tokens);
        }
      }
    }
    const base = timed.get("engine")!;
    const added = (name: string) => median(timed.get(name)!.ttftMs) - median(base.ttftMs);
    for (const { name } of asked) {
      const { ttftMs, gapsMs, cpuUs } = timed.get(name)!;
      const gap = gapsMs.length > 0 ? quantile(gapsMs, 0.99) : "–";
      const addedGap = gapsMs.length > 0 ? quantile(gapsMs, 0.99) - quantile(base.gapsMs, 0.99) : "–";
      rows.push([
        `${name}, ${arrival}`,
        median(ttftMs),
        quantile(ttftMs, 0.99),
        added(name),
        gap,
        addedGap,
        name === "engine" ? "" : median(cpuUs),
      ]);
      const key = `${name.replaceAll(" ", "_")}_${arrival.replaceAll(/[^0-9a-z]+/g, "_")}`;
      figures[`added_ttft_p50_ms_${key}`] = rounded(added(name));
      if (typeof addedGap === "number") figures[`added_gap_p99_ms_${key}`] = rounded(addedGap);
    }
    printTable(
      ["through, streams", "TTFT p50", "p99", "added p50", "gap p99", "added p99", "its CPU µs a token"],
      rows,
    );
    console.log("");
    if (streams > 1) continue;
    verdict(`added TTFT p50 ms, ${arrival}`, added("ours"), "<=", 0.5);
    console.log(`  of which a bare relay adds ${added("bare relay").toFixed(2)}`);
    if (timed.has("portkey"))
      verdict(
        "Portkey's added TTFT against ours",
        added("portkey") / Math.max(0.01, added("ours")),
        ">=",
        20,
      );
    console.log("");
  }
}

/** Where hub and agent spend their time under the load of `--rates`. */
async function profile(): Promise<void> {
  const engine = await startEngine();
  for (const stream of [false, true]) {
    const directory = mkdtempSync(join(tmpdir(), "gfe-bench-profile-"));
    const [ofHub, ofAgent] = [join(directory, "hub"), join(directory, "agent")];
    for (const each of [ofHub, ofAgent]) mkdirSync(each);
    const hub = await startBenchHub({
      hubArguments: profileArguments(ofHub),
      agentArguments: profileArguments(ofAgent),
    });
    await hub.joinAgent(["--engine", `http://127.0.0.1:${engine.port}`, "--slots", "1000"]);
    await requestsPerSecond(targetOf(hub), "bench-64x0", { ...RATE, stream, durationMs: PROFILED_MS });
    await hub.stop();
    console.log(`\n## ${stream ? "Streaming" : "Plain"}`);
    for (const each of [ofHub, ofAgent]) printProfiles(each);
    rmSync(directory, { recursive: true, force: true });
  }
  await engine.stop();
}
