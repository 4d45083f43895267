/**
 * What a consumer's dispute may count in a node's reputation, and the rows of disputes.
 *
 *   weight = ½ (1 − said) · min(1, 0.1 / share)
 *   said   = Σ weight · 2^(−age / 7 d)           of this consumer's earlier disputes of this node
 *   share  = (1 + disputes) / (10 + jobs)        of this consumer, over 30 days
 *
 * The sum runs over the same consumer's disputes of the same node, whatever the model: each takes half of what is left of
 * 1, so whatever one consumer does, what it said of a node never weighs more than 1, in a part that one unit lowers by
 * 1 in 11 at most (score.ts). Who disputes more than every tenth job counts less in proportion. Half-life as the score's,
 * so that influence comes back as fast as what it did fades; the rest of the numbers is ours.
 */
import type { Dispute, DisputeReason } from "@gfe/protocol";
import { GfeError } from "@gfe/protocol";
import type pg from "pg";
import { HALF_LIFE_MS } from "./score.ts";

/** How long after its end a job can be disputed. */
export const DISPUTE_HOURS = 24;
const SHARE_DAYS = 30;
const SHARE_FAIR = 0.1;
const SHARE_PRIOR_JOBS = 10;
/** More jobs than this make nobody more credible. */
const JOBS_COUNTED_MAX = 10_000;

export interface DisputeHistory {
  /** Weights of the consumer's earlier disputes of this node, decayed. */
  said: number;
  /** The consumer's disputes and completed jobs, of all nodes. */
  disputes: number;
  jobs: number;
}

export function disputeWeight({ said, disputes, jobs }: DisputeHistory): number {
  const share = (1 + disputes) / (SHARE_PRIOR_JOBS + jobs);
  return 0.5 * Math.max(0, 1 - said) * Math.min(1, SHARE_FAIR / share);
}

export interface NewDispute {
  jobId: string;
  consumerId: string;
  providerId: string;
  nodeId: string;
  model: string;
  reason: DisputeReason;
  note: string | null;
}

/**
 * Throws conflict where the job is disputed already, and rate_limited where another dispute of this consumer's is being
 * weighed: one sees what the other said, or is not taken.
 */
export async function addDispute(pool: pg.Pool, dispute: NewDispute): Promise<Dispute> {
  const client = await pool.connect();
  let row: unknown;
  try {
    await client.query("BEGIN");
    const { rows: turn } = await client.query<{ mine: boolean }>(
      "SELECT pg_try_advisory_xact_lock(hashtextextended('dispute:' || $1, 0)) AS mine",
      [dispute.consumerId],
    );
    if (!turn[0]!.mine) {
      await client.query("ROLLBACK");
      throw new GfeError("rate_limited", "Dispute one job after the other", { retryAfterS: 1 });
    }
    const weight = disputeWeight(await historyOf(client, dispute));
    const { rows } = await client.query(
      `INSERT INTO disputes (job_id, consumer_id, provider_id, node_id, model, reason, note, weight)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (job_id) DO NOTHING RETURNING *`,
      [
        ...[dispute.jobId, dispute.consumerId, dispute.providerId, dispute.nodeId],
        ...[dispute.model, dispute.reason, dispute.note, weight],
      ],
    );
    await client.query("COMMIT");
    row = rows[0];
    client.release();
  } catch (error) {
    client.release(!(error instanceof GfeError)); // what broke takes its SQL transaction with it
    throw error;
  }
  if (row === undefined) throw new GfeError("conflict", "This job is disputed already");
  return toDispute(row);
}

async function historyOf(client: pg.PoolClient, { consumerId, nodeId }: NewDispute): Promise<DisputeHistory> {
  const { rows } = await client.query<DisputeHistory>(
    `SELECT
       (SELECT coalesce(sum(weight * power(2, -extract(epoch FROM now() - created_at) * 1000 / $3)), 0)::double precision
        FROM disputes WHERE consumer_id = $1 AND node_id = $2) AS said,
       (SELECT count(*)::int FROM disputes
        WHERE consumer_id = $1 AND created_at > now() - make_interval(days => $4)) AS disputes,
       (SELECT count(*)::int FROM (
          SELECT FROM jobs WHERE consumer_id = $1 AND state = 'completed'
            AND created_at > now() - make_interval(days => $4) LIMIT $5) AS done) AS jobs`,
    [consumerId, nodeId, HALF_LIFE_MS, SHARE_DAYS, JOBS_COUNTED_MAX],
  );
  return rows[0]!;
}

export interface DisputePage {
  role: "consumer" | "provider";
  before?: string | undefined;
  limit: number;
}

/** Of the jobs that an account asked for, or that its nodes served; the newest job first. */
export async function listDisputes(pool: pg.Pool, userId: string, page: DisputePage): Promise<Dispute[]> {
  const column = page.role === "provider" ? "provider_id" : "consumer_id";
  const { rows } = await pool.query(
    `SELECT * FROM disputes WHERE ${column} = $1 AND ($2::text IS NULL OR job_id < $2) ORDER BY job_id DESC LIMIT $3`,
    [userId, page.before ?? null, page.limit],
  );
  return rows.map(toDispute);
}

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
function toDispute(row: any): Dispute {
  return {
    job_id: row.job_id,
    node_id: row.node_id,
    model: row.model,
    reason: row.reason,
    note: row.note,
    weight: row.weight,
    created_at: row.created_at.toISOString(),
  };
}
