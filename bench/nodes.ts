/**
 * What nodes that do nothing cost one hub process, and what an open stream costs it: memory and CPU. The nodes are lean,
 * their keys, handshakes, heartbeats and offers are real (`--nodes N`; 10,000 if not given).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { answers, type Child, startChild } from "./lib/child.ts";
import { readFlow } from "./lib/flow.ts";
import { type BenchHub, startBenchHub } from "./lib/hub.ts";
import type { Target } from "./lib/load.ts";
import { numberOption } from "./lib/options.ts";
import { cpuMs, residentBytes } from "./lib/process.ts";
import { printTable, rounded, verdict } from "./lib/statistics.ts";

const PROCESSES = 2;
/** A hub takes 64 sockets of one token. */
const NODES_PER_TOKEN = 60;
const JOIN_TIMEOUT_MS = 300_000;
const IDLE_MS = 30_000;
const STREAMS = 1000;
const MIB = 2 ** 20;

type Figures = Record<string, number>;

export async function run({ json, args }: { json: boolean; args: string[] }): Promise<void> {
  const nodes = numberOption(args, "--nodes", 10_000);
  const hub = await startBenchHub();
  const children: Child[] = [];
  try {
    const figures: Figures = { nodes };
    const rows: (string | number)[][] = [];
    const emptyBytes = residentBytes(hub.pid);
    rows.push(["an empty hub", emptyBytes / MIB, "", share(await cpuOver(hub, 5_000))]);
    await compareStreams(hub, children, rows, figures);
    await joinMany(hub, nodes, children, rows, figures);
    console.log("");
    printTable(["one hub process", "MiB resident", "KiB of each", "CPU"], rows);
    console.log("");
    verdict(`MiB resident with ${nodes.toLocaleString("en")} idle nodes`, figures.resident_mib!, "<=", 1024);
    if (json) console.log(JSON.stringify(figures));
  } finally {
    for (const child of children.reverse()) await child.stop();
    await hub.stop();
  }
}

const here = (file: string): string => fileURLToPath(new URL(`./lib/${file}`, import.meta.url));

/** Milliseconds of CPU a second. */
async function cpuOver(hub: BenchHub, ms: number): Promise<number> {
  const before = cpuMs(hub.pid);
  await sleep(ms);
  return ((cpuMs(hub.pid) - before) * 1000) / ms;
}
const share = (msPerS: number): string => `${(msPerS / 10).toFixed(1)} % of a core`;

async function joinMany(
  hub: BenchHub,
  nodes: number,
  children: Child[],
  rows: (string | number)[][],
  figures: Figures,
): Promise<void> {
  const beforeBytes = residentBytes(hub.pid);
  const startedAt = performance.now();
  const perProcess = Math.ceil(nodes / PROCESSES);
  const lean: Child[] = [];
  for (let i = 0; i < PROCESSES; i++) {
    const tokens: string[] = [];
    while (tokens.length < Math.ceil(perProcess / NODES_PER_TOKEN)) tokens.push(await hub.newAgentToken());
    const env = { HUB_URL: hub.url, AGENT_TOKENS: tokens.join(","), NODES: String(perProcess) };
    lean.push(await startChild([here("lean-nodes.ts")], { env, ready: answers("/") }));
    children.push(lean.at(-1)!);
  }
  const told = async () => {
    const all = await Promise.all(
      lean.map(async ({ port }) => {
        const answer = await fetch(`http://127.0.0.1:${port}/`);
        return (await answer.json()) as { welcomed: number; lost: number };
      }),
    );
    return {
      welcomed: all.reduce((sum, { welcomed }) => sum + welcomed, 0),
      lost: all.reduce((sum, { lost }) => sum + lost, 0),
    };
  };
  while ((await told()).welcomed < perProcess * PROCESSES) {
    if (performance.now() - startedAt > JOIN_TIMEOUT_MS)
      throw new Error(`only ${JSON.stringify(await told())}`);
    await sleep(500);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  console.log(`${nodes.toLocaleString("en")} nodes joined in ${seconds.toFixed(0)} s; now they idle`);
  const cpu = await cpuOver(hub, IDLE_MS);
  const { lost } = await told();
  if (lost > 0) throw new Error(`${lost} nodes were lost while idle`);
  const bytes = residentBytes(hub.pid);
  rows.push([
    `${nodes.toLocaleString("en")} idle nodes, heartbeats both ways`,
    bytes / MIB,
    (bytes - beforeBytes) / 1024 / nodes,
    share(cpu),
  ]);
  figures.resident_mib = rounded(bytes / MIB);
  figures.kib_per_node = rounded((bytes - beforeBytes) / 1024 / nodes);
  figures.idle_cpu_percent = rounded(cpu / 10);
  figures.joins_per_s = rounded(nodes / seconds);
}

/** Streams that are open and say a token a second. */
async function compareStreams(
  hub: BenchHub,
  children: Child[],
  rows: (string | number)[][],
  figures: Figures,
): Promise<void> {
  const source = await startChild([here("source.ts")], {
    env: { HUB_URL: hub.url, AGENT_TOKEN: hub.agentToken },
    ready: answers("/"),
  });
  children.push(source);
  const target: Target = { name: "ours", port: hub.port, headers: { authorization: `Bearer ${hub.key}` } };
  // Once through, so that what streams need once is not counted as theirs.
  await Promise.all(Array.from({ length: 200 }, () => readFlow(target, "flow-24x100")));
  const beforeBytes = residentBytes(hub.pid);
  const closing = new AbortController();
  const ended = Array.from({ length: STREAMS }, () =>
    readFlow(target, "flow-2000x1000", closing.signal).catch(() => {}),
  );
  await sleep(5_000);
  const cpu = await cpuOver(hub, 5_000);
  const bytes = residentBytes(hub.pid);
  closing.abort();
  await Promise.all(ended);
  await sleep(2_000);
  rows.push([
    `${STREAMS.toLocaleString("en")} open streams, a token a second each`,
    bytes / MIB,
    (bytes - beforeBytes) / 1024 / STREAMS,
    share(cpu),
  ]);
  figures.kib_per_stream = rounded((bytes - beforeBytes) / 1024 / STREAMS);
}
