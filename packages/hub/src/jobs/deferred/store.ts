/** Deferred jobs in the database: how each gets from state to state (db/migrations/0021-deferred-jobs.sql draws it). */
import { GfeError, type JobState, newId } from "@gfe/protocol";
import type pg from "pg";
import type { JobKind, Payer, Priority } from "../types.ts";

/** How long a job may wait for being run, and a batch for its end. */
export const WINDOW_HOURS = 24;
/** How long the answer of a job can be fetched after its end. */
export const ANSWER_HOURS = 72;
/** Jobs of one account that wait, apart from its batches. */
export const WAITING_MAX = 1_000;
/** What these may take in the database. */
export const WAITING_BYTES_MAX = 256 * 1024 * 1024;

const ID_PREFIX = "djob";

export type DeferredState =
  | "queued"
  | "running"
  | "answered"
  | "completed"
  | "failed"
  | "cancelled"
  | "expired";

/** As it is kept of what went wrong. */
export interface KeptError {
  code: string;
  message: string;
  param?: string;
}

export interface DeferredJob {
  id: string;
  userId: string;
  kind: JobKind;
  model: string;
  priority: Priority;
  state: DeferredState;
  jobId: string | null;
  error: KeptError | null;
  createdAt: Date;
  endedAt: Date | null;
  /** Of one that waits: its place among its account's own, from 1. */
  position: number | null;
}

/** One taking of a job. It is over when the job ended or waits again, and is then heard no more. */
export interface Claim {
  id: string;
  /** Counts the takings of this job. */
  claims: number;
}

/** One that this hub has taken and must run. */
export interface ClaimedJob extends Claim {
  userId: string;
  payer: Payer;
  keyRevoked: boolean;
  lane: string;
  batchId: string | null;
  kind: JobKind;
  model: string;
  priority: Priority;
  body: string;
  runs: number;
  createdAt: Date;
}

export interface NewDeferredJob {
  payer: Payer;
  kind: JobKind;
  model: string;
  priority: Priority;
  body: object;
  /** Told of its end, in the same statement that adds the job. */
  webhook?: { id: string; url: string; events: readonly string[]; secret: string };
}

/** Throws conflict where the account has too many waiting. `nowMs`: by the clock of all jobs, whose ids are their order. */
export async function addDeferred(pool: pg.Pool, job: NewDeferredJob, nowMs: number): Promise<DeferredJob> {
  const id = newId(ID_PREFIX, nowMs);
  const { rows } = await pool.query(
    `WITH added AS (
       INSERT INTO deferred_jobs (id, user_id, payer, lane, kind, model, priority, body, expires_at)
       SELECT $1, $2, $3, 'account:' || $2, $4, $5, $6, $7, now() + interval '${WINDOW_HOURS} hours'
       WHERE (SELECT count(*) < ${WAITING_MAX} AND coalesce(sum(pg_column_size(body)), 0) < ${WAITING_BYTES_MAX}
              FROM deferred_jobs WHERE user_id = $2 AND batch_id IS NULL AND ended_at IS NULL)
       RETURNING *
     ), hook AS (
       INSERT INTO webhooks (id, user_id, url, events, secret, deferred_job_id)
       SELECT $8, user_id, $9, $10, $11, id FROM added WHERE $8::text IS NOT NULL
     ) SELECT * FROM added`,
    [
      ...[id, job.payer.userId, JSON.stringify(job.payer)],
      ...[job.kind, job.model, job.priority, JSON.stringify(job.body)],
      ...[job.webhook?.id ?? null, job.webhook?.url ?? null],
      ...[job.webhook?.events ?? null, job.webhook?.secret ?? null],
    ],
  );
  if (!rows[0])
    throw new GfeError(
      "conflict",
      `An account has at most ${WAITING_MAX} jobs of ${WAITING_BYTES_MAX} bytes waiting: let some end first`,
    );
  return toDeferred(rows[0]);
}

/** Null where this account has none of that name, or no longer. */
export async function findDeferred(pool: pg.Pool, userId: string, id: string): Promise<DeferredJob | null> {
  if (!id.startsWith(`${ID_PREFIX}_`)) return null; // other jobs are asked for by the same address
  const { rows } = await pool.query(
    `${PLACES} SELECT d.*, p.position FROM deferred_jobs d LEFT JOIN places p USING (id)
     WHERE d.id = $2 AND d.user_id = $1 AND d.batch_id IS NULL AND ${KEPT}`,
    [userId, id],
  );
  return rows[0] ? toDeferred(rows[0]) : null;
}

export interface UnansweredPage {
  state?: JobState | undefined;
  before?: string | undefined;
  limit: number;
  /** Those that have become ordinary jobs by now, and are listed as such. */
  except: readonly string[];
}

