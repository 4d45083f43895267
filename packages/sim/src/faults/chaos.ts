/**
 * Everything that makes a market of two hubs is killed at random moments under load, for as long as is asked for; then
 * all is healed, and the books are held against what the consumers wrote down.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createPool } from "@gfe/hub";
import { createLedger } from "@gfe/ledger";
import { createRandom } from "../random.ts";
import { auditProblems, until } from "../world.ts";
import { compare, type Outage } from "./chaos-audit.ts";
import { type Cluster, freeze, startCluster, type Victim } from "./cluster.ts";
import { type Asked, consume } from "./consumers.ts";
import { signUp } from "./people.ts";
import { type Blow, planBlows } from "./plan.ts";

export interface ChaosOptions {
  seed: number;
  /** Of the load; starting and healing come on top. */
  lengthMs: number;
  consumers?: number;
  agents?: number;
  onProgress?(line: string): void;
  /** Ends it early, with an AbortError, and nothing left running. */
  signal?: AbortSignal;
}

export interface ChaosReport {
  seed: number;
  asked: number;
  /** By their ends; errors by their codes. */
  outcomes: Record<string, number>;
  /** Rows of `jobs` by state. */
  jobs: Record<string, number>;
  /** By what was killed or frozen. */
  kills: Record<string, number>;
  /**
   * Answers given whole and not charged: their hub was killed while the database was away, or frozen for so long that the
   * other one took it for dead.
   */
  unpaid: number;
  /** From the moment all was started again to the last resolved hold. */
  restMs: number;
  durationMs: number;
  violations: string[];
}

/** Less than the longest freeze: a hub that is taken for dead and goes on is the worst there is. */
const LOST_MS = 3_000;
const LIMITS = {
  GFE_SIGNUP_CREDITS: "10000",
  GFE_FEE_PERCENT: "5",
  GFE_QUEUE_WAIT_MS: "3000",
  GFE_FIRST_TOKEN_TIMEOUT_MS: "5000",
  GFE_STALL_TIMEOUT_MS: "5000",
  GFE_TOTAL_TIMEOUT_MS: "20000",
  GFE_HUB_LOST_MS: String(LOST_MS),
};
const SLOTS = 4;
const PACE_MS = 25;
const MAX_TOKENS = 40;
/** From all being up to all being served again. */
const HEALED_MS = 60_000;
const REST_MS = 60_000;
const PROGRESS_MS = 10_000;

export async function chaos(options: ChaosOptions): Promise<ChaosReport> {
  const { seed, lengthMs, consumers = 10, agents = 4, onProgress = () => {} } = options;
  const beganMs = performance.now();
  const random = createRandom(seed);
  const plan = planBlows(random.fork(), lengthMs, agents);
  const cluster = await startCluster({ hubs: 2, env: LIMITS });
  try {
    const provider = await signUp(cluster.hubs[0]!.url, "provider");
    const prober = await signUp(cluster.hubs[0]!.url, "prober");
    const people = await Promise.all(
      Array.from({ length: consumers }, (_, at) => signUp(cluster.hubs[at % 2]!.url, `consumer-${at}`)),
    );
    for (let at = 0; at < agents; at++) {
      const settings = { hubUrl: cluster.hubs[at % 2]!.url, token: provider.agentToken };
      await cluster.addAgent({ ...settings, name: `agent-${at}`, slots: SLOTS, paceMs: PACE_MS });
    }
    await healed(cluster, prober.key);
    onProgress(`${plan.length} blows in ${lengthMs / 1000} s, ${consumers} consumers, ${agents} agents`);

    const asked: Asked[] = [];
    const stop = new AbortController();
    const load = people.map(({ key }, at) =>
      consume({
        ...{ at, key, hubs: cluster.hubs, random: random.fork(), maxTokens: MAX_TOKENS },
        stop: stop.signal,
        onAsked: (one) => asked.push(one),
      }),
    );
    const telling = setInterval(
      () => onProgress(`  ${asked.length} asked: ${JSON.stringify(outcomesOf(asked))}`),
      PROGRESS_MS,
    );
    const { outages, kills } = await carryOut(cluster, plan, options).finally(() => {
      stop.abort();
      clearInterval(telling);
    });
    await Promise.all(load);

    const healedAtMs = performance.now();
    const violations: string[] = [];
    await healed(cluster, prober.key).catch((error: Error) => violations.push(error.message));
    const pool = createPool(cluster.postgres.url, () => {});
    const ledger = createLedger({ pool });
    const open = async () => (await ledger.openHolds()).length;
    await until(async () => (await open()) === 0, "every hold is resolved", REST_MS).catch((error: Error) =>
      violations.push(error.message),
    );
    const restMs = performance.now() - healedAtMs;
    violations.push(...(await auditProblems(pool, ledger)));
    const userIds = people.map(({ userId }) => userId);
    const { problems, unpaid } = await compare(pool, asked, outages, userIds);
    violations.push(...problems);
    if (violations.length > 0)
      for (const { url, log } of cluster.hubs) onProgress(`what ${url} said:\n${log}`);
    const { rows } = await pool.query<{ state: string; n: number }>(
      "SELECT state, count(*)::int AS n FROM jobs GROUP BY state ORDER BY state",
    );
    await pool.end();
    return {
      ...{ seed, asked: asked.length, outcomes: outcomesOf(asked), kills, unpaid, restMs, violations },
      jobs: Object.fromEntries(rows.map(({ state, n }) => [state, n])),
      durationMs: performance.now() - beganMs,
    };
  } finally {
    await cluster.end();
  }
}

