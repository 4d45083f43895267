/** The read side of jobs. */
import type { Job, JobState } from "@gfe/protocol";
import type pg from "pg";

/** For a query that reads all jobs, at a hub's start: longer than the pool gives to those that somebody waits for. */
const ALL_JOBS_TIMEOUT_MS = 10 * 60_000;
/** $1 is who looks: a provider sees what its own part of an answer earned, a consumer what all of it cost. */
const COLUMNS = `j.id, j.state, j.kind, j.model, j.node_id, n.name AS node_name, j.usage, j.held_micro,
  CASE WHEN j.consumer_id = $1 THEN j.cost_micro ELSE coalesce(own.cost_micro, 0) END AS cost_micro,
  CASE WHEN j.consumer_id = $1 THEN j.fee_micro ELSE coalesce(own.fee_micro, 0) END AS fee_micro,
  j.quote, j.priority, j.queued_ms, j.ttft_ms, j.duration_ms, j.error_code, j.created_at, j.ended_at, j.consumer_id,
  j.provider_id, j.digest`;
const FROM = `FROM jobs j LEFT JOIN nodes n ON n.id = j.node_id LEFT JOIN LATERAL (
  SELECT sum(a.cost_micro) AS cost_micro, sum(a.fee_micro) AS fee_micro
  FROM attempts a WHERE a.job_id = j.id AND a.provider_id = $1 AND j.consumer_id <> $1) own ON true`;

export interface JobPage {
  role: "consumer" | "provider";
  state?: JobState | undefined;
  before?: string | undefined;
  limit: number;
}

export async function listJobs(pool: pg.Pool, userId: string, page: JobPage): Promise<Job[]> {
  const mine =
    page.role === "consumer"
      ? "j.consumer_id = $1"
      : `(j.provider_id = $1 OR j.id IN (
           SELECT job_id FROM attempts WHERE provider_id = $1 AND state <> 'completed' AND cost_micro > 0))`;
  const { rows } = await pool.query(
    `SELECT ${COLUMNS} ${FROM} WHERE ${mine} AND ($2::text IS NULL OR j.state = $2) AND ($3::text IS NULL OR j.id < $3)
     ORDER BY j.id DESC LIMIT $4`,
    [userId, page.state ?? null, page.before ?? null, page.limit],
  );
  return rows.map(toJob);
}

export interface SeenJob {
  job: Job;
  /** Of who looks. */
  role: "consumer" | "provider";
  /** Whose node ended it. */
  providerId: string | null;
  /** Of the model that answered; null where its engine told none. */
  digest: string | null;
}

/** Null where there is no such job; `forbidden` where it is none of the user's, whose role it otherwise tells. */
export async function getJob(
  pool: pg.Pool,
  id: string,
  userId: string,
): Promise<SeenJob | "forbidden" | null> {
  const { rows } = await pool.query(`SELECT ${COLUMNS} ${FROM} WHERE j.id = $2`, [userId, id]);
  const row = rows[0];
  if (!row) return null;
  const seen = { job: toJob(row), providerId: row.provider_id, digest: row.digest };
  if (row.consumer_id === userId) return { ...seen, role: "consumer" };
  const isProvider = row.provider_id === userId || BigInt(row.cost_micro) > 0n;
  return isProvider ? { ...seen, role: "provider" } : "forbidden";
}

export interface JobTotals {
  total: number;
  completed: number;
  tokens: number;
}

/** Counts everything: once at start, counted on from there. */
export async function jobTotals(pool: pg.Pool): Promise<JobTotals> {
  const query = {
    text: `SELECT count(*) AS total, count(*) FILTER (WHERE state = 'completed') AS completed,
       coalesce(sum((usage->>'output_tokens')::bigint), 0) AS tokens FROM jobs`,
    query_timeout: ALL_JOBS_TIMEOUT_MS,
  };
  const { rows } = await pool.query<Record<keyof JobTotals, string>>(query);
  const row = rows[0]!;
  return { total: Number(row.total), completed: Number(row.completed), tokens: Number(row.tokens) };
}

export interface Earnings {
  earnedMicro: bigint;
  jobsServed: number;
  byDay: { day: string; earnedMicro: bigint; jobs: number }[];
  byModel: { model: string; earnedMicro: bigint; jobs: number }[];
}

/** What a provider earned since a moment, after fees: also by answers that broke off, for what was delivered of them. */
export async function earnings(pool: pg.Pool, userId: string, since: Date): Promise<Earnings> {
  const grouped = (expression: string) =>
    pool.query<{ name: string; earned: string; jobs: string }>(
      `SELECT ${expression} AS name, sum(a.cost_micro - a.fee_micro) AS earned, count(DISTINCT j.id) AS jobs
       FROM attempts a JOIN jobs j ON j.id = a.job_id
       WHERE a.provider_id = $1 AND a.started_at >= $2 AND j.created_at >= $2 AND (a.state = 'completed' OR a.cost_micro > 0) GROUP BY 1 ORDER BY 1`,
      [userId, since],
    );
  const [byDay, byModel] = [
    await grouped("to_char(j.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"),
    await grouped("j.model"),
  ];
  return {
    earnedMicro: byModel.rows.reduce((sum, row) => sum + BigInt(row.earned), 0n),
    jobsServed: byModel.rows.reduce((sum, row) => sum + Number(row.jobs), 0),
    byDay: byDay.rows.map((row) => ({
      day: row.name,
      earnedMicro: BigInt(row.earned),
      jobs: Number(row.jobs),
    })),
    byModel: byModel.rows.map((row) => ({
      model: row.name,
      earnedMicro: BigInt(row.earned),
      jobs: Number(row.jobs),
    })),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
function toJob(row: any): Job {
  return {
    id: row.id,
    state: row.state,
    kind: row.kind,
    model: row.model,
    node_id: row.node_id,
    node_name: row.node_name,
    usage: row.usage,
    held_micro: row.held_micro,
    cost_micro: row.cost_micro,
    fee_micro: row.fee_micro,
    quote: {
      // Jobs from before these parts were billed as if they were so.
      per_million_cached_input: row.quote.per_million_input,
      minimum: "0",
      discount_percent: 0,
      cap_micro: row.held_micro,
      ...row.quote,
    },
    priority: row.priority,
    queued_ms: row.queued_ms,
    ttft_ms: row.ttft_ms,
    duration_ms: row.duration_ms,
    error_code: row.error_code,
    created_at: row.created_at.toISOString(),
    ended_at: row.ended_at?.toISOString() ?? null,
  };
}
