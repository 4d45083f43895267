/** A past for a ledger: settled holds with a payment and a fee each, and the balances that follow from them. */
import { statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import type pg from "pg";
import { CONSUMERS, FEE, HELD, PAID, PROVIDERS } from "./books.ts";

const CHUNK = 250_000;
/** Of a transfer with its indexes and its share of a hold, rounded up; the log of writes comes to as much again. */
const BYTES_PER_TRANSFER = 1_000;
/** Space that must stay free on the disk. */
const SPARE_BYTES = 4 * 1024 ** 3;

/** Adds so many transfers. Throws where the disk has no room for them. */
export async function addHistory(pool: pg.Pool, transfers: number): Promise<void> {
  const { bavail, bsize } = statfsSync(tmpdir());
  if (bavail * bsize < transfers * BYTES_PER_TRANSFER + SPARE_BYTES)
    throw new Error(
      `${transfers} transfers need ${Math.ceil((transfers * BYTES_PER_TRANSFER) / 1e9)} GB of disk`,
    );
  const jobs = Math.ceil(transfers / 2);
  for (let from = 0; from < jobs; from += CHUNK) {
    const to = Math.min(jobs, from + CHUNK) - 1;
    await pool.query(
      `WITH past AS MATERIALIZED (
         SELECT 'past-' || lpad(n::text, 9, '0') AS id, 'c' || (n::bigint * 7919) % ${CONSUMERS} AS consumer,
           'p' || (n::bigint * 104729) % ${PROVIDERS} AS provider FROM generate_series($1::int, $2::int) AS n
       ), held AS (
         INSERT INTO ledger_holds (id, account, amount, state, settled, expires_at, resolved_at)
         SELECT id, consumer, ${HELD}, 'settled', ${PAID + FEE}, now(), now() FROM past
       )
       INSERT INTO ledger_transfers (id, debit, credit, amount, code, reference, hold_id)
       SELECT id || part, consumer, CASE part WHEN ':pay' THEN provider ELSE 'fees' END,
         CASE part WHEN ':pay' THEN ${PAID} ELSE ${FEE} END, CASE part WHEN ':pay' THEN 'inference' ELSE 'fee' END, id, id
       FROM past, unnest(ARRAY[':pay', ':fee']) AS part`,
      [from, to],
    );
  }
  await pool.query(
    `UPDATE ledger_accounts a SET posted =
       (SELECT coalesce(sum(amount), 0) FROM ledger_transfers WHERE credit = a.id)
       - (SELECT coalesce(sum(amount), 0) FROM ledger_transfers WHERE debit = a.id)
     WHERE kind <> 'system'`,
  );
  // As a server that has run for so long would have done by itself.
  await pool.query("VACUUM ANALYZE");
  await pool.query("CHECKPOINT");
}
