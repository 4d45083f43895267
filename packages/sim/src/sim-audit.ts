/** What must hold after a simulation, whatever happened in it. */
import { auditProblems, type Person, until, type World } from "./world.ts";

export interface Told {
  jobId: string;
  costMicro: string;
  outputTokens: number;
}

export interface AuditInput {
  world: World;
  people: readonly Person[];
  /** What each had before the first request, by user id. */
  startMicro: ReadonlyMap<string, bigint>;
  /** What callers were told of their jobs. */
  told: readonly Told[];
  /** Bytes that rogue nodes said, by attempt. */
  said: ReadonlyMap<string, number>;
  /** Users with a key of a bounded budget. */
  budgeted: readonly Person[];
}

/** Everything that is wrong, in words; empty where nothing is. */
export async function auditSimulation(input: AuditInput): Promise<string[]> {
  const { world } = input;
  const problems: string[] = [];
  await until(async () => (await world.ledger.openHolds()).length === 0, "every hold is resolved").catch(
    async () => {
      for (const { id, amount } of await world.ledger.openHolds())
        problems.push(`hold ${id} of ${amount} is still open`);
    },
  );
  const { rows: running } = await world.pool.query<{ id: string }>(
    "SELECT id FROM jobs WHERE state = 'running' OR ended_at IS NULL",
  );
  for (const { id } of running) problems.push(`job ${id} never ended`);
  problems.push(...(await auditProblems(world.pool, world.ledger)));
  problems.push(...(await balanceProblems(input)));
  problems.push(...(await toldProblems(input)));
  problems.push(...(await saidProblems(input)));
  problems.push(...(await budgetProblems(input)));
  return problems;
}

/** With no request left, nothing may run, wait or keep a slot. To be asked while the nodes are still there. */
export async function idleProblems({ call }: World): Promise<string[]> {
  const busy = async () => {
    const metrics = String((await call("GET", "/metrics")).body);
    const gauges = ["gfe_jobs_running", "gfe_jobs_queued", "gfe_settlements_waiting"];
    const { body } = await call("GET", "/api/v1/market");
    const models = body.models as { model: string; slots: number; free_slots: number }[];
    return [
      ...gauges.filter((gauge) => !metrics.includes(`\n${gauge} 0\n`)).map((gauge) => `${gauge} is not 0`),
      ...models
        .filter(({ slots, free_slots }) => slots !== free_slots)
        .map(({ model, slots, free_slots }) => `${free_slots} of ${slots} slots of ${model} are free`),
    ];
  };
  await until(async () => (await busy()).length === 0, "the hub is idle").catch(() => {});
  return (await busy()).map((problem) => `with nothing asked, ${problem}`);
}

/** Each has what it had, less what its jobs cost, plus what it earned; and all together have neither more nor less. */
async function balanceProblems({ world, people, startMicro }: AuditInput): Promise<string[]> {
  const problems: string[] = [];
  const { rows } = await world.pool.query<{ user_id: string; change: string }>(`
    SELECT user_id, sum(change) AS change FROM (
      SELECT consumer_id AS user_id, -cost_micro AS change FROM jobs
      UNION ALL SELECT provider_id, cost_micro - fee_micro FROM attempts
    ) c GROUP BY user_id`);
  const changes = new Map(rows.map(({ user_id, change }) => [user_id, BigInt(change)]));
  let sum = (await world.ledger.balance("hub:fees"))?.posted ?? 0n;
  let before = 0n;
  for (const { userId, name } of people) {
    const balance = await world.ledger.balance(`user:${userId}`);
    const expected = startMicro.get(userId)! + (changes.get(userId) ?? 0n);
    if (balance?.posted !== expected) problems.push(`${name} has ${balance?.posted} instead of ${expected}`);
    if (balance && (balance.available < 0n || balance.held !== 0n))
      problems.push(`${name} has ${balance.available} available and ${balance.held} held`);
    sum += balance?.posted ?? 0n;
    before += startMicro.get(userId)!;
  }
  if (sum !== before) problems.push(`all together have ${sum} instead of ${before}`);
  return problems;
}

async function toldProblems({ world, told }: AuditInput): Promise<string[]> {
  const { rows } = await world.pool.query<{ id: string; cost_micro: string; output_tokens: number }>(
    "SELECT id, cost_micro, (usage->>'output_tokens')::int AS output_tokens FROM jobs",
  );
  const jobs = new Map(rows.map((row) => [row.id, row]));
  return told.flatMap(({ jobId, costMicro, outputTokens }) => {
    const job = jobs.get(jobId);
    if (!job) return [`job ${jobId} was answered and is in no row`];
    return job.cost_micro === costMicro && job.output_tokens === outputTokens
      ? []
      : [
          `job ${jobId}: its caller was told ${costMicro} for ${outputTokens} tokens, its row says ${job.cost_micro} for ${job.output_tokens}`,
        ];
  });
}

/** Nobody is billed for more tokens than its node said bytes, whatever the node claimed. */
async function saidProblems({ world, said }: AuditInput): Promise<string[]> {
  const { rows } = await world.pool.query<{ id: string; output_tokens: number }>(
    "SELECT id, (usage->>'output_tokens')::int AS output_tokens FROM attempts WHERE usage IS NOT NULL",
  );
  return rows.flatMap(({ id, output_tokens }) => {
    const bytes = said.get(id);
    return bytes === undefined || output_tokens <= bytes
      ? []
      : [`attempt ${id} was billed for ${output_tokens} tokens and said ${bytes} bytes`];
  });
}

async function budgetProblems({ world, budgeted }: AuditInput): Promise<string[]> {
  const problems: string[] = [];
  for (const person of budgeted) {
    const { body } = await world.call("GET", "/api/v1/keys", { session: person });
    for (const { id, spent_micro, budget_micro } of body.keys) {
      if (budget_micro === null) continue;
      const { rows } = await world.pool.query<{ cost: string }>(
        "SELECT coalesce(sum(cost_micro), 0) AS cost FROM jobs WHERE key_id = $1",
        [id],
      );
      if (spent_micro !== rows[0]!.cost)
        problems.push(`key ${id} spent ${rows[0]!.cost}, it says ${spent_micro}`);
      if (BigInt(spent_micro) > BigInt(budget_micro))
        problems.push(`key ${id} spent ${spent_micro} of a budget of ${budget_micro}`);
    }
  }
  return problems;
}
