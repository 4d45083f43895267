/**
 * The provider's programs side by side: the agent on Node, the slim executable, the full one where it was built. Start to announced,
 * memory and CPU while idle, CPU a token at the pace of engines and as fast as it goes, seconds from nothing to the first
 * credit, and the sizes of all files. One hub and one engine for all, in turn. `npm run build:agents` first.
 */
import { existsSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { answers, startChild } from "./lib/child.ts";
import { type BenchHub, startBenchHub } from "./lib/hub.ts";
import { cpuMs, residentBytes } from "./lib/process.ts";
import { median, printTable, rounded, verdict } from "./lib/statistics.ts";

const ROUNDS = 5;
const IDLE_MS = 20_000;
/** After it the slim one has given back what its start needed. */
const SETTLE_MS = 45_000;
const PACED = { streams: 50, model: "bench-64x20", tokens: 50 * 64 };
const FLOOD = { streams: 8, model: "bench-5000x0", tokens: 8 * 5_000 };
const SLIM_RESIDENT_MB = 20;
const FIRST_CREDIT_S = 60;
const BUILT = fileURLToPath(new URL("../dist/agents/", import.meta.url));
const TOKEN = Buffer.from('"token "');

interface Program {
  name: string;
  /** Null: the agent on Node. */
  path: string | null;
}

export async function run({ json }: { json: boolean }): Promise<void> {
  const programs: Program[] = [
    { name: "Node", path: null },
    { name: "slim", path: `${BUILT}gfe-agent-slim-linux-x64` },
    { name: "full", path: `${BUILT}gfe-linux-x64` },
  ].filter(({ name, path }) => {
    const isThere = path === null || existsSync(path);
    if (!isThere) console.warn(`*** ${name} is left out: ${path} was not built (npm run build:agents) ***`);
    return isThere;
  });
  const figures: Record<string, number> = {};
  const hub = await startBenchHub();
  const payingHub = await startBenchHub({ env: { GFE_CANARY_INTERVAL: "86400" } });
  const engine = await startChild([fileURLToPath(new URL("./lib/engine.ts", import.meta.url))], {
    ready: answers("/"),
  });
  try {
    const rows: (string | number)[][] = [];
    for (const program of programs)
      rows.push([
        ...(await measure(program, hub, engine.port, figures)),
        await secondsToFirstCredit(program, payingHub, engine.port, figures),
      ]);
    console.log("");
    printTable(
      [
        ...["agent", "start, ms", "idle, MB", "idle CPU, %", "µs a token, paced", "µs a token, flood"],
        ...["MB after", "s to first credit"],
      ],
      rows,
    );
    console.log("");
    if ("slim_idle_mb" in figures)
      verdict("the slim executable's memory while idle, MB", figures.slim_idle_mb!, "<=", SLIM_RESIDENT_MB);
    verdict(
      "from nothing to first credit, s",
      Math.max(...rows.map((row) => Number(row.at(-1)))),
      "<=",
      FIRST_CREDIT_S,
    );
    printSizes();
    if (json) console.log(JSON.stringify(figures));
  } finally {
    await engine.stop();
    await hub.stop();
    await payingHub.stop();
  }
}

async function measure(
  { name, path }: Program,
  hub: BenchHub,
  port: number,
  figures: Record<string, number>,
): Promise<(string | number)[]> {
  const args = ["--engine", `http://127.0.0.1:${port}`, "--slots", "64", "--no-benchmark"];
  const starts: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const startedAt = performance.now();
    const agent = await hub.joinAgent(args, path);
    starts.push(performance.now() - startedAt);
    agent.kill();
    await agent.ended;
  }
  const agent = await hub.joinAgent(args, path);
  const { pid } = agent;
  await setTimeout(SETTLE_MS);
  const idleFrom = cpuMs(pid);
  await setTimeout(IDLE_MS);
  const idlePercent = ((cpuMs(pid) - idleFrom) / IDLE_MS) * 100;
  const idleMb = residentBytes(pid) / 1e6;
  const costs: number[] = [];
  for (const { streams, model, tokens } of [PACED, FLOOD]) {
    const rounds: number[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const before = cpuMs(pid);
      const read = await Promise.all(Array.from({ length: streams }, () => tokensOf(hub, model)));
      const count = read.reduce((sum, one) => sum + one, 0);
      if (count !== tokens) throw new Error(`${name}: ${count} of ${tokens} tokens came`);
      if (round > 0) rounds.push(((cpuMs(pid) - before) * 1000) / tokens);
    }
    costs.push(median(rounds));
  }
  await setTimeout(IDLE_MS);
  const afterMb = residentBytes(pid) / 1e6;
  agent.kill();
  await agent.ended;
  const values = { start_ms: median(starts), idle_mb: idleMb, idle_cpu_percent: idlePercent };
  const all = { ...values, paced_us: costs[0]!, flood_us: costs[1]!, after_mb: afterMb };
  for (const [figure, value] of Object.entries(all))
    figures[`${name.toLowerCase()}_${figure}`] = rounded(value);
  return [name, ...Object.values(all)];
}

