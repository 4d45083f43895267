/**
 * Two hub processes on one PostgreSQL and one Redis against one hub by itself: requests a second, and what each part
 * spends on a request. A node at each hub, as many streams at each as at the one; matching chooses among all nodes, and
 * prefers those of its own hub. Where the cores do not suffice for twice of everything, the CPU says what a second
 * machine would bring.
 */
import { connect } from "node:net";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { generateKeyPair } from "@gfe/protocol";
import pg from "pg";
import { startServer } from "./lib/books.ts";
import { answers, type Child, startChild } from "./lib/child.ts";
import { type BenchHub, startBenchHub } from "./lib/hub.ts";
import { requestsPerSecond, type Target } from "./lib/load.ts";
import { cpuMs, descendants } from "./lib/process.ts";
import { median, printTable, rounded, verdict } from "./lib/statistics.ts";

const ROUNDS = 5;
/** Streams at each hub. The ledger's batches, and so what a request costs, go by what is in flight at a hub. */
const CONCURRENCY = 32;
const [WARM_UP_MS, ROUND_MS] = [2_000, 3_000];
/** Cores from which two hubs, two agents, PostgreSQL, engine and load do not wait for one another. */
const CORES_ENOUGH = 8;

interface Round {
  perS: number;
  /** CPU µs a request. */
  hubs: number;
  agents: number;
  database: number;
  redis: number;
}

interface Setting {
  name: string;
  hubs: BenchHub[];
  rounds: Round[];
}

export async function run({ json }: { json: boolean }): Promise<void> {
  const server = await startServer();
  const children: Child[] = [];
  const hubs: BenchHub[] = [];
  try {
    const redis = await startRedis();
    const engine = await startChild([fileURLToPath(new URL("./lib/engine.ts", import.meta.url))], {
      ready: answers("/v1/models"),
    });
    children.push(redis, engine);
    const together = {
      REDIS_URL: `redis://127.0.0.1:${redis.port}`,
      GFE_SECRET: "s".repeat(40),
      GFE_HUB_KEY: JSON.stringify(await generateKeyPair()),
    };
    const start = async (database: string, env: Record<string, string>, sharing?: BenchHub) => {
      const hub = await startBenchHub({
        env: { DATABASE_URL: database, ...env },
        ...(sharing ? { sharing } : {}),
      });
      hubs.push(hub);
      await hub.joinAgent(["--engine", `http://127.0.0.1:${engine.port}`, "--slots", "1000"]);
      return hub;
    };
    const alone = await start(await createDatabase(server.url, "bench_one"), {});
    const shared = await createDatabase(server.url, "bench_two");
    const first = await start(shared, together);
    const second = await start(shared, together, first);
    const settings: Setting[] = [
      { name: "one hub", hubs: [alone], rounds: [] },
      { name: "two hubs", hubs: [first, second], rounds: [] },
    ];
    for (let n = 0; n <= ROUNDS; n++)
      for (const { hubs: measured, rounds } of settings) {
        const round = await measure(measured, server.pid, redis.pid, n === 0 ? WARM_UP_MS : ROUND_MS);
        if (n > 0) rounds.push(round);
      }
    report(settings, json);
  } finally {
    for (const hub of hubs.reverse()) await hub.stop();
    for (const child of children.reverse()) await child.stop();
    await server.stop();
  }
}

async function measure(
  hubs: BenchHub[],
  database: () => number,
  redis: number,
  durationMs: number,
): Promise<Round> {
  const spent = () => ({
    hubs: hubs.reduce((sum, hub) => sum + hub.cpu().hub, 0),
    agents: hubs.reduce((sum, hub) => sum + hub.cpu().agents, 0),
    database: [database(), ...descendants(database())].reduce((sum, pid) => sum + cpuMs(pid), 0),
    redis: cpuMs(redis),
  });
  const before = spent();
  const startedAt = performance.now();
  const rates = await Promise.all(
    hubs.map((hub) => {
      const target: Target = { name: "hub", port: hub.port, headers: { authorization: `Bearer ${hub.key}` } };
      const options = { stream: true, concurrency: CONCURRENCY, durationMs };
      return requestsPerSecond(target, "bench-64x0", options);
    }),
  );
  const perS = rates.reduce((sum, rate) => sum + rate, 0);
  const requests = (perS * (performance.now() - startedAt)) / 1000;
  const after = spent();
  const us = (part: keyof typeof after) => ((after[part] - before[part]) * 1000) / requests;
  return { perS, hubs: us("hubs"), agents: us("agents"), database: us("database"), redis: us("redis") };
}

function report(settings: Setting[], json: boolean): void {
  const of = ({ rounds }: Setting, part: keyof Round) => median(rounds.map((round) => round[part]));
  printTable(
    [
      `${CONCURRENCY} streams at each`,
      "requests a second",
      "CPU µs a request: hubs",
      "agents",
      "PostgreSQL",
      "Redis",
    ],
    settings.map((setting) => [
      setting.name,
      ...(["perS", "hubs", "agents", "database", "redis"] as const).map((part) => of(setting, part)),
    ]),
  );
  const [one, two] = settings as [Setting, Setting];
  const ratio = (part: keyof Round) =>
    median(two.rounds.map((round, i) => round[part] / one.rounds[i]![part]));
  const figures = { requests_ratio: rounded(ratio("perS")), hub_cpu_ratio: rounded(ratio("hubs")) };
  console.log("");
  if (cpus().length >= CORES_ENOUGH)
    verdict("requests a second of two hubs against one", figures.requests_ratio, ">=", 1.6);
  else
    console.log(
      `- requests a second of two hubs against one: ${figures.requests_ratio}; ${cpus().length} cores are busy with one already, so this says nothing of a second machine`,
    );
  verdict(
    "CPU of the hubs a request, two against one (unchanged: within 1.25)",
    figures.hub_cpu_ratio,
    "<=",
    1.25,
  );
  if (json) console.log(JSON.stringify(figures));
}

async function createDatabase(server: string, name: string): Promise<string> {
  const admin = new pg.Client({ connectionString: server });
  await admin.connect();
  await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  await admin.query(`CREATE DATABASE ${name}`);
  await admin.end();
  const url = new URL(server);
  url.pathname = `/${name}`;
  return url.href;
}

/** Of the bench's own; forgets everything at its end. */
function startRedis(): Promise<Child> {
  const ready = (port: number) =>
    new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => {
        socket.destroy();
        resolve(true);
      }).once("error", () => resolve(false));
    });
  const args = ["--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
  return startChild(args, { program: "redis-server", ready, quiet: true });
}
