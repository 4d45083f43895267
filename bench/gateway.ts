/**
 * What our gateway adds to an engine, beside a bare relay and the engine itself; and requests a second beside
 * @portkey-ai/gateway. Everything in one run, in turn, each program in its own process. Ours authenticates, holds,
 * relays over the agent's socket and settles on a durable PostgreSQL; the others do no accounting.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { answers, type Child, startChild } from "./lib/child.ts";
import { startBenchHub } from "./lib/hub.ts";
import { requestsPerSecond, type Target, timeStreams } from "./lib/load.ts";
import { median, printTable, quantile, rounded } from "./lib/statistics.ts";

const ROUNDS = 5;
/**
 * How streams come: alone; begun evenly over the length of one, so that each starts while all the others run; and all
 * in one instant, where each also waits for those before it.
 */
const ARRIVALS = [
  { name: "1", streams: 1, overMs: 0, times: 3 },
  { name: "50", streams: 50, overMs: 64 * 20, times: 1 },
  { name: "50_at_once", streams: 50, overMs: 0, times: 1 },
];
const RATE = { concurrency: 64, durationMs: 2_000, rounds: 5 };
const PEERS = fileURLToPath(new URL("./peers/", import.meta.url));
const PORTKEY = `${PEERS}node_modules/@portkey-ai/gateway/build/start-server.js`;

export async function run({ json }: { json: boolean }): Promise<void> {
  const children: Child[] = [];
  const here = (file: string) => fileURLToPath(new URL(`./lib/${file}`, import.meta.url));
  const engine = await startChild([here("engine.ts")], { ready: answers("/v1/models") });
  children.push(engine);
  const relay = await startChild([here("relay.ts")], {
    env: { UPSTREAM_PORT: String(engine.port) },
    ready: answers("/v1/models"),
  });
  children.push(relay);
  const portkey = await startPortkey();
  if (portkey) children.push(portkey);
  const hub = await startBenchHub();
  try {
    await hub.joinAgent(["--engine", `http://127.0.0.1:${engine.port}`, "--slots", "1000"]);
    const direct: Target = { name: "engine", port: engine.port, headers: {} };
    const bare: Target = { name: "bare relay", port: relay.port, headers: {} };
    const ours: Target = { name: "ours", port: hub.port, headers: { authorization: `Bearer ${hub.key}` } };
    const figures = { machine: `${cpus().length} × ${cpus()[0]?.model}`, node: process.version };
    if (portkey) {
      const peer: Target = {
        name: "portkey",
        port: portkey.port,
        headers: {
          authorization: "Bearer x",
          "x-portkey-provider": "openai",
          "x-portkey-custom-host": `http://127.0.0.1:${engine.port}/v1`,
        },
      };
      Object.assign(figures, await compareRates([bare, ours, peer]));
    } else console.log("@portkey-ai/gateway could not be installed: no comparison with it.");
    // After the rates, so that every program under measure has been compiled by use: a hub at work is warm.
    Object.assign(figures, await compareDelays([direct, bare, ours]));
    if (json) console.log(JSON.stringify(figures));
  } finally {
    await hub.stop();
    for (const child of children.reverse()) await child.stop();
  }
}