async function carryOut(
  cluster: Cluster,
  plan: readonly Blow[],
  { lengthMs, onProgress: tell = () => {}, signal }: ChaosOptions,
): Promise<{ outages: Outage[]; kills: Record<string, number> }> {
  const outages: Outage[] = [];
  const kills: Record<string, number> = {};
  const returning: Promise<void>[] = [];
  const beganMs = performance.now();
  const wait = (untilMs: number) =>
    sleep(Math.max(0, beganMs + untilMs - performance.now()), undefined, signal ? { signal } : {});
  const frozen = new Set<Victim>();
  for (const blow of plan) {
    await wait(blow.atMs);
    const victim = victimOf(cluster, blow);
    if (!victim.up || frozen.has(victim)) continue; // not back yet
    const name = blow.how === "kill" ? blow.victim : `${blow.victim} (frozen)`;
    kills[name] = (kills[name] ?? 0) + 1;
    tell(`  ${(blow.atMs / 1000).toFixed(1)} s: ${blow.victim}, ${blow.how}`);
    const { how, victim: of } = blow;
    const outage: Outage = { how, victim: of, fromMs: performance.now(), toMs: Number.POSITIVE_INFINITY };
    outages.push(outage);
    if (how === "kill") await victim.kill();
    else frozen.add(victim);
    const back = how === "kill" ? sleep(blow.awayMs).then(() => victim.start()) : freeze(victim, blow.awayMs);
    const returned = back.then(() => {
      outage.toMs = performance.now();
      frozen.delete(victim);
    });
    returned.catch(() => {}); // thrown below, once the cluster can be ended
    returning.push(returned);
  }
  await wait(lengthMs);
  await Promise.all(returning);
  return { outages, kills };
}

function victimOf({ hubs, agents, postgres, redis }: Cluster, { victim, agent }: Blow): Victim {
  switch (victim) {
    case "hub A":
      return hubs[0]!;
    case "hub B":
      return hubs[1]!;
    case "agent":
      return agents[agent]!;
    case "PostgreSQL":
      return postgres;
    case "Redis":
      return redis;
  }
}

/** Each hub is ready and serves a story. Throws where one does not within HEALED_MS. */
async function healed({ hubs }: Cluster, key: string): Promise<void> {
  for (const { url } of hubs) {
    const serves = async () => {
      const ready = await fetch(`${url}/readyz`).catch(() => null);
      return ready?.ok === true && (await told(url, key));
    };
    await until(serves, `${url} serves again`, HEALED_MS);
  }
}

async function told(url: string, key: string): Promise<boolean> {
  const stop = new AbortController();
  const ends: string[] = [];
  await consume({
    ...{ at: 0, key, hubs: [{ url }], random: createRandom(1), maxTokens: 2, stop: stop.signal },
    onAsked({ end }) {
      ends.push(end);
      stop.abort();
    },
  });
  return ends[0] === "whole" || ends[0] === "left";
}

function outcomesOf(asked: readonly Asked[]): Record<string, number> {
  const outcomes: Record<string, number> = {};
  for (const { end, code } of asked) {
    const name = code === null ? end : `${end}: ${code}`;
    outcomes[name] = (outcomes[name] ?? 0) + 1;
  }
  return outcomes;
}
