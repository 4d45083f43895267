/**
 * A random market in one process, on a real hub and a real database: providers of every kind, consumers with more
 * credit and less, callers that hang up, nodes and a database that come and go. The seed decides who does what; in which order it
 * all meets is the machine's, as it would be outside. Afterwards the books must balance.
 */
import type { PriceWire } from "@gfe/protocol";
import { HonestNode } from "./honest-node.ts";
import { createRandom, type Random } from "./random.ts";
import { RogueNode, type SimNode } from "./rogue-node.ts";
import { auditSimulation, idleProblems, type Told } from "./sim-audit.ts";
import { type Plan, planRequest, sendRequest } from "./sim-requests.ts";
import { type Person, startWorld, type World } from "./world.ts";

const SIGNUP_CREDITS = 1_000n;
const CREDIT = 1_000_000n;
const CONSUMERS = 8;
const ROGUES = 4;
const HONEST = 8;
const CONCURRENCY = 16;
const MODELS = ["large", "small"];
/** One node is thrown out about every so many requests. */
const REQUESTS_PER_BOUNCE = 20;
/** All connections to the database are cut about every so many requests. */
const REQUESTS_PER_CUT = 70;

export interface SimulationOptions {
  seed: number;
  jobs: number;
  onProgress?(done: number): void;
}

export interface Report {
  seed: number;
  requests: number;
  /** How many requests ended in which way, for their callers. */
  outcomes: Record<string, number>;
  /** How often nodes did what. */
  behaviours: Record<string, number>;
  bounces: number;
  /** How often the hub lost all its connections to the database. */
  cuts: number;
  /** Jobs and credits by state, from the rows. */
  jobs: { state: string; jobs: number; costMicro: string; feeMicro: string }[];
  violations: string[];
  durationMs: number;
}

/** Needs the database server that GFE_TEST_DATABASE_URL names. */
export async function simulate({ seed, jobs, onProgress = () => {} }: SimulationOptions): Promise<Report> {
  const startedAtMs = performance.now();
  const random = createRandom(seed);
  const world = await startWorld({
    GFE_SIGNUP_CREDITS: String(SIGNUP_CREDITS),
    GFE_QUEUE_WAIT_MS: "400",
    GFE_FIRST_TOKEN_TIMEOUT_MS: "300",
    GFE_STALL_TIMEOUT_MS: "300",
    GFE_TOTAL_TIMEOUT_MS: "3000",
  });
  const nodes: SimNode[] = [];
  try {
    const consumers = await people(world, "consumer", CONSUMERS);
    const providers = await people(world, "provider", ROGUES + HONEST);
    const everybody = [...consumers, ...providers];
    const keys = await keysOf(world, everybody, random);
    const behaviours = new Map<string, number>();
    const said = new Map<string, number>();
    await joinNodes({ world, random, providers, nodes, said, behaviours });
    const startMicro = await spread(world, consumers, everybody, random);

    const plans = Array.from({ length: jobs }, () => planRequest(random, everybody.length, MODELS));
    const run = await runPlans({ plans, keys, nodes, random, world, onProgress });
    const idle = await idleProblems(world);
    await Promise.all(nodes.splice(0).map((node) => node.stop()));
    const budgeted = everybody.filter((_person, index) => keys[index]!.budgeted);
    const violations = await auditSimulation({
      ...{ world, people: everybody, startMicro, told: run.told, said, budgeted },
    });
    return {
      seed,
      requests: plans.length,
      outcomes: sorted(run.outcomes),
      behaviours: sorted(behaviours),
      bounces: run.bounces,
      cuts: run.cuts,
      jobs: await jobTotals(world),
      violations: [...run.problems, ...idle, ...violations],
      durationMs: Math.round(performance.now() - startedAtMs),
    };
  } finally {
    await Promise.allSettled(nodes.map((node) => node.stop()));
    await world.stop();
  }
}

async function people(world: World, name: string, count: number): Promise<Person[]> {
  const made: Person[] = [];
  for (let i = 0; i < count; i++) made.push(await world.person(`${name}${i}`));
  return made;
}

/** Every fourth spends through a key with a budget. */
async function keysOf(world: World, everybody: readonly Person[], random: Random) {
  return Promise.all(
    everybody.map(async (person, index) => {
      if (index % 4 !== 0) return { secret: person.key, budgeted: false };
      const budget_micro = String(BigInt(random.int(5, 100)) * CREDIT);
      const { body } = await world.call("POST", "/api/v1/keys", {
        session: person,
        body: { label: "bounded", scopes: ["inference"], budget_micro },
      });
      return { secret: body.secret as string, budgeted: true };
    }),
  );
}