/** What an account submitted and no ordinary job tells of: it waits, or ended before it ran. The newest first. */
export async function listUnanswered(
  pool: pg.Pool,
  userId: string,
  { state, before, limit, except }: UnansweredPage,
): Promise<DeferredJob[]> {
  const states = state && Object.entries(STATES).flatMap(([name, seen]) => (seen === state ? [name] : []));
  const { rows } = await pool.query(
    `${PLACES} SELECT d.*, p.position FROM deferred_jobs d LEFT JOIN places p USING (id)
     WHERE d.user_id = $1 AND d.batch_id IS NULL AND d.job_id IS NULL AND ${KEPT} AND NOT d.id = ANY ($2)
       AND ($3::text[] IS NULL OR d.state = ANY ($3)) AND ($4::text IS NULL OR d.id < $4)
     ORDER BY d.id DESC LIMIT $5`,
    [userId, except, states ?? null, before ?? null, limit],
  );
  return rows.map(toDeferred);
}

/** As JSON; null before it is completed. */
export async function answerOf(pool: pg.Pool, id: string): Promise<string | null> {
  const { rows } = await pool.query<{ answer: string }>(
    "SELECT answer FROM deferred_jobs WHERE id = $1 AND state = 'completed'",
    [id],
  );
  return rows[0]?.answer ?? null;
}

/** How the public sees a state. */
export const STATES: Record<DeferredState, JobState> = {
  queued: "queued",
  running: "running",
  answered: "running",
  completed: "completed",
  failed: "failed",
  expired: "failed",
  cancelled: "cancelled",
};

/** Of the account $1: at most WAITING_MAX rows. */
const PLACES = `WITH places AS (
  SELECT id, row_number() OVER (ORDER BY seq)::int AS position FROM deferred_jobs
  WHERE lane = 'account:' || $1 AND state = 'queued')`;
const KEPT = `(ended_at IS NULL OR ended_at > now() - interval '${ANSWER_HOURS} hours')`;

export interface ClaimBounds {
  hubId: string;
  /** How many to take at most. */
  room: number;
  perLane: number;
  /** What this hub runs already, by lane and by account. */
  lanes: Record<string, number>;
  accounts: Record<string, number>;
  /** Lanes that are left alone for now. */
  resting: string[];
}

/**
 * Takes the next jobs: of each lane the oldest, and first of the accounts that have the least running. Walks from lane
 * to lane by the index, so that a lane with many waiting costs no more than one with few.
 */
export async function claim(pool: pg.Pool, bounds: ClaimBounds): Promise<ClaimedJob[]> {
  const { rows } = await pool.query(
    `WITH RECURSIVE lanes AS (
       (SELECT lane FROM deferred_jobs WHERE state = 'queued' ORDER BY lane LIMIT 1)
       UNION ALL
       SELECT (SELECT d.lane FROM deferred_jobs d WHERE d.state = 'queued' AND d.lane > lanes.lane ORDER BY d.lane LIMIT 1)
       FROM lanes WHERE lanes.lane IS NOT NULL
     ), heads AS (
       SELECT d.id, d.seq, d.user_id, row_number() OVER (PARTITION BY d.user_id ORDER BY d.seq) AS nth
       FROM lanes CROSS JOIN LATERAL (
         SELECT id, seq, user_id FROM deferred_jobs
         WHERE lane = lanes.lane AND state = 'queued' AND not_before <= now() AND expires_at > now()
         ORDER BY seq LIMIT greatest(0, $3 - coalesce(($4::jsonb ->> lanes.lane)::integer, 0))
       ) d
       WHERE NOT lanes.lane = ANY ($6::text[])
     ), chosen AS (
       SELECT id FROM heads ORDER BY nth + coalesce(($5::jsonb ->> user_id)::integer, 0), seq LIMIT $2
     ), locked AS (
       SELECT id FROM deferred_jobs WHERE id IN (SELECT id FROM chosen) AND state = 'queued' FOR UPDATE SKIP LOCKED
     )
     UPDATE deferred_jobs d SET state = 'running', hub_id = $1, claims = claims + 1 FROM locked WHERE d.id = locked.id
     RETURNING d.*, EXISTS (SELECT FROM api_keys k WHERE k.id = d.payer::jsonb ->> 'keyId' AND k.revoked_at IS NOT NULL) AS key_revoked`,
    [
      ...[bounds.hubId, bounds.room, bounds.perLane],
      ...[JSON.stringify(bounds.lanes), JSON.stringify(bounds.accounts), bounds.resting],
    ],
  );
  return rows.map((row) => ({
    id: row.id,
    claims: row.claims,
    userId: row.user_id,
    payer: JSON.parse(row.payer),
    keyRevoked: row.key_revoked,
    lane: row.lane,
    batchId: row.batch_id,
    kind: row.kind,
    model: row.model,
    priority: row.priority,
    body: row.body,
    runs: row.runs,
    createdAt: row.created_at,
  }));
}

const VALID = "id = $1 AND claims = $2 AND state IN ('running', 'answered')";

/**
 * Puts an answer in safety before it is paid: whatever dies afterwards, nobody pays for an answer that is lost. False
 * where the claim is over: another hub runs the job or has, so this answer must not be paid.
 */