async function compareDelays(targets: Target[]): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  console.log("\nAdded delay, 64 deltas at 20 ms (milliseconds)\n");
  const rows: (string | number)[][] = [];
  for (const { name: arrival, streams, overMs, times: tries } of ARRIVALS) {
    const ttft = new Map<string, number[]>();
    const gaps = new Map<string, number[]>();
    for (let round = 0; round <= ROUNDS; round++) {
      for (const target of targets) {
        for (let i = 0; i < tries; i++) {
          const timings = await timeStreams(target, "bench-64x20", streams, overMs);
          if (round === 0) continue; // warm-up
          ttft.set(target.name, [...(ttft.get(target.name) ?? []), ...timings.map(({ ttftMs }) => ttftMs)]);
          gaps.set(target.name, [
            ...(gaps.get(target.name) ?? []),
            ...timings.flatMap(({ gapsMs }) => gapsMs),
          ]);
        }
      }
    }
    const base = { ttft: median(ttft.get("engine")!), gap: quantile(gaps.get("engine")!, 0.99) };
    for (const { name } of targets) {
      const [times, between] = [ttft.get(name)!, gaps.get(name)!];
      rows.push([
        `${name}, ${arrival.replaceAll("_", " ")}`,
        median(times),
        quantile(times, 0.99),
        median(times) - base.ttft,
        median(between),
        quantile(between, 0.99),
        quantile(between, 0.99) - base.gap,
      ]);
    }
    figures[`added_ttft_p50_ms_${arrival}`] = rounded(median(ttft.get("ours")!) - base.ttft);
    figures[`added_ttft_p50_ms_beyond_relay_${arrival}`] = rounded(
      median(ttft.get("ours")!) - median(ttft.get("bare relay")!),
    );
    figures[`added_gap_p99_ms_${arrival}`] = rounded(quantile(gaps.get("ours")!, 0.99) - base.gap);
    figures[`added_gap_p99_ms_beyond_relay_${arrival}`] = rounded(
      quantile(gaps.get("ours")!, 0.99) - quantile(gaps.get("bare relay")!, 0.99),
    );
  }
  printTable(["through, streams", "TTFT p50", "p99", "added p50", "gap p50", "p99", "added p99"], rows);
  console.log(
    `\nadded TTFT p50 beyond the bare relay: ${figures.added_ttft_p50_ms_beyond_relay_1} ms alone, ${figures.added_ttft_p50_ms_beyond_relay_50} ms among 50, ${figures.added_ttft_p50_ms_beyond_relay_50_at_once} ms for 50 in one instant (goal ≤ 1.5)`,
  );
  return figures;
}

async function compareRates(targets: Target[]): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  console.log(`Requests a second, ${RATE.concurrency} at a time, engine without pace\n`);
  const rows: (string | number)[][] = [];
  for (const stream of [false, true]) {
    const rates = new Map<string, number[]>(targets.map(({ name }) => [name, []]));
    for (let round = 0; round <= RATE.rounds; round++) {
      for (const target of targets) {
        const rate = await requestsPerSecond(target, "bench-64x0", {
          stream,
          concurrency: RATE.concurrency,
          durationMs: round === 0 ? 1000 : RATE.durationMs,
        });
        if (round > 0) rates.get(target.name)!.push(rate);
      }
    }
    const kind = stream ? "streaming" : "plain";
    for (const { name } of targets) {
      const rate = median(rates.get(name)!);
      rows.push([`${name}, ${kind}`, rate, Math.min(...rates.get(name)!), Math.max(...rates.get(name)!)]);
      figures[`${kind}_rps_${name.replaceAll(" ", "_")}`] = rounded(rate);
    }
    // Pair by pair: neighbours in time see the same machine.
    const ratio = median(rates.get("ours")!.map((rate, i) => rate / rates.get("portkey")![i]!));
    figures[`${kind}_rps_vs_portkey`] = rounded(ratio);
    figures[`${kind}_rps_vs_bare_relay`] = rounded(
      median(rates.get("ours")!.map((rate, i) => rate / rates.get("bare relay")![i]!)),
    );
  }
  printTable(["through", "median", "min", "max"], rows);
  console.log(
    `\nours against portkey: plain ${figures.plain_rps_vs_portkey}, streaming ${figures.streaming_rps_vs_portkey} (goal ≥ 2)`,
  );
  return figures;
}

async function startPortkey(): Promise<Child | null> {
  if (!existsSync(PORTKEY)) {
    console.log("installing the peers (once) …");
    try {
      execFileSync("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error"], {
        cwd: PEERS,
        stdio: "inherit",
      });
    } catch {
      return null;
    }
  }
  return startChild([PORTKEY, "--port={port}", "--headless"], { ready: answers("/"), quiet: true });
}
