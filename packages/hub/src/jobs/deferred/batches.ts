/**
 * Batches, in OpenAI's sense: a file of requests, each of which becomes a deferred job, and files of what came of them.
 *
 *   validating ──lines added──► in_progress ──last line ended──► finalizing ──files written──► completed | expired
 *       └──a line is malformed──► failed                             │
 *   validating | in_progress ──cancel──► cancelling ──…──────────────┴──────────────────────► cancelled
 */
import { GfeError, newId } from "@gfe/protocol";
import type pg from "pg";
import type { JobKind, Payer } from "../types.ts";
import { findFile } from "./files.ts";
import { WINDOW_HOURS } from "./store.ts";

/** Batches of one account that have not ended: each has a copy of its file's lines. */
export const BATCHES_OPEN_MAX = 10;
/** How long an ended batch is listed. */
export const BATCH_DAYS = 30;

export const BATCH_ENDPOINTS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] as const;
export type BatchEndpoint = (typeof BATCH_ENDPOINTS)[number];
export const kindOfEndpoint: Record<BatchEndpoint, JobKind> = {
  "/v1/chat/completions": "chat",
  "/v1/completions": "completion",
  "/v1/embeddings": "embedding",
};

export type BatchState =
  | "validating"
  | "in_progress"
  | "finalizing"
  | "completed"
  | "failed"
  | "expired"
  | "cancelling"
  | "cancelled";

/** What is wrong with a file. */
export interface BatchFault {
  code: string;
  message: string;
  /** Counted from 1. */
  line: number | null;
  param: string | null;
}

export interface Batch {
  id: string;
  userId: string;
  endpoint: BatchEndpoint;
  inputFileId: string;
  completionWindow: string;
  metadata: Record<string, string> | null;
  state: BatchState;
  total: number;
  completed: number;
  failed: number;
  outputFileId: string | null;
  errorFileId: string | null;
  errors: BatchFault[];
  createdAt: Date;
  expiresAt: Date;
  inProgressAt: Date | null;
  cancellingAt: Date | null;
  finalizingAt: Date | null;
  endedAt: Date | null;
}

/** Counts of a batch that runs come from its lines, those of an ended one from its row. */
const COLUMNS = `b.*,
  coalesce(b.completed, (SELECT count(*) FROM deferred_jobs d WHERE d.batch_id = b.id AND d.state = 'completed')) AS completed_now,
  coalesce(b.failed, (SELECT count(*) FROM deferred_jobs d WHERE d.batch_id = b.id AND d.state = 'failed')) AS failed_now`;

export interface NewBatch {
  payer: Payer;
  endpoint: BatchEndpoint;
  inputFileId: string;
  completionWindow: string;
  metadata: Record<string, string> | null;
}

/** Throws not_found where the account has no such file, conflict where it has too many open batches. */
export async function createBatch(pool: pg.Pool, batch: NewBatch): Promise<Batch> {
  const { userId } = batch.payer;
  const file = await findFile(pool, userId, batch.inputFileId);
  if (!file)
    throw new GfeError("not_found", `There is no such file: ${batch.inputFileId}`, {
      param: "input_file_id",
    });
  if (file.purpose !== "batch")
    throw new GfeError("invalid_request", "input_file_id: its purpose is not batch", {
      param: "input_file_id",
    });
  const { rows } = await pool.query(
    `INSERT INTO batches AS b (id, user_id, payer, endpoint, input_file_id, completion_window, metadata, expires_at)
     SELECT $1, $2, $3, $4, $5, $6, $7, now() + interval '${WINDOW_HOURS} hours'
     WHERE (SELECT count(*) FROM batches WHERE user_id = $2 AND ended_at IS NULL) < ${BATCHES_OPEN_MAX}
     RETURNING b.*, 0 AS completed_now, 0 AS failed_now`,
    [
      ...[newId("batch"), userId, JSON.stringify(batch.payer)],
      ...[batch.endpoint, batch.inputFileId, batch.completionWindow],
      batch.metadata === null ? null : JSON.stringify(batch.metadata),
    ],
  );
  if (!rows[0]) throw new GfeError("conflict", `An account has at most ${BATCHES_OPEN_MAX} open batches`);
  return toBatch(rows[0]);
}