interface Joining {
  world: World;
  random: Random;
  providers: readonly Person[];
  nodes: SimNode[];
  said: Map<string, number>;
  behaviours: Map<string, number>;
}

async function joinNodes({ world, random, providers, nodes, said, behaviours }: Joining): Promise<void> {
  const attempts: string[] = [];
  for (const [index, provider] of providers.entries()) {
    const own = random.fork();
    const common = {
      hubUrl: world.hub.url,
      token: provider.agentToken,
      name: provider.name,
      model: MODELS[index % MODELS.length]!,
      price: priceOf(own),
      slots: own.int(2, 6),
      random: own,
      onBehaviour: (behaviour: string) => count(behaviours, behaviour),
    };
    nodes.push(
      index < ROGUES ? await RogueNode.join({ ...common, attempts, said }) : await HonestNode.join(common),
    );
  }
}

/** From free to dear, and odd enough that every rounding shows. */
function priceOf(random: Random): PriceWire {
  if (random.chance(0.1)) return { per_request: "0", per_million_input: "0", per_million_output: "0" };
  return {
    per_request: String(random.chance(0.5) ? 0 : random.int(1, 3_000_001)),
    per_million_input: String(random.chance(0.5) ? 0 : random.int(1, 7_777_777_777)),
    per_million_output: String(random.int(1, 333_333_333_333)),
  };
}

/** Leaves some consumers with little, one with nothing. Returns what each has now. */
async function spread(
  world: World,
  consumers: readonly Person[],
  everybody: readonly Person[],
  random: Random,
): Promise<Map<string, bigint>> {
  for (const [index, { userId }] of consumers.entries()) {
    const left = index === 0 ? 0n : BigInt(random.int(0, Number(SIGNUP_CREDITS * CREDIT) >> (index % 5)));
    await world.ledger.transfer({
      id: `sim:${userId}`,
      from: `user:${userId}`,
      to: `user:${everybody.at(-1)!.userId}`,
      amount: SIGNUP_CREDITS * CREDIT - left,
      code: "sim",
    });
  }
  const balances = new Map<string, bigint>();
  for (const person of everybody) balances.set(person.userId, await world.available(person));
  return balances;
}

interface Running {
  plans: readonly Plan[];
  keys: readonly { secret: string }[];
  nodes: readonly SimNode[];
  random: Random;
  world: World;
  onProgress(done: number): void;
}

async function runPlans({ plans, keys, nodes, random, world, onProgress }: Running) {
  const outcomes = new Map<string, number>();
  const told: Told[] = [];
  const problems: string[] = [];
  const bouncing: Promise<void>[] = [];
  const cutting: Promise<void>[] = [];
  let next = 0;
  let done = 0;
  const work = async () => {
    for (let plan = plans[next++]; plan; plan = plans[next++]) {
      const seen = await sendRequest(world.hub.url, keys[plan.consumer]!.secret, plan);
      count(outcomes, seen.outcome);
      problems.push(...seen.problems);
      if (seen.told) told.push(seen.told);
      onProgress(++done);
      if (done % REQUESTS_PER_BOUNCE === 0) bouncing.push(random.pick(nodes).bounce());
      if (done % REQUESTS_PER_CUT === 0) cutting.push(cutDatabase(world));
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  await Promise.all([...bouncing, ...cutting]);
  return { outcomes, told, problems, bounces: bouncing.length, cuts: cutting.length };
}

/** As a database that restarts does: whatever was being asked, nobody knows whether it was done. */
async function cutDatabase({ pool }: World): Promise<void> {
  await pool.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
  );
}

async function jobTotals({ pool }: World): Promise<Report["jobs"]> {
  const { rows } = await pool.query<{ state: string; jobs: number; cost: string; fee: string }>(`
    SELECT state, count(*)::int AS jobs, sum(cost_micro) AS cost, sum(fee_micro) AS fee
    FROM jobs GROUP BY state ORDER BY state`);
  return rows.map(({ state, jobs, cost, fee }) => ({ state, jobs, costMicro: cost, feeMicro: fee }));
}

const count = (counts: Map<string, number>, name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);
const sorted = (counts: ReadonlyMap<string, number>) =>
  Object.fromEntries([...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)));
