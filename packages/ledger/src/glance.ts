import type pg from "pg";

/** What is cheap to know of the books: indexed reads and one pass over the accounts, not over all transfers. */
export interface Glance {
  /** The sum of all balances in micro-credits; other than zero is credits made or lost. */
  imbalanceMicro: bigint;
  /** Consumer accounts that are below zero or hold more than they have. */
  overdrawn: number;
  /** Holds that are open `OVERDUE_S` after their expiry. */
  overdueHolds: number;
}

/** Expiry itself comes some seconds late. */
const OVERDUE_S = 60;
const GLANCE_TIMEOUT_MS = 10_000;

/** One statement, so one moment: running traffic cannot make a false alarm. Throws where it takes too long. */
export async function glanceAtLedger(pool: pg.Pool): Promise<Glance> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query("BEGIN READ ONLY");
    await client.query(`SET LOCAL statement_timeout = ${GLANCE_TIMEOUT_MS}`);
    const { rows } = await client.query<Record<keyof Glance, string>>(SQL, [OVERDUE_S]);
    await client.query("COMMIT");
    const { imbalanceMicro, overdrawn, overdueHolds } = rows[0]!;
    return {
      imbalanceMicro: BigInt(imbalanceMicro),
      overdrawn: Number(overdrawn),
      overdueHolds: Number(overdueHolds),
    };
  } catch (error) {
    broken = error as Error;
    throw error;
  } finally {
    client.release(broken);
  }
}

/** System accounts keep no running balance: theirs is the sum of their transfers. */
const SQL = `
  WITH issued AS (
    SELECT coalesce(sum((SELECT sum(amount) FROM ledger_transfers WHERE credit = a.id)), 0)
         - coalesce(sum((SELECT sum(amount) FROM ledger_transfers WHERE debit = a.id)), 0) AS amount
    FROM ledger_accounts a WHERE kind = 'system'
  ), kept AS (
    SELECT coalesce(sum(posted), 0) AS amount,
           count(*) FILTER (WHERE kind = 'consumer' AND (posted < 0 OR posted < held)) AS overdrawn
    FROM ledger_accounts WHERE kind <> 'system'
  )
  SELECT (kept.amount + issued.amount)::text AS "imbalanceMicro", kept.overdrawn AS "overdrawn",
    (SELECT count(*) FROM ledger_holds WHERE state = 'open' AND expires_at < now() - make_interval(secs => $1)) AS "overdueHolds"
  FROM kept, issued`;