/** Null where this account has none of that name. */
export async function findBatch(pool: pg.Pool, userId: string, id: string): Promise<Batch | null> {
  const { rows } = await pool.query(`SELECT ${COLUMNS} FROM batches b WHERE b.id = $1 AND b.user_id = $2`, [
    id,
    userId,
  ]);
  return rows[0] ? toBatch(rows[0]) : null;
}

/** Newest first. */
export async function listBatches(
  pool: pg.Pool,
  userId: string,
  page: { after?: string | undefined; limit: number },
): Promise<Batch[]> {
  const { rows } = await pool.query(
    `SELECT ${COLUMNS} FROM batches b WHERE b.user_id = $1 AND ($2::text IS NULL OR b.id < $2) ORDER BY b.id DESC LIMIT $3`,
    [userId, page.after ?? null, page.limit],
  );
  return rows.map(toBatch);
}

/** Lines that wait, for their turn or for a slot, are not run any more; those that run may end. Throws not_found, or conflict where it has ended. */
export async function cancelBatch(pool: pg.Pool, userId: string, id: string): Promise<Batch> {
  await pool.query(
    `UPDATE batches SET state = 'cancelling', cancelling_at = now()
     WHERE id = $1 AND user_id = $2 AND state IN ('validating', 'in_progress')`,
    [id, userId],
  );
  await cancelLines(pool);
  const batch = await findBatch(pool, userId, id);
  if (!batch) throw new GfeError("not_found", `There is no such batch: ${id}`);
  if (batch.cancellingAt === null)
    throw new GfeError("conflict", `The batch is ${batch.state}: it cannot be cancelled any more`);
  return batch;
}

export async function hasOpenBatches(pool: pg.Pool): Promise<boolean> {
  const { rows } = await pool.query("SELECT FROM batches WHERE ended_at IS NULL LIMIT 1");
  return rows.length > 0;
}

/** Ends the waiting lines of cancelled batches, also those that came back from a node that failed. */
export async function cancelLines(pool: pg.Pool): Promise<void> {
  await pool.query(
    `UPDATE deferred_jobs SET state = 'cancelled', body = NULL, ended_at = now()
     WHERE id IN (SELECT id FROM deferred_jobs WHERE state = 'queued'
       AND lane IN (SELECT id FROM batches WHERE state = 'cancelling' AND ended_at IS NULL) FOR UPDATE SKIP LOCKED)`,
  );
}

/** Which of these batches were cancelled. */
export async function cancelledOf(pool: pg.Pool, ids: readonly string[]): Promise<ReadonlySet<string>> {
  const { rows } = await pool.query<{ id: string }>(
    "SELECT id FROM batches WHERE id = ANY ($1) AND state = 'cancelling'",
    [[...new Set(ids)]],
  );
  return new Set(rows.map(({ id }) => id));
}

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
function toBatch(row: any): Batch {
  return {
    id: row.id,
    userId: row.user_id,
    endpoint: row.endpoint,
    inputFileId: row.input_file_id,
    completionWindow: row.completion_window,
    metadata: row.metadata === null ? null : JSON.parse(row.metadata),
    state: row.state,
    total: row.total,
    completed: Number(row.completed_now),
    failed: Number(row.failed_now),
    outputFileId: row.output_file_id,
    errorFileId: row.error_file_id,
    errors: row.errors === null ? [] : JSON.parse(row.errors),
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    inProgressAt: row.in_progress_at,
    cancellingAt: row.cancelling_at,
    finalizingAt: row.finalizing_at,
    endedAt: row.ended_at,
  };
}
