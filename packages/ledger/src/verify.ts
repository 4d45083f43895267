import type pg from "pg";
import type { Verdict } from "./types.ts";

/** Each check counts its violations: zero is sound. */
const CHECKS: { name: string; sql: string }[] = [
  {
    name: "the sum of all balances is zero",
    sql: `SELECT coalesce(sum(amount), 0) AS violations FROM (
            SELECT posted AS amount FROM ledger_accounts WHERE kind <> 'system'
            UNION ALL SELECT t.amount FROM ledger_transfers t JOIN ledger_accounts a ON a.id = t.credit WHERE a.kind = 'system'
            UNION ALL SELECT -t.amount FROM ledger_transfers t JOIN ledger_accounts a ON a.id = t.debit WHERE a.kind = 'system'
          ) b`,
  },
  {
    name: "every balance is the sum of its transfers",
    sql: `SELECT count(*) AS violations FROM ledger_accounts a LEFT JOIN (
            SELECT account, sum(amount) AS amount FROM (
              SELECT credit AS account, amount FROM ledger_transfers UNION ALL SELECT debit, -amount FROM ledger_transfers
            ) e GROUP BY account
          ) s ON s.account = a.id WHERE a.kind <> 'system' AND a.posted <> coalesce(s.amount, 0)`,
  },
  {
    name: "no consumer account is below zero or holds more than it has",
    sql: "SELECT count(*) AS violations FROM ledger_accounts WHERE kind = 'consumer' AND (posted < 0 OR posted < held)",
  },
  {
    name: "what an account holds is the sum of its open holds",
    sql: `SELECT count(*) AS violations FROM ledger_accounts a LEFT JOIN (
            SELECT account, sum(amount) AS amount FROM ledger_holds WHERE state = 'open' GROUP BY account
          ) h ON h.account = a.id WHERE a.held <> coalesce(h.amount, 0)`,
  },
  {
    name: "a settled hold paid what its transfers say, and never more than was held",
    sql: `SELECT count(*) AS violations FROM ledger_holds h LEFT JOIN (
            SELECT hold_id, sum(amount) AS amount FROM ledger_transfers WHERE hold_id IS NOT NULL GROUP BY hold_id
          ) t ON t.hold_id = h.id
          WHERE h.settled <> coalesce(t.amount, 0) OR h.settled > h.amount OR (h.state <> 'settled' AND h.settled <> 0)`,
  },
  {
    name: "every resolved hold says when, every open one does not",
    sql: "SELECT count(*) AS violations FROM ledger_holds WHERE (state = 'open') <> (resolved_at IS NULL)",
  },
  {
    name: "every transfer and every hold names accounts that exist",
    sql: `SELECT count(*) AS violations FROM (
            SELECT debit AS account FROM ledger_transfers UNION SELECT credit FROM ledger_transfers UNION SELECT account FROM ledger_holds
          ) e WHERE NOT EXISTS (SELECT 1 FROM ledger_accounts a WHERE a.id = e.account)`,
  },
  {
    name: "what a budget holds is the sum of its open holds",
    sql: `SELECT count(*) AS violations FROM ledger_budgets b LEFT JOIN (
            SELECT budget, sum(amount) AS amount FROM ledger_holds WHERE state = 'open' AND budget IS NOT NULL GROUP BY budget
          ) h ON h.budget = b.id WHERE b.held <> coalesce(h.amount, 0)`,
  },
];

/** For one check: each reads a whole table, however large. */
const CHECK_TIMEOUT_MS = 10 * 60_000;

/** Recomputes the invariants from the rows, in one snapshot, so that running traffic cannot make a false alarm. */
export async function verifyLedger(pool: pg.Pool): Promise<Verdict> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    const checks: Verdict["checks"] = [];
    for (const { name, sql } of CHECKS) {
      const query = { text: sql, query_timeout: CHECK_TIMEOUT_MS };
      const { rows } = await client.query<{ violations: string }>(query);
      const violations = BigInt(rows[0]!.violations);
      checks.push({
        name,
        ok: violations === 0n,
        detail: violations === 0n ? "holds" : `off by or in ${violations}`,
      });
    }
    await client.query("COMMIT");
    client.release();
    return { ok: checks.every(({ ok }) => ok), checks };
  } catch (error) {
    client.release(true); // its end undoes what it began
    throw error;
  }
}
