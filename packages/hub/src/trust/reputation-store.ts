/** Reputation on disk: the log of events, and the snapshots of what they come to. */
import type pg from "pg";
import { type ReputationEvent, reputationFactSchema } from "./events.ts";
import { applyFact, COUNTERS_VERSION, type Counters, newCounters } from "./score.ts";

export const RETENTION_DAYS = 90;
/** Events that a recomputation reads at once. */
const PAGE = 5_000;
const DELETED_AT_ONCE = 10_000;

/** Counters by node, then by model. */
export type Book = Map<string, Map<string, Counters>>;

export function countersIn(book: Book, nodeId: string, model: string, atMs: number): Counters {
  const models = book.get(nodeId) ?? new Map<string, Counters>();
  book.set(nodeId, models);
  const counters = models.get(model) ?? newCounters(atMs);
  models.set(model, counters);
  return counters;
}

export interface Touched {
  nodeId: string;
  model: string;
  counters: Counters;
}

/** Events and the snapshots that include them, in one statement: both or neither. */
export async function saveReputation(
  pool: pg.Pool,
  events: readonly ReputationEvent[],
  touched: readonly Touched[],
): Promise<void> {
  const rows = events.map(({ nodeId, model, atMs, fact: { kind, ...detail } }) => ({
    node_id: nodeId,
    model,
    kind,
    at: new Date(atMs).toISOString(),
    detail,
  }));
  const snapshots = touched.map(({ nodeId, model, counters }) => ({
    node_id: nodeId,
    model,
    counters,
    updated_at: new Date(counters.atMs).toISOString(),
  }));
  await pool.query(
    `WITH logged AS (
       INSERT INTO reputation_events (node_id, model, kind, at, detail)
       SELECT node_id, model, kind, at, detail FROM jsonb_to_recordset($1::jsonb)
         AS r (node_id text, model text, kind text, at timestamptz, detail jsonb)
     )
     INSERT INTO reputation_snapshots (node_id, model, version, counters, updated_at)
     SELECT node_id, model, $3, counters, updated_at FROM jsonb_to_recordset($2::jsonb)
       AS r (node_id text, model text, counters jsonb, updated_at timestamptz)
     ON CONFLICT (node_id, model) DO UPDATE
       SET version = excluded.version, counters = excluded.counters, updated_at = excluded.updated_at`,
    [JSON.stringify(rows), JSON.stringify(snapshots), COUNTERS_VERSION],
  );
}

/** From the snapshots; from the log where any of them is of another version. */
export async function loadReputation(pool: pg.Pool): Promise<Book> {
  const { rows } = await pool.query<{ node_id: string; model: string; version: number; counters: Counters }>(
    "SELECT node_id, model, version, counters FROM reputation_snapshots",
  );
  if (rows.some(({ version }) => version !== COUNTERS_VERSION)) return recomputeReputation(pool);
  const book: Book = new Map();
  for (const { node_id: nodeId, model, counters } of rows) {
    const models = book.get(nodeId) ?? new Map<string, Counters>();
    book.set(nodeId, models.set(model, counters));
  }
  return book;
}

/** The same from the log alone: what it kept, in the order in which it was written. */
export async function recomputeReputation(pool: pg.Pool): Promise<Book> {
  const book: Book = new Map();
  for (let after = "0"; ; ) {
    const { rows } = await pool.query<{
      id: string;
      node_id: string;
      model: string;
      kind: string;
      at: Date;
      detail: object;
    }>(
      "SELECT id, node_id, model, kind, at, detail FROM reputation_events WHERE id > $1 ORDER BY id LIMIT $2",
      [after, PAGE],
    );
    for (const { node_id: nodeId, model, kind, at, detail } of rows) {
      const fact = reputationFactSchema.safeParse({ kind, ...detail });
      if (fact.success) applyFact(countersIn(book, nodeId, model, at.getTime()), fact.data, at.getTime());
    }
    if (rows.length < PAGE) return book;
    after = rows.at(-1)!.id;
  }
}

/** Deletes a bounded number of events and disputes that are past their time, and snapshots that nothing has touched since. */
export async function deleteOldReputation(pool: pg.Pool): Promise<void> {
  await pool.query(
    `DELETE FROM reputation_events WHERE id IN (
       SELECT id FROM reputation_events WHERE at < now() - make_interval(days => $1) ORDER BY at LIMIT $2)`,
    [RETENTION_DAYS, DELETED_AT_ONCE],
  );
  await pool.query(
    `DELETE FROM disputes WHERE job_id IN (
       SELECT job_id FROM disputes WHERE created_at < now() - make_interval(days => $1) ORDER BY created_at LIMIT $2)`,
    [RETENTION_DAYS, DELETED_AT_ONCE],
  );
  await pool.query("DELETE FROM reputation_snapshots WHERE updated_at < now() - make_interval(days => $1)", [
    RETENTION_DAYS,
  ]);
}

export interface EventCount {
  model: string;
  kind: string;
  reason: string | null;
  count: number;
}

/** How often what happened to a node in the last 7 days. */
export async function recentEvents(pool: pg.Pool, nodeId: string): Promise<EventCount[]> {
  const { rows } = await pool.query<EventCount>(
    `SELECT model, CASE WHEN kind = 'audit' AND (detail->>'pass')::boolean THEN 'audit_passed'
                        WHEN kind = 'audit' THEN 'audit_failed' ELSE kind END AS kind,
            detail->>'reason' AS reason, count(*)::int AS count
     FROM reputation_events WHERE node_id = $1 AND model <> '' AND at > now() - interval '7 days'
     GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 200`,
    [nodeId],
  );
  return rows;
}