export async function keepAnswer(
  pool: pg.Pool,
  { id, claims }: Claim,
  jobId: string,
  answer: string,
): Promise<boolean> {
  const { rowCount } = await pool.query(
    `UPDATE deferred_jobs SET state = 'answered', job_id = $3, answer = $4 WHERE ${VALID}`,
    [id, claims, jobId, answer],
  );
  return rowCount === 1;
}

export interface Ending {
  state: "completed" | "failed" | "cancelled" | "expired";
  jobId?: string;
  error?: KeptError;
}

/** Once; where the claim is over the job stays as it is. `answer`, where it could not be kept before. */
export async function finish(
  pool: pg.Pool,
  { id, claims }: Claim,
  { state, error, jobId }: Ending,
  answer: string | null = null,
): Promise<void> {
  await pool.query(ended(VALID, "$3", "$4", "$5", "$6"), [
    ...[id, claims, state, error ? JSON.stringify(error) : null, jobId ?? null, answer],
  ]);
}

/** Back among those that wait, unless the claim is over. `counted`: it was tried, and may be a few times only. */
export async function putBack(
  pool: pg.Pool,
  { id, claims }: Claim,
  delayMs: number,
  counted: boolean,
): Promise<void> {
  await pool.query(
    `UPDATE deferred_jobs SET state = 'queued', hub_id = NULL, job_id = NULL, answer = NULL, runs = runs + $4,
       not_before = now() + $3 * interval '1 millisecond' WHERE ${VALID}`,
    [id, claims, delayMs, counted ? 1 : 0],
  );
}

/** What waited too long. */
export async function expireWaiting(pool: pg.Pool): Promise<void> {
  const late =
    "SELECT id FROM deferred_jobs WHERE state = 'queued' AND expires_at <= now() FOR UPDATE SKIP LOCKED";
  const error: KeptError = { code: "total_timeout", message: `Nobody ran it within ${WINDOW_HOURS} hours` };
  await pool.query(ended(`id IN (${late})`, "'expired'", "$1"), [JSON.stringify(error)]);
}

/** Ends one that waits; false where it does not wait any more. */
export async function cancelWaiting(pool: pg.Pool, id: string): Promise<boolean> {
  const { rowCount } = await pool.query(ended("id = $1 AND state = 'queued'", "'cancelled'", "NULL"), [id]);
  return rowCount === 1;
}

/** Leaves word for the hub that runs it, which looks now and then. */
export async function askToCancel(pool: pg.Pool, id: string): Promise<void> {
  await pool.query("UPDATE deferred_jobs SET cancel_asked = true WHERE id = $1 AND ended_at IS NULL", [id]);
}

/** Which of these somebody asked another hub to cancel. */
export async function askedToCancel(pool: pg.Pool, ids: readonly string[]): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    "SELECT id FROM deferred_jobs WHERE id = ANY ($1) AND cancel_asked",
    [ids],
  );
  return rows.map(({ id }) => id);
}

/** The one way in which a job ends: its prompt goes, and who wants to hear of it will. */
function ended(where: string, state: string, error: string, jobId = "NULL", answer = "NULL"): string {
  return `WITH ended AS (
      UPDATE deferred_jobs SET state = ${state}, error = ${error}, job_id = coalesce(${jobId}, job_id), body = NULL, ended_at = now(),
        answer = CASE WHEN ${state} = 'completed' THEN coalesce(${answer}, answer) END
      WHERE ${where} RETURNING id, user_id, batch_id, CASE state WHEN 'expired' THEN 'failed' ELSE state END AS told
    ) SELECT CASE WHEN batch_id IS NULL THEN webhook_enqueue(user_id, 'job.' || told, id, told) END FROM ended`;
}

/**
 * What a hub had taken and does not run (it died, or could not write): answers that were paid are completed, the
 * rest waits again. Its old hold is resolved by then: voided, or with the jobs of a hub that starts or was found dead.
 */
export async function recover(pool: pg.Pool, hubId: string, running: string[]): Promise<number> {
  const mine = "d.hub_id = $1 AND d.state IN ('running', 'answered') AND NOT d.id = ANY ($2)";
  const paid = await pool.query<Claim>(
    `SELECT d.id, d.claims FROM deferred_jobs d JOIN jobs j ON j.id = d.job_id WHERE ${mine} AND d.state = 'answered' AND j.state = 'completed'`,
    [hubId, running],
  );
  for (const claim of paid.rows) await finish(pool, claim, { state: "completed" });
  const { rowCount } = await pool.query(
    `UPDATE deferred_jobs d SET state = 'queued', hub_id = NULL, job_id = NULL, answer = NULL WHERE ${mine}
       AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = d.job_id AND j.state IN ('running', 'completed'))`,
    [hubId, running],
  );
  return paid.rows.length + (rowCount ?? 0);
}

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
function toDeferred(row: any): DeferredJob {
  return {
    id: row.id,
    userId: row.user_id,
    kind: row.kind,
    model: row.model,
    priority: row.priority,
    state: row.state,
    jobId: row.job_id,
    error: row.error === null ? null : JSON.parse(row.error),
    createdAt: row.created_at,
    endedAt: row.ended_at,
    position: row.position ?? null,
  };
}