/**
 * From the start of the program to the credit in its owner's ledger: a new key, a new account, the benchmark of its models. Neither
 * the approval in the browser nor the download, which are its owner's, are in it.
 */
async function secondsToFirstCredit(
  { name, path }: Program,
  hub: BenchHub,
  port: number,
  figures: Record<string, number>,
): Promise<number> {
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const { cookie, agentToken } = await hub.newProvider();
    const startedAt = performance.now();
    const agent = await hub.joinAgent(["--engine", `http://127.0.0.1:${port}`], path, agentToken);
    while (!(await hasFirstCredit(hub, cookie))) {
      if (performance.now() - startedAt > FIRST_CREDIT_S * 1000)
        throw new Error(`${name}: no first credit came`);
      await setTimeout(50);
    }
    rounds.push((performance.now() - startedAt) / 1000);
    agent.kill();
    await agent.ended;
  }
  figures[`${name.toLowerCase()}_first_credit_s`] = rounded(median(rounds));
  return median(rounds);
}

async function hasFirstCredit(hub: BenchHub, cookie: string): Promise<boolean> {
  const response = await fetch(`${hub.url}/api/v1/ledger`, { headers: { cookie } });
  if (!response.ok) throw new Error(`/api/v1/ledger answered ${response.status}`);
  const { entries } = (await response.json()) as { entries: { code: string }[] };
  return entries.some(({ code }) => code === "first_credit");
}

/** One stream to its end; resolves with the tokens that came. */
function tokensOf(hub: BenchHub, model: string): Promise<number> {
  const body = JSON.stringify({
    ...{ model, stream: true, max_tokens: 100_000 },
    messages: [{ role: "user", content: "Go." }],
  });
  return new Promise((resolve, reject) => {
    const outgoing = request(
      `${hub.url}/v1/chat/completions`,
      {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${hub.key}` },
      },
      (response) => {
        let tokens = 0;
        let rest: Buffer = Buffer.alloc(0);
        response.on("data", (chunk: Buffer) => {
          const bytes = Buffer.concat([rest, chunk]);
          let end = 0;
          for (let at = bytes.indexOf(TOKEN); at !== -1; at = bytes.indexOf(TOKEN, end)) {
            tokens++;
            end = at + TOKEN.length;
          }
          rest = bytes.subarray(Math.max(end, bytes.length - TOKEN.length + 1));
        });
        response.on("error", reject);
        response.on("end", () => resolve(tokens));
      },
    );
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

function printSizes(): void {
  const manifest = `${BUILT}manifest.json`;
  if (!existsSync(manifest)) return;
  const { files } = JSON.parse(readFileSync(manifest, "utf8")) as {
    files: { name: string; bytes: number; compressed_bytes: number }[];
  };
  console.log("");
  printTable(
    ["file", "MB on disk", "MB to download (xz)"],
    files.map(({ name, bytes, compressed_bytes }) => [name, bytes / 1e6, compressed_bytes / 1e6]),
  );
}
